package engine

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/perdure/perdure/store"
)

// Offer gives a task an input. The input must be valid JSON in req.Input, not yet encoded, and req.InputID
// must be set. When the turn is entered by this engine, its Attempt is returned to wait on.
func (e *Engine) Offer(ctx context.Context, req *store.OfferRequest) (*store.Offered, *Attempt, error) {
	if err := e.sealInput(req); err != nil {
		return nil, nil, err
	}
	w, s, err := e.admit(req)
	if err != nil {
		return nil, nil, err
	}
	var a *Attempt
	var tries atomic.Int64
	o, err := carry(ctx, e, func(ctx context.Context) (*store.Offered, error) {
		this := *req // one that was given up may still be read
		this.Repeat = tries.Add(1) > 1
		return e.store.Offer(ctx, &this)
	}, func(o *store.Offered, err error) { a = e.offered(w, s, req, o, err) })
	if err != nil {
		return nil, nil, fmt.Errorf("start task %s with input %s: %w", req.TaskID, req.InputID, err)
	}
	return o, a, nil
}

// offered acts on the answer to an offer. It returns the attempt of its turn if that runs here.
func (e *Engine) offered(w *registration, reserved *slot, req *store.OfferRequest, o *store.Offered, err error) *Attempt {
	if err != nil || o.Entry == nil {
		e.mu.Lock()
		reserved.free()
		e.answered(req.Request)
		e.mu.Unlock()
	}
	if err != nil {
		if !store.Definite(err) {
			e.bells.audit.ring() // the lease may have been given all the same
		}
		e.lookAfter(req.TaskID, err)
		return nil
	}
	var a *Attempt
	if o.Entry != nil {
		a = e.receive(w, o.Entry, reserved, req.Request)
	} else {
		a = e.find(o.Incarnation, o.Turn)
	}
	e.follow(o)
	return a
}

// OfferTx is Offer within a transaction of the caller's. It is tried once: whether it is tried again is for
// who can begin that transaction again. What it does is heard of, here too, when that has committed.
func (e *Engine) OfferTx(ctx context.Context, tx any, req *store.OfferRequest) (*store.Offered, error) {
	st, ok := e.store.(store.Transactional)
	if !ok {
		return nil, fmt.Errorf("%w: the store takes part in none", store.ErrTx)
	}
	if err := e.sealInput(req); err != nil {
		return nil, err
	}
	select {
	case <-e.leaving:
		return nil, ErrShuttingDown
	default:
	}
	o, err := st.OfferTx(ctx, tx, req)
	if err != nil {
		return nil, fmt.Errorf("start task %s with input %s: %w", req.TaskID, req.InputID, err)
	}
	return o, nil
}

// admit decides whether a lease is asked for, and if so reserves a slot for it. A task whose last handler is still
// inside is left to a claim.
func (e *Engine) admit(req *store.OfferRequest) (*registration, *slot, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.roster.state == draining || e.roster.state == stopped {
		return nil, nil, ErrShuttingDown
	}
	w := e.worker
	if w == nil {
		return nil, nil, nil
	}
	req.Worker = w.id
	if e.funcs[req.Func] == nil || e.roster.inside[req.TaskID] != nil {
		return w, nil, nil
	}
	s := e.roster.slots.reserve(req.Func)
	if s != nil {
		req.Lease, req.Request = true, e.roster.tickets.issue()
	}
	return w, s, nil
}

// follow acts on what an offer did to a turn that runs here, or tells the claim loop of one that could.
func (e *Engine) follow(o *store.Offered) {
	if o.Decision == store.Attached {
		return
	}
	e.tell(o.Incarnation, o.Epoch, func(a *Attempt) {
		a.queue.note(o.Behind, o.Version)
		if o.Steered {
			a.steered()
		}
	})
	if o.Due {
		e.bells.due.ring()
	}
	if len(o.Replaced) > 0 {
		e.changed(o.Incarnation)
	}
}

// find returns the attempt that runs here for a task, at the given turn (0: any), or nil.
func (e *Engine) find(incarnation, turn int64) *Attempt {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.roster.newest[incarnation]
	if l == nil || turn != 0 && l.of.task.Turn.Number != turn {
		return nil
	}
	return l.of
}
