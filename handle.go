package perdure

import (
	"context"
	"fmt"
)

// Handle is a reference to one turn of a task. It can be made again at any time, in any process, with
// [Func.Attach]. Its methods may be called concurrently.
type Handle[Out any] struct {
	c Client
	a Accepted
}

// Result is how a turn ended for its own caller.
type Result[Out any] struct {
	Output     Out    // of a turn that completed or suspended
	Status     Status // the turn's outcome
	Reason     string // of Suspend, a cancel, a terminate or a refusal
	Detail     string // the error with which the handler wrapped up, where that is not the outcome
	Superseded bool   // a newer input was waiting when the turn ended
	TaskID     string
	InputID    string
	Turn       int64
}

// TaskID returns the ID of the task.
func (h *Handle[Out]) TaskID() string { return h.a.TaskID }

// InputID returns the ID of the input.
func (h *Handle[Out]) InputID() string { return h.a.InputID }

// Turn returns the number of the turn.
func (h *Handle[Out]) Turn() int64 { return h.a.Turn }

// Queued reports whether the input was queued behind a running turn when it was accepted.
func (h *Handle[Out]) Queued() bool { return h.a.Queued }

// Attached reports whether the handle is of a turn that another input began.
func (h *Handle[Out]) Attached() bool { return h.a.Attached }

// Known reports whether the input ID had been accepted before.
func (h *Handle[Out]) Known() bool { return h.a.Known }

// StreamAfter returns a number after which all events of the turn come, for [Handle.Events]; 0, the beginning of
// the stream, if that is not known: of a handle that did not add an input.
func (h *Handle[Out]) StreamAfter() int64 { return h.a.StreamAfter }

func (h *Handle[Out]) query() TurnQuery {
	return TurnQuery{TaskID: h.a.TaskID, Incarnation: h.a.Incarnation, Turn: h.a.Turn, watch: h.a.watch}
}

// Result waits until the turn has ended and returns its outcome, which is stored (T2). It may be called
// again, long after the end. The error is nil when the turn completed or suspended; otherwise a
// *TaskError, an *OutcomeError (ErrCancelled, ErrTerminated, ErrRefused), a *ParkedError, ErrDeleted,
// ErrNotFound, ErrShuttingDown, or ctx's own. The Result is filled in beside a *TaskError and an *OutcomeError.
func (h *Handle[Out]) Result(ctx context.Context) (Result[Out], error) {
	o, err := h.c.Outcome(ctx, h.query())
	if err != nil {
		return Result[Out]{}, fmt.Errorf("result of task %s: %w", h.a.TaskID, err)
	}
	r := Result[Out]{Status: o.Status, Reason: o.Reason, Detail: o.Detail, Superseded: o.Superseded, TaskID: o.TaskID, InputID: o.InputID, Turn: o.Turn}
	if err := o.Err(); err != nil {
		return r, err
	}
	if err := unmarshal(o.Output, &r.Output); err != nil {
		return r, fmt.Errorf("decode output of task %s: %w", h.a.TaskID, err)
	}
	return r, nil
}

// Info returns the task as it is now. Errors: ErrNotFound; ErrDeleted if it was made anew since.
func (h *Handle[Out]) Info(ctx context.Context) (*Info, error) {
	info, err := h.c.Task(ctx, h.a.TaskID)
	if err == nil && h.a.Incarnation != 0 && info.Incarnation != h.a.Incarnation {
		return nil, fmt.Errorf("task %s: %w", h.a.TaskID, ErrDeleted)
	}
	return info, err
}

// Cancel asks this turn, and no other, to stop (C3, G3). It does nothing when the turn has ended.
func (h *Handle[Out]) Cancel(ctx context.Context, reason string) error {
	_, err := h.c.Cancel(ctx, h.a.TaskID, &CancelOptions{Turn: h.a.Turn, Incarnation: h.a.Incarnation, Reason: reason})
	return err
}

// Terminate ends the whole task by force (C4). Errors: ErrDeleted when it has been deleted since.
func (h *Handle[Out]) Terminate(ctx context.Context, reason string) error {
	_, err := h.c.Terminate(ctx, h.a.TaskID, &TerminateOptions{Incarnation: h.a.Incarnation, Reason: reason})
	return err
}

// Delete removes the whole task (C6).
func (h *Handle[Out]) Delete(ctx context.Context) error {
	return h.c.Delete(ctx, h.a.TaskID, &DeleteOptions{Incarnation: h.a.Incarnation})
}
