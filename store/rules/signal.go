package rules

import (
	"fmt"
	"strconv"
	"time"

	"github.com/perdure/perdure/store"
)

// Signal cancels, terminates or resumes a task.
func Signal(rows Rows, now time.Time, req *store.SignalRequest) (*store.Signalled, error) {
	if err := req.Valid(); err != nil {
		return nil, err
	}
	op := fmt.Sprintf("%s %d %d %s", req.Kind, req.Incarnation, req.Turn, req.InputID)
	return once(rows, now, &Request{Task: req.TaskID, ID: req.RequestID, Op: op}, func() (*store.Signalled, error) {
		return signal(rows, now, req)
	})
}

func signal(rows Rows, now time.Time, req *store.SignalRequest) (*store.Signalled, error) {
	t, err := find(rows, now, req.TaskID, req.Incarnation)
	if err != nil {
		return nil, err
	}
	held, news := leaseOf(t), store.MailKind("")
	s := &store.Signalled{Incarnation: t.Incarnation, Epoch: t.Epoch}
	switch req.Kind {
	case store.Resume:
		err = unpark(t, s)
	case store.Terminate:
		news, err = terminate(rows, t, now, req, s)
	default:
		news, err = cancel(rows, t, now, req, s)
	}
	if err == nil && s.Changed {
		err = update(rows, t, now)
	}
	if err == nil && news != "" {
		err = mail(rows, held, t, req.Worker, news, req.Reason)
	}
	if err != nil {
		return nil, err
	}
	s.Status, s.Version, s.Behind, s.Due = t.Status, t.Version, t.Queued, t.Due
	return s, nil
}

// find returns a task that is there, of the incarnation asked for.
func find(rows Rows, now time.Time, id string, incarnation int64) (*store.Task, error) {
	t, err := rows.TaskByID(id)
	if err != nil {
		return nil, err
	}
	return t, Visible(t, now, incarnation)
}

// terminate ends the task whatever its turn does (C4, C7).
func terminate(rows Rows, t *store.Task, now time.Time, req *store.SignalRequest, s *store.Signalled) (store.MailKind, error) {
	if t.Status.Terminal() {
		return "", nil
	}
	s.Changed = true
	return store.MailTerminated, stop(rows, t, now, req.Reason, s, store.Terminated, store.Refused)
}

// stop ends the current turn, what is queued, and the task.
func stop(rows Rows, t *store.Task, now time.Time, reason string, s *store.Signalled, outcome, queued store.Status) error {
	if !t.Turn.Ended {
		if _, err := endCurrent(rows, t, now, ending{outcome: outcome, reason: reason}); err != nil {
			return err
		}
		s.Ended = append(s.Ended, t.Turn.Number)
	}
	ended, err := endQueue(rows, t, now, queued, reason)
	if err != nil {
		return err
	}
	s.Ended = append(s.Ended, ended...)
	finish(t, now, outcome, reason)
	return nil
}

// cancel asks the running turn to stop and ends at once what has not been entered (C3).
func cancel(rows Rows, t *store.Task, now time.Time, req *store.SignalRequest, s *store.Signalled) (store.MailKind, error) {
	number, err := cancelled(rows, t, req)
	switch {
	case err != nil:
		return "", err
	case t.Status.Terminal():
		return "", nil
	case number > t.Turn.Number:
		return cancelQueued(rows, t, now, number, req, s)
	case number != 0 && (number < t.Turn.Number || t.Turn.Ended):
		return "", nil
	case number == 0 && (t.Status == store.Suspended || t.Status == store.Parked):
		s.Changed = true
		return "", stop(rows, t, now, req.Reason, s, store.Cancelled, store.Cancelled)
	}
	if number == 0 {
		ended, err := endQueue(rows, t, now, store.Cancelled, req.Reason)
		if err != nil {
			return "", err
		}
		s.Ended = ended
		s.Changed = len(ended) > 0
	}
	return cancelCurrent(rows, t, now, req, s)
}

// cancelled returns the number of the turn that is to be cancelled; 0 means the task.
func cancelled(rows Rows, t *store.Task, req *store.SignalRequest) (number int64, err error) {
	number = req.Turn
	if req.InputID != "" {
		turn, err := rows.TurnByInput(t.Incarnation, req.InputID)
		if err != nil {
			return 0, err
		}
		if turn == nil {
			return 0, store.ErrNotFound
		}
		number = turn.Number
	}
	if number > t.LastTurn {
		return 0, store.ErrNotFound
	}
	return number, nil
}

func cancelQueued(rows Rows, t *store.Task, now time.Time, number int64, req *store.SignalRequest, s *store.Signalled) (store.MailKind, error) {
	turn, err := rows.Turn(t.Incarnation, number)
	if err != nil || turn == nil || turn.Status.Outcome() {
		return "", err
	}
	s.Changed = true
	s.Ended = []int64{number}
	return store.MailQueue, endQueued(rows, t, turn, now, store.Cancelled, req.Reason)
}

// cancelCurrent marks the current turn, for its handler to see, where a handler has begun it and can go on with it. Else
// it ends the turn.
func cancelCurrent(rows Rows, t *store.Task, now time.Time, req *store.SignalRequest, s *store.Signalled) (store.MailKind, error) {
	handled, err := handled(rows, t, now)
	if err != nil {
		return "", err
	}
	if handled {
		s.Marked = true
		switch {
		case t.Turn.Cancel && s.Changed: // what was queued since has ended
			return store.MailQueue, nil
		case t.Turn.Cancel:
			return "", nil
		}
		s.Changed = true
		t.Turn.Cancel, t.Turn.CancelReason = true, req.Reason
		return store.MailCancel, nil
	}
	s.Changed = true
	s.Ended = append(s.Ended, t.Turn.Number)
	if _, err := endCurrent(rows, t, now, ending{outcome: store.Cancelled, reason: req.Reason}); err != nil {
		return "", err
	}
	_, err = boundary(rows, t, now, afterStop(t, store.Cancelled, req.Reason))
	return "", err
}

// handled reports whether the current turn has a handler: one that runs, or one that has begun it and will be entered
// again now.
func handled(rows Rows, t *store.Task, now time.Time) (bool, error) {
	switch {
	case t.Worker != "":
		return true, nil
	case !t.Due || !started(t) || delayed(t):
		return false, nil
	}
	return rows.Served(t.Func, now)
}

// Delete removes a task (C6).
func Delete(rows Rows, now time.Time, req *store.DeleteRequest) (*store.Removed, error) {
	switch err := req.Valid(); err {
	case nil:
	case store.ErrNotFound:
		return &store.Removed{}, nil
	default:
		return nil, err
	}
	op := fmt.Sprintf("delete %d %d", req.Incarnation, req.Version)
	return once(rows, now, &Request{Task: req.TaskID, ID: req.RequestID, Op: op}, func() (*store.Removed, error) {
		return deleteTask(rows, now, req)
	})
}

func deleteTask(rows Rows, now time.Time, req *store.DeleteRequest) (*store.Removed, error) {
	t, err := find(rows, now, req.TaskID, req.Incarnation)
	if err == store.ErrNotFound || err == store.ErrDeleted {
		return &store.Removed{}, nil
	}
	if err != nil {
		return nil, err
	}
	if req.Version != 0 && req.Version != t.Version {
		return nil, &store.PreconditionError{TaskID: t.ID, Actual: strconv.FormatInt(t.Version, 10)}
	}
	if err := mail(rows, leaseOf(t), t, req.Worker, store.MailDeleted, ""); err != nil {
		return nil, err
	}
	return &store.Removed{Incarnation: t.Incarnation}, remove(rows, t.Incarnation)
}

// remove makes a task absent at once; what it has beside its row is left to sweeps.
func remove(rows Rows, incarnation int64) error {
	if err := rows.DeleteTask(incarnation); err != nil {
		return err
	}
	return rows.Abandon(incarnation)
}
