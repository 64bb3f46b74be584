package rules

import (
	"strconv"
	"time"

	"github.com/perdure/perdure/store"
)

// Signal cancels, terminates or resumes a task.
func Signal(rows Rows, now time.Time, req *store.SignalRequest) (*store.Signalled, error) {
	t, err := find(rows, now, req.TaskID, req.Incarnation)
	if err != nil {
		return nil, err
	}
	s := &store.Signalled{Incarnation: t.Incarnation, Epoch: t.Epoch}
	switch req.Kind {
	case store.Resume:
		err = unpark(t, now, s)
	case store.Terminate:
		err = terminate(rows, t, now, req, s)
	default:
		err = cancel(rows, t, now, req, s)
	}
	if err != nil {
		return nil, err
	}
	if s.Changed {
		if err := update(rows, t, now); err != nil {
			return nil, err
		}
	}
	s.Status, s.Version, s.Behind, s.Due = t.Status, t.Version, t.Queued, !t.DueAt.IsZero()
	return s, nil
}

// find returns a task that is there, of the incarnation asked for.
func find(rows Rows, now time.Time, id string, incarnation int64) (*store.Task, error) {
	t, err := rows.TaskByID(id)
	if err != nil {
		return nil, err
	}
	if t == nil || expired(t, now) || incarnation != 0 && t.Incarnation != incarnation {
		if incarnation != 0 {
			return nil, store.ErrDeleted
		}
		return nil, store.ErrNotFound
	}
	return t, nil
}

func unpark(t *store.Task, now time.Time, s *store.Signalled) error {
	if t.Status != store.Parked {
		return &store.ConflictError{TaskID: t.ID, Status: t.Status}
	}
	wait(t, now, store.WaitCapacity)
	t.Reason = ""
	t.Suspect = false
	t.Turn.Recoveries, t.Turn.Streak, t.Turn.Entry = 0, 0, store.EntryRecovered
	s.Changed = true
	return nil
}

// terminate ends the task whatever its turn does (C4, C7).
func terminate(rows Rows, t *store.Task, now time.Time, req *store.SignalRequest, s *store.Signalled) error {
	if t.Status.Terminal() {
		return nil
	}
	s.Changed = true
	if err := mail(rows, t, req.Worker, store.MailTerminated, req.Reason); err != nil {
		return err
	}
	return stop(rows, t, now, req.Reason, s, store.Terminated, store.Refused)
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
func cancel(rows Rows, t *store.Task, now time.Time, req *store.SignalRequest, s *store.Signalled) error {
	number := req.Turn
	if req.InputID != "" {
		turn, err := rows.TurnByInput(t.Incarnation, req.InputID)
		if err != nil {
			return err
		}
		if turn == nil {
			return store.ErrNotFound
		}
		number = turn.Number
	}
	switch {
	case number > t.LastTurn:
		return store.ErrNotFound
	case t.Status.Terminal():
		return nil
	case number > t.Turn.Number:
		return cancelQueued(rows, t, now, number, req, s)
	case number != 0 && (number < t.Turn.Number || t.Turn.Ended):
		return nil
	case number == 0 && (t.Status == store.Suspended || t.Status == store.Parked):
		s.Changed = true
		return stop(rows, t, now, req.Reason, s, store.Cancelled, store.Cancelled)
	}
	if number == 0 {
		ended, err := endQueue(rows, t, now, store.Cancelled, req.Reason)
		if err != nil {
			return err
		}
		s.Ended = ended
		s.Changed = len(ended) > 0
	}
	return cancelCurrent(rows, t, now, req, s)
}

func cancelQueued(rows Rows, t *store.Task, now time.Time, number int64, req *store.SignalRequest, s *store.Signalled) error {
	turn, err := rows.Turn(t.Incarnation, number)
	if err != nil || turn == nil || turn.Status.Outcome() {
		return err
	}
	s.Changed = true
	s.Ended = []int64{number}
	if err := mail(rows, t, req.Worker, store.MailQueue, ""); err != nil {
		return err
	}
	return endQueued(rows, t, turn, now, store.Cancelled, req.Reason)
}

func cancelCurrent(rows Rows, t *store.Task, now time.Time, req *store.SignalRequest, s *store.Signalled) error {
	if t.Status == store.InProgress {
		s.Marked = true
		if t.Turn.Cancel {
			return nil
		}
		s.Changed = true
		t.Turn.Cancel, t.Turn.CancelReason = true, req.Reason
		return mail(rows, t, req.Worker, store.MailCancel, req.Reason)
	}
	s.Changed = true
	s.Ended = append(s.Ended, t.Turn.Number)
	if _, err := endCurrent(rows, t, now, ending{outcome: store.Cancelled, reason: req.Reason}); err != nil {
		return err
	}
	_, err := boundary(rows, t, now, afterStop(t, store.Cancelled, req.Reason))
	return err
}

// Delete removes a task (C6).
func Delete(rows Rows, now time.Time, req *store.DeleteRequest) error {
	t, err := find(rows, now, req.TaskID, req.Incarnation)
	if err == store.ErrNotFound || err == store.ErrDeleted {
		return nil
	}
	if err != nil {
		return err
	}
	if req.Version != 0 && req.Version != t.Version {
		return &store.PreconditionError{TaskID: t.ID, Actual: strconv.FormatInt(t.Version, 10)}
	}
	if err := mail(rows, t, req.Worker, store.MailDeleted, ""); err != nil {
		return err
	}
	return rows.DeleteTask(t.Incarnation)
}

// Sweep removes expired tasks, ends back-offs that are past their turn's deadline (C5), and trims streams (E5).
func Sweep(rows Rows, now time.Time, limit int) (*store.Swept, error) {
	s := &store.Swept{}
	tasks, err := rows.Expired(now, limit)
	if err != nil {
		return nil, err
	}
	for _, t := range tasks {
		if err := rows.DeleteTask(t.Incarnation); err != nil {
			return nil, err
		}
		s.Removed++
	}
	if tasks, err = rows.Overdue(now, limit); err != nil {
		return nil, err
	}
	for _, t := range tasks {
		if err := endLate(rows, t, now); err != nil {
			return nil, err
		}
		s.Ended++
	}
	if tasks, err = rows.Trimmable(now, limit); err != nil {
		return nil, err
	}
	for _, t := range tasks {
		if err := trimNow(rows, t, now); err != nil {
			return nil, err
		}
		if err := rows.UpdateTask(t); err != nil { // what nobody asked for makes no version
			return nil, err
		}
		s.Trimmed++
		s.More = s.More || !t.TrimAt.IsZero() && !t.TrimAt.After(now)
	}
	s.More = s.More || s.Removed == limit || s.Ended == limit || s.Trimmed == limit
	return s, nil
}
