package engine

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/perdure/perdure/store"
)

const (
	sweepEvery   = 5 * time.Second
	sweepLimit   = 500         // tasks and rows at once: some milliseconds of a store that writes
	sweepPause   = 2           // after a piece there is a pause of so many times its duration
	sweepMost    = time.Second // then the loop goes round before it sweeps on
	auditEvery   = 30 * time.Second
	auditPage    = 500
	waitingEvery = 5 * time.Second
	waitingMost  = 1000 // of a func; more are not counted
)

// sweepLoop does the store's housekeeping, counts what waits for funcs that are not bound here, and looks for leases
// that nobody here knows of.
func (e *Engine) sweepLoop(ctx context.Context) {
	sweep := time.NewTimer(sweepEvery)
	defer sweep.Stop()
	audit := time.NewTicker(auditEvery)
	defer audit.Stop()
	waiting := time.NewTicker(waitingEvery)
	defer waiting.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-sweep.C:
			sweep.Reset(e.sweep(ctx))
		case <-waiting.C:
			e.countWaiting(ctx)
		case <-audit.C:
			e.auditLeases(ctx)
		case <-e.bells.audit:
			e.auditLeases(ctx)
		}
	}
}

// sweep does what there is to do, in pieces with pauses between them: others want to write too. It returns when to sweep
// again.
func (e *Engine) sweep(ctx context.Context) time.Duration {
	for begun := time.Now(); ctx.Err() == nil && time.Since(begun) < sweepMost; {
		piece := time.Now()
		s, err := try(ctx, e, lastWrites, func(ctx context.Context) (*store.Swept, error) { return e.store.Sweep(ctx, sweepLimit) })
		if err != nil {
			return sweepEvery
		}
		if s.Ended > 0 {
			e.allChanged()
			e.bells.due.ring()
		}
		if !s.More || !pause(ctx, sweepPause*time.Since(piece)) {
			return sweepEvery
		}
	}
	return 0
}

// countWaiting looks for due tasks of funcs that are not bound here. They are left alone, counted, and
// logged once (R3).
func (e *Engine) countWaiting(ctx context.Context) {
	bound := slices.Sorted(maps.Keys(e.funcs))
	waiting, err := try(ctx, e, 0, func(ctx context.Context) (map[string]int, error) {
		return e.store.Waiting(ctx, bound, waitingMost)
	})
	if err != nil {
		return
	}
	for _, fn := range e.stats.noteUnbound(waiting) {
		e.log.Warn("tasks wait for a func that is not bound here: they are left alone", "func", fn, "count", waiting[fn])
	}
}

// auditLeases releases, uncounted, what is leased to this worker and unknown to it: the lease came with
// an answer that was lost (O6).
func (e *Engine) auditLeases(ctx context.Context) {
	e.mu.Lock()
	w, asked, spent := e.worker, e.roster.tickets.snapshot(), maps.Clone(e.roster.spent)
	e.mu.Unlock()
	if w == nil {
		return
	}
	for q := (store.ListQuery{Worker: w.id, Limit: auditPage}); ; {
		page, err := try(ctx, e, 0, func(ctx context.Context) (*store.TaskPage, error) { return e.store.List(ctx, q) })
		if err != nil {
			return
		}
		for _, t := range page.Tasks {
			delete(spent, leaseOf(t))
			e.auditLease(w, t, asked)
			q.Before = t.Incarnation
		}
		if !page.More {
			e.forget(spent) // they are gone
			return
		}
	}
}

// auditLease looks at one lease. Those of requests that are not answered yet, or were sent since, are left alone.
func (e *Engine) auditLease(w *registration, t *store.Task, asked tickets) {
	lease := leaseOf(t)
	e.mu.Lock()
	known := t.Request > asked.last || asked.open[t.Request] || e.roster.leases[lease] != nil
	how := e.roster.release(lease)
	e.mu.Unlock()
	if known {
		return
	}
	_, err := try(w.ctx, e, lastWrites, func(ctx context.Context) (*store.Settled, error) {
		return e.store.Settle(ctx, &store.SettleRequest{Lease: lease, Kind: store.SettleRelease, Release: how})
	})
	if err == nil {
		e.forget(map[store.Lease]bool{lease: true})
		e.changed(lease.Incarnation) // a turn that was cancelled meanwhile has ended
		e.bells.due.ring()
	}
}

func leaseOf(t *store.Task) store.Lease {
	return store.Lease{Incarnation: t.Incarnation, Worker: t.Worker, Epoch: t.Epoch}
}

// forget takes leases for gone.
func (e *Engine) forget(leases map[store.Lease]bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for lease := range leases {
		delete(e.roster.spent, lease)
	}
}
