package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/perdure/perdure/store"
)

// ask reads from the store, again and again while that does not answer and the caller is kept.
func ask[T any](ctx context.Context, e *Engine, read func(context.Context) (T, error)) (out T, err error) {
	err = e.repeat(ctx, patience, func(ctx context.Context) (err error) {
		out, err = read(ctx)
		return err
	})
	return out, err
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
func (e *Engine) Turns(ctx context.Context, q store.TurnsQuery) ([]*store.Turn, error) {
	turns, err := ask(ctx, e, func(ctx context.Context) ([]*store.Turn, error) { return e.store.Turns(ctx, q) })
	if err != nil {
		return nil, err
	}
	for i := range turns {
		if turns[i], err = e.unsealTurn(turns[i]); err != nil {
			return nil, err
		}
	}
	return turns, nil
}

// unsealTurn returns the turn with its payloads decoded, in a copy: the row may be shared.
func (e *Engine) unsealTurn(stored *store.Turn) (*store.Turn, error) {
	if e.cfg.Codec == nil {
		return stored, nil
	}
	turn := *stored
	var inErr, outErr error
	turn.Input, inErr = e.decode(place{input, turn.TaskID, ""}, turn.Input)
	turn.Output, outErr = e.decode(place{output, turn.TaskID, ""}, turn.Output)
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
		if t.Metadata[k], err = e.decode(place{metadata, id, k}, v); err != nil {
			return nil, fmt.Errorf("decode metadata %q of task %s: %w", k, id, err)
		}
	}
	return t, nil
}

// List reads a page of tasks.
func (e *Engine) List(ctx context.Context, q store.ListQuery) ([]*store.Task, error) {
	return ask(ctx, e, func(ctx context.Context) ([]*store.Task, error) { return e.store.List(ctx, q) })
}

// Workers reads the workers that are alive.
func (e *Engine) Workers(ctx context.Context) ([]*store.Worker, error) {
	return ask(ctx, e, e.store.Workers)
}

// Signal cancels, terminates or resumes a task, and brings that to a turn that runs here at once.
func (e *Engine) Signal(ctx context.Context, req *store.SignalRequest) (*store.Signalled, error) {
	req.Worker = e.WorkerID()
	var s *store.Signalled
	err := e.repeat(ctx, patience, func(ctx context.Context) (err error) {
		s, err = e.store.Signal(ctx, req)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s task %s: %w", req.Kind, req.TaskID, err)
	}
	e.brought(req, s)
	e.changed(s.Incarnation)
	if s.Due {
		wake(e.due)
	}
	return s, nil
}

func (e *Engine) brought(req *store.SignalRequest, s *store.Signalled) {
	e.tell(s.Incarnation, s.Epoch, func(a *Attempt) {
		a.behind(s.Behind, s.Version)
		if s.Marked {
			a.interrupt(Causes{Cancel: true, CancelReason: req.Reason})
		}
		if req.Kind == store.Terminate {
			a.lost(ErrTerminated)
		}
	})
}

// Delete removes a task and ends its turn if that runs here.
func (e *Engine) Delete(ctx context.Context, req *store.DeleteRequest) error {
	req.Worker = e.WorkerID()
	var t *store.Task
	err := e.repeat(ctx, patience, func(ctx context.Context) (err error) {
		if t == nil {
			if t, err = e.store.Get(ctx, req.TaskID); err != nil {
				return err
			}
			req.Incarnation = cmp.Or(req.Incarnation, t.Incarnation)
		}
		return e.store.Delete(ctx, req)
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("delete task %s: %w", req.TaskID, err)
	}
	if req.Incarnation == t.Incarnation {
		e.tell(t.Incarnation, anyEpoch, func(a *Attempt) { a.lost(ErrTerminated) })
		e.changed(t.Incarnation)
	}
	return nil
}
