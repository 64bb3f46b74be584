package rules

import (
	"time"

	"github.com/perdure/perdure/store"
)

// Checkpoint writes events and, with Commit, metadata and the commit mark (M1, E2).
func Checkpoint(rows Rows, now time.Time, req *store.CheckpointRequest) (*store.Checkpointed, error) {
	if err := req.Valid(); err != nil {
		return nil, err
	}
	t, err := rows.Task(req.Lease.Incarnation)
	if err != nil {
		return nil, err
	}
	if !holds(t, req.Lease) {
		return nil, store.ErrLeaseLost
	}
	if req.Number <= t.Turn.Checkpoint {
		return &store.Checkpointed{LastEvent: t.LastEvent}, nil
	}
	if err := appendEvents(rows, t, now, req.Events, req.KeepEvents); err != nil {
		return nil, err
	}
	t.Turn.Checkpoint = req.Number
	if req.Commit {
		t.Mark = t.LastEvent
		alive(t)
		if err := setMetadata(rows, t, req.Metadata); err != nil {
			return nil, err
		}
	}
	return &store.Checkpointed{LastEvent: t.LastEvent}, update(rows, t, now)
}

func setMetadata(rows Rows, t *store.Task, changes []store.Change) error {
	if len(changes) == 0 {
		return nil
	}
	return rows.SetMetadata(t.Incarnation, changes)
}

// appendEvents numbers and writes events. The first write of an epoch takes back, or keeps, the events
// of the try before that no checkpoint had committed.
func appendEvents(rows Rows, t *store.Task, now time.Time, data [][]byte, keep bool) error {
	var events []store.Event
	add := func(e store.Event) {
		t.LastEvent++
		e.Number, e.Turn, e.Attempt, e.Epoch, e.At = t.LastEvent, t.Turn.Number, t.Turn.Attempt, t.Epoch, now
		events = append(events, e)
	}
	if t.EventEpoch != t.Epoch && t.LastEvent > t.Mark {
		if !keep {
			add(store.Event{Kind: store.EventRewind, To: t.Mark})
		}
		t.Mark = t.LastEvent
	}
	t.EventEpoch = t.Epoch
	for _, d := range data {
		add(store.Event{Kind: store.EventMessage, Data: d})
	}
	if len(events) == 0 {
		return nil
	}
	t.LastEmitted = t.LastEvent
	scheduleTrim(t, now)
	return rows.AppendEvents(t.Incarnation, events)
}

// Settle ends a try.
func Settle(rows Rows, now time.Time, req *store.SettleRequest) (*store.Settled, error) {
	if err := req.Valid(); err != nil {
		return nil, err
	}
	t, err := rows.Task(req.Lease.Incarnation)
	if err != nil {
		return nil, err
	}
	if !holds(t, req.Lease) {
		return recogniseSettle(rows, t, req)
	}
	if err := appendEvents(rows, t, now, req.Events, false); err != nil {
		return nil, err
	}
	t.SettledEpoch = req.Lease.Epoch
	s := &store.Settled{}
	switch req.Kind {
	case store.SettleEnd:
		err = settleEnd(rows, t, now, req, s)
	case store.SettleRetry:
		err = settleRetry(rows, t, now, req, s)
	case store.SettleRelease:
		err = settleRelease(rows, t, now, req.Release, s)
	case store.SettlePark:
		park(t, req.Reason)
	}
	if err != nil {
		return nil, err
	}
	if err := update(rows, t, now); err != nil {
		return nil, err
	}
	return settleAnswer(rows, t, req, s)
}

func settleRelease(rows Rows, t *store.Task, now time.Time, why store.Release, s *store.Settled) error {
	switch lived := now.Sub(t.EnteredAt); why {
	case store.ReleaseAsked:
		recoverTurn(t, now, lived)
	case store.ReleaseStopped:
		releaseStopped(t, lived)
	case store.ReleaseDeclined:
		decline(t)
		if t.Turn.Cancel && !started(t) { // while it was leased: there is nothing to clean up (C3)
			return settleCancelled(rows, t, now, nil, s)
		}
	default:
		release(t)
	}
	return nil
}

// settleCancelled ends a turn cancelled that its handler will not be entered for.
func settleCancelled(rows Rows, t *store.Task, now time.Time, failure *store.TaskError, s *store.Settled) (err error) {
	reason := t.Turn.CancelReason
	if s.Ended, err = endCurrent(rows, t, now, ending{outcome: store.Cancelled, err: failure, reason: reason}); err != nil {
		return err
	}
	s.Refused, err = boundary(rows, t, now, afterStop(t, store.Cancelled, reason))
	return err
}

func settleEnd(rows Rows, t *store.Task, now time.Time, req *store.SettleRequest, s *store.Settled) (err error) {
	if req.IfQueued && t.Queued == 0 {
		release(t)
		return nil
	}
	if err := setMetadata(rows, t, req.Metadata); err != nil {
		return err
	}
	e := ending{outcome: req.Outcome, output: req.Output, err: req.Error, reason: req.Reason, detail: req.Detail}
	if s.Ended, err = endCurrent(rows, t, now, e); err != nil {
		return err
	}
	n := next{then: req.Then, refuse: req.Refuse, reason: req.Reason}
	if req.KeepLease {
		n.worker, n.request = req.Lease.Worker, req.Request
	}
	s.Refused, err = boundary(rows, t, now, n)
	return err
}

// settleRetry starts the back-off; a turn that was asked to cancel ends instead (Y2).
func settleRetry(rows Rows, t *store.Task, now time.Time, req *store.SettleRequest, s *store.Settled) error {
	if t.Turn.Cancel {
		return settleCancelled(rows, t, now, req.Error, s)
	}
	t.Turn.Attempt++
	t.Turn.Error = req.Error
	why := store.WaitRetry
	if req.Strict {
		why = store.WaitStrict
	}
	due := now.Add(req.Delay)
	if req.Delay <= 0 || t.Nudging > 0 && !req.Strict {
		due = time.Time{}
	}
	lineUp(t, due, why)
	return nil
}

// recogniseSettle answers a Settle that was applied before its answer was lost (O6).
func recogniseSettle(rows Rows, t *store.Task, req *store.SettleRequest) (*store.Settled, error) {
	if t == nil || t.SettledEpoch != req.Lease.Epoch {
		return nil, store.ErrLeaseLost
	}
	s := &store.Settled{}
	if req.Kind == store.SettleEnd || req.Kind == store.SettleRetry {
		turn, err := rows.LastEntered(t.Incarnation, t.LastTurn+1)
		if err != nil {
			return nil, err
		}
		if turn != nil && turn.Epoch == req.Lease.Epoch {
			s.Ended = turn
		}
	}
	return settleAnswer(rows, t, req, s)
}

// settleAnswer completes the answer with the state of the task, and with the promoted turn's lease while that
// is the caller's.
func settleAnswer(rows Rows, t *store.Task, req *store.SettleRequest, s *store.Settled) (*store.Settled, error) {
	s.Status, s.Due = t.Status, t.Due
	if s.Ended != nil {
		s.Ended.TaskID, s.Ended.TaskStatus = t.ID, t.Status
	}
	if !req.KeepLease || t.Status != store.InProgress || t.Worker != req.Lease.Worker || t.Request != req.Request {
		return s, nil
	}
	var err error
	s.Entry, err = entry(rows, t)
	return s, err
}
