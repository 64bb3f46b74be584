package engine

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/perdure/perdure/store"
)

// The claim loop asks for at most claimBatch tasks at once, when there may be work: a poll has found some, or a hint tells of
// it, a slot is free again, or a task falls due. Else it sleeps.
const (
	claimBatch = 256
	claimAgain = 500 * time.Millisecond // after a claim that has failed
	claimSleep = time.Hour
)

// claimLoop takes due tasks, and recovers those of dead workers, until ctx ends.
func (e *Engine) claimLoop(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-e.bells.due:
		}
		timer.Reset(e.claimAll(ctx))
	}
}

// claimAll claims until nothing is due or no slot is free. It returns when to look again.
func (e *Engine) claimAll(ctx context.Context) time.Duration {
	for ctx.Err() == nil {
		w, req := e.claimRequest()
		if req == nil {
			return claimSleep
		}
		c, err := e.claim(w, req)
		if err != nil {
			if !errors.Is(err, store.ErrWorkerDead) && !errors.Is(err, ErrShuttingDown) && w.ctx.Err() == nil {
				e.log.Warn("claim failed", "error", err)
			}
			return claimAgain
		}
		if !c.More {
			return untilDue(c)
		}
	}
	return claimSleep
}

// untilDue is when the next task falls due that the store knows of.
func untilDue(c *store.Claimed) time.Duration {
	if c.NextDue.IsZero() {
		return claimSleep
	}
	return min(claimSleep, max(c.NextDue.Sub(c.Now), 0)+time.Millisecond)
}

// claimRequest asks for what there is room for; nil while there is no registration. It reserves no slot, so that starts
// do not wait for the answer: leases beyond what is free then go back. With no free slot it still puts back what dead
// workers held.
func (e *Engine) claimRequest() (*registration, *store.ClaimRequest) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := &e.roster
	if e.worker == nil || r.state != active {
		return nil, nil
	}
	req := &store.ClaimRequest{Worker: e.worker.id, Suspect: r.probing == nil, Except: r.except()}
	req.Limit = max(0, min(r.slots.most-r.slots.leases, claimBatch))
	for name := range e.funcs {
		if n := r.slots.room(name); n > 0 {
			req.Funcs = append(req.Funcs, store.ClaimFunc{Name: name, Limit: n})
		} else {
			r.slots.waiting[name] = true
		}
	}
	req.Request = r.tickets.issue()
	return e.worker, req
}

// claim makes a claim, and enters what it brings.
func (e *Engine) claim(w *registration, req *store.ClaimRequest) (*store.Claimed, error) {
	var tries atomic.Int64
	c, err := repeat(w.ctx, e, manner{grace: lastWrites, until: e.leaving, failed: func(err error) { e.writes.heard(e.log, err) }}, func(ctx context.Context) (*store.Claimed, error) {
		this := *req // one that was given up may still be read
		this.Repeat = tries.Add(1) > 1
		return e.store.Claim(ctx, &this)
	})
	if err == nil {
		e.claimed(w, c)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answered(req.Request)
	switch {
	case err != nil:
		e.bells.audit.ring()
	case !c.More || req.Limit == 0:
		e.nothingDue(req, c)
	}
	return c, err
}

// claimed acts on what a claim has brought, and told.
func (e *Engine) claimed(w *registration, c *store.Claimed) {
	e.stats.recovered.Add(int64(c.Put))
	if c.Parked > 0 {
		e.stats.parked.Add(int64(c.Parked))
		e.log.Error("tasks parked: they were entered again too often without a checkpoint", "count", c.Parked)
	}
	if c.Parked > 0 || c.Ended > 0 {
		e.allChanged()
	}
	for _, entry := range c.Entries {
		e.receive(w, entry, nil, 0)
	}
}

// nothingDue notes that a claim has left nothing due that it had room for: the wait ends of the funcs that it could have
// brought more of, and the first such claim makes the engine ready (R5). e.mu is held.
func (e *Engine) nothingDue(req *store.ClaimRequest, c *store.Claimed) {
	e.health.swept = true
	brought := map[string]int{}
	for _, entry := range c.Entries {
		brought[entry.Task.Func]++
	}
	for _, f := range req.Funcs {
		if brought[f.Name] < f.Limit {
			e.roster.slots.served(f.Name)
			continue
		}
		e.roster.slots.waiting[f.Name] = true
		if e.roster.slots.room(f.Name) > 0 { // one was freed since
			e.bells.due.ring()
		}
	}
}
