package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/perdure/perdure/store"
)

// Delays between tries of a store operation whose result is unknown, and how long a caller without a
// deadline of its own is kept.
const (
	firstBackoff = 10 * time.Millisecond
	maxBackoff   = time.Second
	patience     = 15 * time.Second
)

// Offer gives a task an input. The input must be valid JSON in req.Input, not yet encoded, and req.InputID
// must be set. When the turn is entered by this engine, its Attempt is returned to wait on.
func (e *Engine) Offer(ctx context.Context, req *store.OfferRequest) (*store.Offered, *Attempt, error) {
	if err := e.seal(req); err != nil {
		return nil, nil, err
	}
	w, err := e.admit(req)
	if err != nil {
		return nil, nil, err
	}
	o, err := e.offer(ctx, req)
	if err != nil {
		e.refund(req, err)
		return nil, nil, fmt.Errorf("start task %s with input %s: %w", req.TaskID, req.InputID, err)
	}
	var a *Attempt
	if o.Entry != nil {
		a = e.enter(w, o.Entry, req.Request)
	} else {
		e.refund(req, nil)
		a = e.find(o.Incarnation, o.Turn)
	}
	e.follow(o)
	return o, a, nil
}

// OfferTx is Offer within a transaction of the caller's. It is tried once: whether it is tried again is for
// who can begin that transaction again. What it does is heard of, here too, when that has committed.
func (e *Engine) OfferTx(ctx context.Context, tx any, req *store.OfferRequest) (*store.Offered, error) {
	st, ok := e.store.(store.Transactional)
	if !ok {
		return nil, fmt.Errorf("%w: the store takes part in none", store.ErrTx)
	}
	if err := e.seal(req); err != nil {
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

// seal digests and encodes the input.
func (e *Engine) seal(req *store.OfferRequest) (err error) {
	canonical, err := canonicalJSON(req.Input)
	if err != nil {
		return err
	}
	if e.cfg.Codec != nil {
		req.Digests = e.cfg.Codec.Digests(canonical)
	} else {
		req.Digests = []store.Digest{digest(canonical)}
	}
	req.Input, err = e.encode(place{input, req.TaskID, ""}, req.Input)
	return err
}

// admit decides whether a lease is asked for, and if so takes a slot for it.
func (e *Engine) admit(req *store.OfferRequest) (*worker, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.state == draining || e.state == stopped {
		return nil, ErrShuttingDown
	}
	w := e.worker
	if w == nil {
		return nil, nil
	}
	req.Worker = w.id
	fn := e.funcs[req.Func]
	if fn == nil || e.stuck[req.TaskID] > 0 {
		return w, nil
	}
	if e.waiting[fn.Name] || e.room(fn) == 0 {
		e.waiting[fn.Name] = true
		return w, nil
	}
	e.requests++
	req.Lease, req.Request = true, e.requests
	e.inflight[req.Request] = true
	e.reserved++
	e.busy[fn.Name]++
	return w, nil
}

// room returns how many more turns of fn may run here. e.mu is held.
func (e *Engine) room(fn *Func) int {
	n := e.cfg.MaxRunning - len(e.running) - e.reserved
	if fn.MaxRunning > 0 {
		n = min(n, fn.MaxRunning-e.busy[fn.Name])
	}
	return max(n, 0)
}

// refund gives back the slot of an offer that was not given a lease. When the result is unknown, the
// lease may have been given all the same: the audit finds it.
func (e *Engine) refund(req *store.OfferRequest, err error) {
	if !req.Lease {
		return
	}
	e.mu.Lock()
	e.reserved--
	e.free(req.Func)
	e.answered(req.Request)
	e.mu.Unlock()
	if err != nil && !store.Definite(err) {
		wake(e.audit)
	}
}

// free gives back a func's slot. e.mu is held.
func (e *Engine) free(fn string) {
	if e.busy[fn]--; e.busy[fn] <= 0 {
		delete(e.busy, fn)
	}
	if len(e.waiting) > 0 {
		wake(e.due)
	}
}

// answered notes that an operation that could give a lease is over. e.mu is held.
func (e *Engine) answered(request int64) {
	delete(e.inflight, request)
	e.dropNews()
	e.settleDown()
}

func (e *Engine) offer(ctx context.Context, req *store.OfferRequest) (*store.Offered, error) {
	var o *store.Offered
	try := *req
	err := e.repeat(ctx, patience, func(ctx context.Context) (err error) {
		this := try // a call that was given up may still be read
		o, err = e.store.Offer(ctx, &this)
		try.Repeat = true
		return err
	})
	return o, err
}

// follow acts on what an offer did to a turn that runs here, or tells the claim loop of one that could.
// An input that is known because an earlier try of the same call was applied is news too (O6).
func (e *Engine) follow(o *store.Offered) {
	if o.Decision == store.Attached {
		return
	}
	e.tell(o.Incarnation, o.Epoch, func(a *Attempt) {
		a.behind(o.Behind, o.Version)
		a.interrupt(Causes{Steered: o.Steered})
	})
	if o.Due {
		wake(e.due)
	}
	if len(o.Replaced) > 0 {
		e.changed(o.Incarnation)
	}
}

// find returns the attempt that runs here for a task, at the given turn (0: any), or nil.
func (e *Engine) find(incarnation, turn int64) *Attempt {
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.running[incarnation]
	if a == nil || turn != 0 && a.task.Turn.Number != turn {
		return nil
	}
	return a
}

// repeat runs op until its result is known: it succeeded or was refused. One try may take no longer than
// a lease, after which its result counts as unknown. repeat gives up when ctx ends, or after the given
// time when that is not zero, with ErrUnavailable.
func (e *Engine) repeat(ctx context.Context, atMost time.Duration, op func(context.Context) error) error {
	begin := time.Now()
	delay := firstBackoff
	for {
		err := e.bounded(ctx, op)
		if err == nil || store.Definite(err) {
			return err
		}
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		if atMost > 0 && time.Since(begin) >= atMost {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		if !pause(ctx, delay) {
			return context.Cause(ctx)
		}
		delay = min(2*delay, maxBackoff)
	}
}

// bounded runs op once, for no longer than a lease: a store whose answer never comes must not hold up
// those who could ask again.
func (e *Engine) bounded(ctx context.Context, op func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, e.cfg.Lease)
	defer cancel()
	return op(ctx)
}

// pause waits for d; it reports false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
