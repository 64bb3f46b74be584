package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
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

// Turn reads one turn, as far as its payloads can be decoded, and names those that cannot.
func (e *Engine) Turn(ctx context.Context, q store.TurnQuery) (*store.Turn, []string, error) {
	turn, err := ask(ctx, e, func(ctx context.Context) (*store.Turn, error) { return e.store.Turn(ctx, q) })
	if err != nil {
		return nil, nil, err
	}
	shown, unreadable := e.showTurn(turn)
	return shown, unreadable, nil
}

// Turns reads a page of turns as Turn does, and names of each what cannot be decoded.
func (e *Engine) Turns(ctx context.Context, q store.TurnsQuery) (*store.TurnPage, [][]string, error) {
	page, err := ask(ctx, e, func(ctx context.Context) (*store.TurnPage, error) { return e.store.Turns(ctx, q) })
	if err != nil {
		return nil, nil, err
	}
	unreadable := make([][]string, len(page.Turns))
	for i := range page.Turns {
		page.Turns[i], unreadable[i] = e.showTurn(page.Turns[i])
	}
	return page, unreadable, nil
}

// showTurn returns a turn without the payloads that cannot be decoded, in a copy, and names these.
func (e *Engine) showTurn(stored *store.Turn) (*store.Turn, []string) {
	whole, err := e.unsealTurn(stored)
	if err == nil {
		return whole, nil
	}
	e.log.Warn("a turn is shown without what cannot be decoded", "task", stored.TaskID, "turn", stored.Number, "error", err)
	turn := *stored
	var unreadable []string
	for _, p := range []struct {
		kind    string
		payload *[]byte
	}{{ofInput, &turn.Input}, {ofOutput, &turn.Output}} {
		var err error
		if *p.payload, err = e.decode(place{p.kind, turn.TaskID, ""}, *p.payload); err != nil {
			*p.payload, unreadable = nil, append(unreadable, p.kind)
		}
	}
	return &turn, unreadable
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

// Get reads a task with its metadata, as far as that can be decoded, and names the keys of what cannot. A task that is
// parked for a missing key is still to be looked at.
func (e *Engine) Get(ctx context.Context, id string) (t *store.Task, unreadable []string, err error) {
	t, err = ask(ctx, e, func(ctx context.Context) (*store.Task, error) { return e.store.Get(ctx, id) })
	if err != nil {
		return nil, nil, err
	}
	for _, k := range slices.Sorted(maps.Keys(t.Metadata)) {
		v, err := e.decode(place{ofMetadata, id, k}, t.Metadata[k])
		if err == nil {
			t.Metadata[k] = v
			continue
		}
		e.log.Warn("a task is shown without metadata that cannot be decoded", "task", id, "key", k, "error", err)
		delete(t.Metadata, k)
		unreadable = append(unreadable, k)
	}
	return t, unreadable, nil
}

// List reads a page of tasks.
func (e *Engine) List(ctx context.Context, q store.ListQuery) (*store.TaskPage, error) {
	return ask(ctx, e, func(ctx context.Context) (*store.TaskPage, error) { return e.store.List(ctx, q) })
}

// Workers reads the workers that are alive.
func (e *Engine) Workers(ctx context.Context) ([]*store.Worker, error) {
	return ask(ctx, e, e.store.Workers)
}
