package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/perdure/perdure/store"
)

// How often a waiter looks at the store by itself: seldom where the store tells of others' writes.
const (
	waitPoll       = time.Second
	waitPollHinted = 10 * time.Second
)

// Await returns a turn once it has ended. a, if not nil, is the attempt that runs it here. Errors:
// store.ErrNotFound, store.ErrDeleted, ErrParked (with the turn), ErrShuttingDown when the engine has stopped before the
// turn ended, ctx's own.
func (e *Engine) Await(ctx context.Context, q store.TurnQuery, a *Attempt) (*store.Turn, error) {
	if a != nil {
		select {
		case <-a.news.done:
			if a.news.ended != nil {
				return e.unsealTurn(a.news.ended)
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	turn, err := e.lookup(ctx, q)
	if err != nil || turn.Status.Outcome() {
		return turn, err
	}
	q.Incarnation, q.Number = turn.Incarnation, turn.Number
	changed := e.hub.join(q.Incarnation)
	defer e.hub.leave(q.Incarnation, changed)
	poll := time.NewTimer(e.poll())
	defer poll.Stop()
	for {
		gone := e.over.Err() != nil // before it looks: what ended before that is seen
		turn, err := e.lookup(ctx, q)
		if err != nil || turn.Status.Outcome() {
			return turn, err
		}
		if gone {
			return nil, ErrShuttingDown
		}
		select {
		case <-changed:
		case <-poll.C:
		case <-e.over.Done():
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		poll.Reset(e.poll())
	}
}

// poll relies on the store's hints only while they come.
func (e *Engine) poll() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.hinted {
		return waitPollHinted
	}
	return waitPoll
}

// lookup reads a turn; one that is parked, or waits behind one that is, is an error beside it.
func (e *Engine) lookup(ctx context.Context, q store.TurnQuery) (*store.Turn, error) {
	q.Output = true
	turn, err := ask(ctx, e, func(ctx context.Context) (*store.Turn, error) { return e.store.Turn(ctx, q) })
	if err != nil {
		return nil, err
	}
	if turn.Parked > 0 {
		return turn, ErrParked
	}
	return e.unsealTurn(turn)
}

// Turn reads one turn, decoded.
func (e *Engine) Turn(ctx context.Context, q store.TurnQuery) (*store.Turn, error) {
	turn, err := ask(ctx, e, func(ctx context.Context) (*store.Turn, error) { return e.store.Turn(ctx, q) })
	if err != nil {
		return nil, err
	}
	return e.unsealTurn(turn)
}

// Turns reads a page of turns, decoded.
func (e *Engine) Turns(ctx context.Context, q store.TurnsQuery) (*store.TurnPage, error) {
	page, err := ask(ctx, e, func(ctx context.Context) (*store.TurnPage, error) { return e.store.Turns(ctx, q) })
	if err != nil {
		return nil, err
	}
	for i := range page.Turns {
		if page.Turns[i], err = e.unsealTurn(page.Turns[i]); err != nil {
			return nil, err
		}
	}
	return page, nil
}

// unsealTurn returns the turn with its payloads decoded, in a copy: the row may be shared.
func (e *Engine) unsealTurn(stored *store.Turn) (*store.Turn, error) {
	if e.cfg.Codec == nil {
		return stored, nil
	}
	turn := *stored
	var inErr, outErr error
	turn.Input, inErr = e.decode(place{ofInput, turn.TaskID, ""}, turn.Input)
	turn.Output, outErr = e.decode(place{ofOutput, turn.TaskID, ""}, turn.Output)
	if err := errors.Join(inErr, outErr); err != nil {
		return nil, fmt.Errorf("decode turn %d of task %s: %w", turn.Number, turn.TaskID, err)
	}
	return &turn, nil
}

// Get reads a task, its metadata decoded.
func (e *Engine) Get(ctx context.Context, id string) (*store.Task, error) {
	t, err := ask(ctx, e, func(ctx context.Context) (*store.Task, error) { return e.store.Get(ctx, id) })
	if err != nil {
		return nil, err
	}
	for k, v := range t.Metadata {
		if t.Metadata[k], err = e.decode(place{ofMetadata, id, k}, v); err != nil {
			return nil, fmt.Errorf("decode metadata %q of task %s: %w", k, id, err)
		}
	}
	return t, nil
}

// List reads a page of tasks.
func (e *Engine) List(ctx context.Context, q store.ListQuery) (*store.TaskPage, error) {
	return ask(ctx, e, func(ctx context.Context) (*store.TaskPage, error) { return e.store.List(ctx, q) })
}

// Workers reads the workers that are alive.
func (e *Engine) Workers(ctx context.Context) ([]*store.Worker, error) {
	return ask(ctx, e, e.store.Workers)
}
