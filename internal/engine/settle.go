package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/perdure/perdure/store"
)

// verdict decides what is written when the handler has returned.
func (a *Attempt) verdict(r report, s situation) *store.SettleRequest {
	req := decide(r, s)
	if req.Kind == store.SettleRelease && r.failure.own() {
		a.Logger().Warn("the turn is given back, so its handler's error is no outcome", "error", r.failure.message)
	}
	if req.Kind != store.SettleEnd {
		return req
	}
	changes, err := a.meta.snapshot()
	if err != nil {
		return failed(&failure{typ: typeEncode, message: errorText(err.Error())}, s)
	}
	req.Metadata, a.ending = changes.list, changes
	return req
}

// settle writes the end of an attempt until the result is known or the lease is gone (T1, T2). It returns the attempt
// of the next turn if that follows in its slot. One goroutine calls it for an attempt, once.
func (a *Attempt) settle(req *store.SettleRequest) *Attempt {
	req.Lease = a.life.lease
	a.pen.held <- struct{}{}
	defer func() { <-a.pen.held }()
	defer a.e.troubles.over(a)
	if !a.askToKeep(req) {
		return nil
	}
	if a.ending != nil && a.meta != nil { // a goroutine of the handler's may have written a checkpoint since
		req.Metadata = a.meta.unlessStored(a.ending)
	}
	contents := req.Kind == store.SettleEnd || req.Kind == store.SettleRetry
	s, err := a.send(req, !contents)
	var refused *store.ContentError
	if errors.As(err, &refused) {
		req = a.instead(req, refused)
		s, err = a.send(req, true)
	}
	if err != nil {
		a.unwritten(req, err)
		return nil
	}
	return a.written(req, s)
}

// askToKeep asks for the promoted turn's lease where that may follow in the slot. It reports false when the lease is
// gone already: then there is nothing to write.
func (a *Attempt) askToKeep(req *store.SettleRequest) bool {
	e := a.e
	e.mu.Lock()
	defer e.mu.Unlock()
	if req.Kind == store.SettleEnd && e.roster.keeps(a.life) {
		req.KeepLease, req.Request = true, e.roster.tickets.issue()
	}
	return a.life.phase.holds()
}

// send writes, after what was sent with an unknown result, the end of the attempt with what was emitted and is not
// written yet. A try that another one follows keeps neither: they would be taken back. An outcome that the store refuses
// is told at once, and tried again while the lease holds; insist says that this is so even if it is for its content.
func (a *Attempt) send(req *store.SettleRequest, insist bool) (*store.Settled, error) {
	events := a.emitter.collect()
	if req.Kind == store.SettleEnd {
		if err := a.writeRest(req); err != nil {
			return nil, err
		}
		req.Events = append(req.Events, events...)
	}
	m := manner{grace: lastWrites, failed: func(err error) { a.e.troubles.note(a, err) }}
	return repeat(a.worker.ctx, a.e, m, func(ctx context.Context) (*store.Settled, error) {
		s, err := a.e.store.Settle(ctx, req)
		if insist && isContent(err) {
			err = fmt.Errorf("refused again: %v", err)
		}
		return s, err
	})
}

// writeRest writes what was sent with an unknown result before the end. Events that are lost fail a turn that would end
// well: its handler was not told.
func (a *Attempt) writeRest(req *store.SettleRequest) error {
	err := a.pen.resend(a.worker.ctx, a)
	if err != nil && !isContent(err) {
		return err
	}
	if err != nil {
		a.emitter.fail(err)
	}
	loss := a.emitter.tellLoss()
	switch req.Outcome {
	case store.Failed, store.Cancelled, store.Terminated:
		if loss != nil {
			a.Logger().Error("what a turn emitted is lost", "error", loss)
		}
		return nil
	}
	return loss
}

func isContent(err error) bool {
	var content *store.ContentError
	return errors.As(err, &content)
}

// instead is what is written of a turn whose end the store will never hold.
func (a *Attempt) instead(req *store.SettleRequest, refused *store.ContentError) *store.SettleRequest {
	a.Logger().Error("the store refuses the content of the turn's end: the turn fails", "error", refused.Err)
	f := &failure{typ: typeUnstorable, message: errorText(refused.Error() + "; outputs, metadata and events that were not stored before are lost")}
	own := failed(f, situation{settings: a.task.Settings, attempt: a.task.Turn.Attempt})
	own.Lease, own.KeepLease, own.Request = req.Lease, req.KeepLease, req.Request
	return own
}

// unwritten notes that the end of the attempt will not be written from here: the lease is gone.
func (a *Attempt) unwritten(req *store.SettleRequest, err error) {
	e := a.e
	e.mu.Lock()
	e.answered(req.Request)
	e.mu.Unlock()
	a.refused()
	if !errors.Is(err, store.ErrLeaseLost) && a.worker.ctx.Err() == nil {
		a.Logger().Error("end of turn not written", "error", err)
	}
}

// written tells of what was written and moves on to the promoted turn.
func (a *Attempt) written(req *store.SettleRequest, s *store.Settled) *Attempt {
	e := a.e
	e.stats.countEnd(req, s)
	var next *Attempt
	if s.Entry != nil {
		next = e.newAttempt(a.worker, s.Entry)
	}
	if s.Ended != nil {
		s.Ended.TaskID = a.task.ID
		a.news.resolve(s.Ended)
	}
	e.mu.Lock()
	before, worth := a.life.phase, dead
	if next != nil {
		worth = e.roster.pass(a.life, next.life)
		next.surplus = worth == surplus
		e.hearEarly(next)
	} else {
		e.roster.advance(a.life, written)
	}
	now := a.life.phase
	e.answered(req.Request)
	e.mu.Unlock()
	a.follow(before, now, ErrTerminated)
	e.changed(a.life.lease.Incarnation)
	if s.Due {
		e.bells.due.ring()
	}
	if next != nil && worth == dead {
		next.drop()
		return nil
	}
	return next
}
