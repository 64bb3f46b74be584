package engine

import (
	"context"
	"errors"
	"time"

	"github.com/perdure/perdure/store"
)

// The claim loop looks for work at least every claimPoll, and takes at most claimBatch tasks at once.
const (
	claimPoll  = 500 * time.Millisecond
	claimBatch = 256
)

// probation is how long a suspect must live before the next one is entered (R4).
const probation = 10 * time.Second

// claimLoop takes due tasks, and recovers those of dead workers, until ctx ends.
func (e *Engine) claimLoop(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-e.due:
		}
		timer.Reset(e.claimAll(ctx))
	}
}

// claimAll claims until nothing is due or no slot is free. It returns when to look again.
func (e *Engine) claimAll(ctx context.Context) time.Duration {
	for ctx.Err() == nil {
		w, req := e.claimRequest()
		if req == nil {
			return claimPoll
		}
		c, err := e.claim(w, req)
		if err != nil {
			if !errors.Is(err, store.ErrWorkerDead) && w.ctx.Err() == nil {
				e.log.Warn("claim failed", "error", err)
			}
			return claimPoll
		}
		if !c.More {
			return untilDue(c)
		}
	}
	return claimPoll
}

func untilDue(c *store.Claimed) time.Duration {
	if c.NextDue.IsZero() {
		return claimPoll
	}
	return min(claimPoll, max(c.NextDue.Sub(c.Now), 0)+time.Millisecond)
}

// claim takes one batch and enters it.
func (e *Engine) claim(w *worker, req *store.ClaimRequest) (*store.Claimed, error) {
	var c *store.Claimed
	try := *req
	err := e.repeat(w.ctx, 0, func(ctx context.Context) (err error) {
		this := try // a call that was given up may still be read
		c, err = e.store.Claim(ctx, &this)
		try.Repeat = true
		return err
	})
	if err != nil {
		e.claimFailed(req)
		return nil, err
	}
	e.stats.recovered.Add(int64(c.Put))
	if c.Parked > 0 {
		e.stats.parked.Add(int64(c.Parked))
		e.log.Error("tasks parked: they were entered again too often without a checkpoint", "count", c.Parked)
		e.allChanged()
	}
	if c.Ended > 0 {
		e.allChanged()
	}
	for _, entry := range c.Entries {
		e.take(entry.Task.Func)
		e.enter(w, entry, 0)
	}
	e.claimDone(req, c)
	return c, nil
}

// claimRequest reserves the slots that a claim may fill; nil while there is no registration. With no
// free slot it still puts back what dead workers held.
func (e *Engine) claimRequest() (*worker, *store.ClaimRequest) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.worker == nil || e.state != active {
		return nil, nil
	}
	req := &store.ClaimRequest{Worker: e.worker.id, Suspect: e.probing == nil}
	req.Limit = max(0, min(e.cfg.MaxRunning-len(e.running)-e.reserved, claimBatch))
	for name, fn := range e.funcs {
		if n := e.room(fn); n > 0 {
			req.Funcs = append(req.Funcs, store.ClaimFunc{Name: name, Limit: n})
		} else {
			e.waiting[name] = true
		}
	}
	for id := range e.stuck {
		req.Except = append(req.Except, id)
	}
	e.requests++
	req.Request = e.requests
	e.inflight[req.Request] = true
	e.reserved += req.Limit
	return e.worker, req
}

// take takes a slot for one claimed task, beside those that the claim has reserved.
func (e *Engine) take(fn string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.busy[fn]++
	e.reserved++
}

// claimDone gives back the reserved slots. A claim that left nothing due ends the wait of its funcs, and
// the first such claim makes the engine ready (R5).
func (e *Engine) claimDone(req *store.ClaimRequest, c *store.Claimed) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.reserved -= req.Limit
	e.answered(req.Request)
	if c.More && req.Limit > 0 {
		return
	}
	e.swept = true
	for _, f := range req.Funcs {
		if e.room(e.funcs[f.Name]) > 0 {
			delete(e.waiting, f.Name)
		}
	}
}

func (e *Engine) claimFailed(req *store.ClaimRequest) {
	e.mu.Lock()
	e.reserved -= req.Limit
	e.answered(req.Request)
	e.mu.Unlock()
	wake(e.audit)
}

// startProbation lets the next suspect in when this one has lived long enough (R4).
func (a *Attempt) startProbation() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.probation = time.AfterFunc(probation, func() { a.e.cleared(a) })
}

// cleared lets the next suspect in, if a is the one that holds it up.
func (e *Engine) cleared(a *Attempt) {
	e.mu.Lock()
	mine := e.probing == a
	if mine {
		e.probing = nil
	}
	e.mu.Unlock()
	if mine {
		wake(e.due)
	}
}
