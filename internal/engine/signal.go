package engine

import (
	"cmp"
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/perdure/perdure/store"
)

// newRequestID returns the ID by which a repeat of a signal or delete is recognised, made before the first try (O6).
func newRequestID() string { return uuid.Must(uuid.NewV7()).String() }

// Signal cancels, terminates or resumes a task, and brings that to a turn that runs here at once.
func (e *Engine) Signal(ctx context.Context, req *store.SignalRequest) (*store.Signalled, error) {
	own := *req
	own.Worker, own.RequestID = e.WorkerID(), cmp.Or(req.RequestID, newRequestID())
	s, err := carry(ctx, e, func(ctx context.Context) (*store.Signalled, error) {
		return e.store.Signal(ctx, &own)
	}, func(s *store.Signalled, err error) { e.signalled(&own, s, err) })
	if err != nil {
		return nil, fmt.Errorf("%s task %s: %w", req.Kind, req.TaskID, err)
	}
	return s, nil
}

// signalled acts on the answer to a signal.
func (e *Engine) signalled(req *store.SignalRequest, s *store.Signalled, err error) {
	if err != nil {
		e.lookAfter(req.TaskID, err)
		return
	}
	e.tell(s.Incarnation, s.Epoch, func(a *Attempt) {
		a.queue.note(s.Behind, s.Version)
		if s.Marked {
			a.cancelled(req.Reason)
		}
		if req.Kind == store.Terminate && s.Changed {
			a.lose(ErrTerminated)
		}
	})
	e.changed(s.Incarnation)
	if s.Due {
		e.bells.due.ring()
	}
}

// Delete removes a task and ends its turn if that runs here.
func (e *Engine) Delete(ctx context.Context, req *store.DeleteRequest) error {
	own := *req
	own.Worker, own.RequestID = e.WorkerID(), cmp.Or(req.RequestID, newRequestID())
	_, err := carry(ctx, e, func(ctx context.Context) (*store.Removed, error) {
		return e.store.Delete(ctx, &own)
	}, func(r *store.Removed, err error) {
		if err != nil || r.Incarnation == 0 {
			e.lookAfter(own.TaskID, err)
			return
		}
		e.tell(r.Incarnation, anyEpoch, func(a *Attempt) { a.lose(ErrTerminated) })
		e.changed(r.Incarnation)
	})
	if err != nil {
		return fmt.Errorf("delete task %s: %w", req.TaskID, err)
	}
	return nil
}
