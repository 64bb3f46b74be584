package rules

import (
	"time"

	"github.com/perdure/perdure/store"
)

// Offer decides rule S1.
func Offer(rows Rows, now time.Time, req *store.OfferRequest) (*store.Offered, error) {
	if err := req.Valid(); err != nil {
		return nil, err
	}
	t, err := rows.TaskByID(req.TaskID)
	if err != nil {
		return nil, err
	}
	if t == nil || expired(t, now) {
		return create(rows, now, req, t)
	}
	if req.Func != "" && t.Func != req.Func {
		return nil, &store.ConflictError{TaskID: t.ID, Status: t.Status, Func: t.Func}
	}
	known, err := rows.TurnByInput(t.Incarnation, req.InputID)
	if err != nil {
		return nil, err
	}
	if known != nil {
		return recognise(rows, t, known, req)
	}
	if req.IfLastInputID != "" && t.LastInputID != "" && t.LastInputID != req.IfLastInputID {
		return nil, &store.PreconditionError{TaskID: t.ID, Actual: t.LastInputID}
	}
	switch {
	case req.Attach:
		return attach(rows, t)
	case t.Status.Terminal() && t.Settings.Ephemeral:
		return create(rows, now, req, t)
	case t.Status == store.Suspended:
		return resume(rows, now, t, req)
	case t.Status.Terminal(), t.Status == store.Parked, !t.Settings.Steerable, req.Deliver == store.DeliverReject:
		return nil, &store.ConflictError{TaskID: t.ID, Status: t.Status}
	}
	return queue(rows, now, t, req)
}

// create makes the task, in the place of one that is past its time (old).
func create(rows Rows, now time.Time, req *store.OfferRequest, old *store.Task) (*store.Offered, error) {
	settings := req.Settings
	if settings == nil {
		var err error
		if settings, err = rows.Published(req.Func); err != nil {
			return nil, err
		}
		if settings == nil {
			return nil, store.ErrUnknownFunc
		}
	}
	if old != nil {
		if err := remove(rows, old.Incarnation); err != nil {
			return nil, err
		}
	}
	if req.Retry != nil {
		own := *settings
		own.Retry = *req.Retry
		settings = &own
	}
	t := &store.Task{
		ID: req.TaskID, Func: req.Func, Title: req.Title, Description: req.Description, Tags: req.Tags,
		Session: req.Session, Agent: req.Agent, Source: req.Source, Settings: *settings,
		FirstEvent: 1, CreatedAt: now,
	}
	leased, err := leases(rows, now, req)
	if err != nil {
		return nil, err
	}
	turn := accept(t, now, req)
	begin(t, turn)
	if leased {
		lease(t, now, req.Worker, req.Request)
	}
	if err := place(rows, t, now); err != nil {
		return nil, err
	}
	touch(t, now)
	if err := rows.InsertTask(t); err != nil {
		return nil, err
	}
	turn.Incarnation = t.Incarnation
	if err := rows.InsertTurn(turn); err != nil {
		return nil, err
	}
	o := offered(store.Created, t, turn)
	if leased {
		t.Metadata = map[string][]byte{}
		o.Entry = &store.Entry{Lease: leaseOf(t), Task: t, Input: req.Input}
	}
	return o, nil
}

// leases reports whether an offer is to be leased to its caller: the worker must be alive, because the
// tasks of a worker that has left or been reaped are not looked at again.
func leases(rows Rows, now time.Time, req *store.OfferRequest) (bool, error) {
	if !req.Lease {
		return false, nil
	}
	w, err := rows.Worker(req.Worker)
	return err == nil && w != nil && !lapsed(rows, w, now), err
}

// recognise answers for an input ID that was accepted before (S2). A running turn that the input steers is told of it
// once more: who accepted it may not have come to that.
func recognise(rows Rows, t *store.Task, known *store.Turn, req *store.OfferRequest) (*store.Offered, error) {
	if err := sameInput(known.Digest, req.Digests); err != nil {
		return nil, err
	}
	o := offered(store.Known, t, known)
	if o.TurnStatus == store.TurnQueued && nudges(known) {
		o.Steered = true
		if err := mail(rows, leaseOf(t), t, req.Worker, store.MailSteered, ""); err != nil {
			return nil, err
		}
	}
	ours := req.Repeat && t.Status == store.InProgress && t.Worker == req.Worker && t.Request == req.Request
	if req.Lease && ours && t.Turn.Number == known.Number {
		var err error
		o.Entry, err = entry(rows, t)
		return o, err
	}
	return o, nil
}

func sameInput(stored store.Digest, given []store.Digest) error {
	for _, d := range given {
		if d.Key != stored.Key {
			continue
		}
		if d.Sum != stored.Sum {
			return store.ErrInputMismatch
		}
		return nil
	}
	return store.ErrDigestKey
}

func attach(rows Rows, t *store.Task) (*store.Offered, error) {
	turn, err := rows.TurnByInput(t.Incarnation, t.Turn.InputID) // stores read it without its payloads
	if err != nil {
		return nil, err
	}
	return offered(store.Attached, t, turn), nil
}

func resume(rows Rows, now time.Time, t *store.Task, req *store.OfferRequest) (*store.Offered, error) {
	leased, err := leases(rows, now, req)
	if err != nil {
		return nil, err
	}
	turn := accept(t, now, req)
	begin(t, turn)
	if leased {
		lease(t, now, req.Worker, req.Request)
	}
	if err := rows.InsertTurn(turn); err != nil {
		return nil, err
	}
	if err := update(rows, t, now); err != nil {
		return nil, err
	}
	o := offered(store.Resumed, t, turn)
	if leased {
		o.Entry, err = entry(rows, t)
		return o, err
	}
	return o, nil
}

// queue puts an input behind the running turn, and nudges that turn unless told otherwise.
func queue(rows Rows, now time.Time, t *store.Task, req *store.OfferRequest) (*store.Offered, error) {
	if req.Deliver != store.DeliverReplace && t.Queued >= t.Settings.MaxPending {
		return nil, store.ErrQueueFull
	}
	var replaced []int64
	if req.Deliver == store.DeliverReplace {
		var err error
		if replaced, err = endQueue(rows, t, now, store.Refused, "replaced by a newer input"); err != nil {
			return nil, err
		}
	}
	turn := accept(t, now, req)
	t.Queued++
	steered := nudges(turn)
	if steered {
		t.Nudging++
		if t.Wait == store.WaitRetry {
			t.NotBefore = time.Time{}
		}
	}
	if err := rows.InsertTurn(turn); err != nil {
		return nil, err
	}
	if err := update(rows, t, now); err != nil {
		return nil, err
	}
	news := store.MailQueue
	if steered {
		news = store.MailSteered
	}
	if err := mail(rows, leaseOf(t), t, req.Worker, news, ""); err != nil {
		return nil, err
	}
	o := offered(store.Queued, t, turn)
	o.Steered, o.Replaced = steered, replaced
	return o, nil
}

// accept gives the input the next turn number.
func accept(t *store.Task, now time.Time, req *store.OfferRequest) *store.Turn {
	t.LastTurn++
	t.LastInputID = req.InputID
	turn := &store.Turn{
		TaskID: t.ID, Incarnation: t.Incarnation, Number: t.LastTurn, InputID: req.InputID,
		Status: store.TurnQueued, Deliver: req.Deliver, Input: req.Input, AcceptedAt: now,
	}
	if turn.Deliver == "" {
		turn.Deliver = store.DeliverInterrupt
	}
	if len(req.Digests) > 0 {
		turn.Digest = req.Digests[0]
	}
	return turn
}

func offered(d store.Decision, t *store.Task, turn *store.Turn) *store.Offered {
	return &store.Offered{
		Decision: d, TaskID: t.ID, Incarnation: t.Incarnation, Func: t.Func, Status: t.Status,
		Turn: turn.Number, InputID: turn.InputID, TurnStatus: TurnStatus(t, turn),
		Epoch: t.Epoch, Version: t.Version, Behind: t.Queued, LastEvent: t.LastEvent, Due: t.Due,
	}
}

// TurnStatus is a turn's status as its caller sees it: a row that has not ended takes it from its task.
func TurnStatus(t *store.Task, turn *store.Turn) store.Status {
	switch {
	case turn.Status.Outcome():
		return turn.Status
	case turn.Number > t.Turn.Number:
		return store.TurnQueued
	}
	return t.Status
}
