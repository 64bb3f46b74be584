package engine

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/perdure/perdure/store"
)

const (
	beatsPerLease = 3
	mailPoll      = 500 * time.Millisecond
	sweepEvery    = time.Second
	sweepLimit    = 200
	auditEvery    = 30 * time.Second
	waitingEvery  = 5 * time.Second
	auditPage     = 500
)

// margin is how long before the end of its lease a worker that could not renew stops its turns (O4).
func (e *Engine) margin() time.Duration { return e.cfg.Lease / 10 }

// keep registers this engine as a worker, renews it, and starts over under a new ID after a lapse, until
// ctx ends. What its turns write may go on until base ends. A closed store ends the engine.
func (e *Engine) keep(ctx, base context.Context, stop context.CancelCauseFunc) {
	replaces := ""
	for ctx.Err() == nil {
		w, sent, err := e.register(ctx, base, replaces)
		if err == nil {
			err = e.renew(ctx, w, sent)
			if ctx.Err() == nil {
				replaces = e.fence(w, sent)
			}
		}
		if errors.Is(err, store.ErrClosed) {
			e.closed(stop)
			return
		}
		pause(ctx, firstBackoff) // a store that refuses every registration is asked again, not besieged
	}
}

// attend looks, where keep would renew a worker, whether the store answers, until ctx ends. A closed store ends
// the engine.
func (e *Engine) attend(ctx context.Context, stop context.CancelCauseFunc) {
	for more := true; more; more = pause(ctx, e.cfg.Lease/beatsPerLease) {
		err := e.bounded(ctx, func(ctx context.Context) error {
			_, err := e.store.Workers(ctx)
			return err
		})
		if errors.Is(err, store.ErrClosed) {
			e.closed(stop)
			return
		}
		e.beat(ctx, err)
		e.mu.Lock()
		e.swept = true // there is nothing to sweep
		e.mu.Unlock()
	}
}

// closed ends the engine: its store is gone.
func (e *Engine) closed(stop context.CancelCauseFunc) {
	e.stopTurns(store.ErrLeaseLost)
	stop(store.ErrClosed)
}

// register makes a new worker. It returns when the heartbeat was sent, on the monotonic clock.
func (e *Engine) register(ctx, base context.Context, replaces string) (*worker, time.Time, error) {
	w := &worker{id: newWorkerID()}
	req := &store.HeartbeatRequest{Worker: w.id, Lease: e.cfg.Lease, First: true, Replaces: replaces, Info: e.cfg.Worker}
	for _, f := range e.cfg.Funcs {
		req.Funcs = append(req.Funcs, store.PublishedFunc{Name: f.Name, Settings: f.Settings})
	}
	var sent time.Time
	err := e.repeat(ctx, 0, func(try context.Context) error {
		sent = time.Now()
		_, err := e.store.Heartbeat(try, req)
		e.beat(ctx, err)
		return err
	})
	if err != nil {
		return nil, sent, err
	}
	w.ctx, w.cancel = context.WithCancelCause(base)
	e.mu.Lock()
	e.worker = w
	e.mu.Unlock()
	e.log.Debug("worker registered", "worker", w.id)
	wake(e.due)
	return w, sent, nil
}

// beat notes whether the store took a heartbeat. One that the engine's own end cut off says nothing.
func (e *Engine) beat(ctx context.Context, err error) {
	if err != nil && ctx.Err() != nil {
		return
	}
	e.mu.Lock()
	first := !e.failing
	e.healthy, e.failing = err == nil, err != nil
	e.mu.Unlock()
	if err == nil {
		return
	}
	e.stats.beatsFailed.Add(1)
	if first {
		e.log.Warn("heartbeat failed: it is tried again, and the engine is not ready", "error", err)
	}
}

// renew sends heartbeats until the worker is refused or, where leases lapse, could not renew in time. It
// counts from before it sent the last good one.
func (e *Engine) renew(ctx context.Context, w *worker, sent time.Time) error {
	keeping := ctx
	every := e.cfg.Lease / beatsPerLease
	for {
		limit := sent.Add(e.cfg.Lease - e.margin())
		if !pause(ctx, time.Until(sent.Add(every))) {
			return context.Cause(ctx)
		}
		bounded, cancel := e.untilLapse(ctx, limit)
		var begun time.Time
		err := e.repeat(bounded, 0, func(ctx context.Context) error {
			begun = time.Now()
			_, err := e.store.Heartbeat(ctx, &store.HeartbeatRequest{
				Worker: w.id, Lease: e.cfg.Lease, Running: e.count(), MailSeen: e.hub.seenMail(),
			})
			e.beat(keeping, err)
			return err
		})
		cancel()
		if err != nil {
			return err
		}
		sent = begun
	}
}

// untilLapse bounds a heartbeat to the time in which this worker may still hold its leases.
func (e *Engine) untilLapse(ctx context.Context, limit time.Time) (context.Context, context.CancelFunc) {
	if e.sole {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, limit)
}

func (e *Engine) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.running)
}

// fence stops all turns of a worker before others may take them (O4). Then it waits until they have
// returned or the lease has lapsed. It returns the worker's ID if its successor may release its tasks.
func (e *Engine) fence(w *worker, sent time.Time) (replaces string) {
	e.log.Warn("worker lost its lease: its turns are stopped", "worker", w.id)
	e.stats.fenced.Add(1)
	attempts := e.stopTurns(store.ErrLeaseLost)
	w.cancel(store.ErrLeaseLost)
	lapse := time.NewTimer(time.Until(sent.Add(e.cfg.Lease)))
	defer lapse.Stop()
	for _, a := range attempts {
		select {
		case <-a.gone:
		case <-lapse.C:
			return ""
		}
	}
	return w.id
}

// stopTurns takes the registration away and ends all turns under it.
func (e *Engine) stopTurns(cause error) []*Attempt {
	e.mu.Lock()
	e.worker = nil
	e.healthy = false
	attempts := make([]*Attempt, 0, len(e.running))
	for _, a := range e.running {
		attempts = append(attempts, a)
	}
	e.mu.Unlock()
	for _, a := range attempts {
		a.lost(cause)
	}
	return attempts
}

// mailLoop reads what others have left for this worker's turns.
func (e *Engine) mailLoop(ctx context.Context) {
	ticker := time.NewTicker(mailPoll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-e.post:
		}
		if id := e.WorkerID(); id != "" {
			e.readMail(ctx, id)
		}
	}
}

func (e *Engine) readMail(ctx context.Context, worker string) {
	var mail []store.Mail
	err := e.bounded(ctx, func(ctx context.Context) (err error) {
		mail, err = e.store.Mail(ctx, worker, e.hub.seenMail())
		return err
	})
	if err != nil {
		return // the next poll tries again; a store that stays away shows in the heartbeat
	}
	for _, m := range mail {
		e.deliver(ctx, m)
		e.hub.sawMail(m.Seq)
	}
}

// deliver brings one piece of mail to the turn it is for.
func (e *Engine) deliver(ctx context.Context, m store.Mail) {
	e.changed(m.Incarnation)
	e.tell(m.Incarnation, m.Epoch, func(a *Attempt) {
		switch m.Kind {
		case store.MailTerminated, store.MailDeleted:
			a.lost(ErrTerminated)
			return
		case store.MailSteered:
			a.interrupt(Causes{Steered: true})
		case store.MailCancel:
			a.interrupt(Causes{Cancel: true, CancelReason: m.Reason})
		}
		e.recount(ctx, a)
	})
}

// recount reads how many inputs wait behind a turn, after somebody elsewhere has changed that (G6).
func (e *Engine) recount(ctx context.Context, a *Attempt) {
	err := e.bounded(ctx, func(ctx context.Context) error {
		t, err := e.store.Get(ctx, a.task.ID)
		if err == nil && t.Incarnation == a.lease.Incarnation && t.Epoch == a.lease.Epoch {
			a.behind(t.Queued, t.Version)
		}
		return err
	})
	if err != nil {
		a.Logger().Debug("inputs behind the turn not counted", "error", err)
	}
}

// sweepLoop does the store's housekeeping and looks for leases that nobody here knows of.
func (e *Engine) sweepLoop(ctx context.Context) {
	sweep := time.NewTicker(sweepEvery)
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
			e.sweep(ctx)
		case <-waiting.C:
			e.countWaiting(ctx)
		case <-audit.C:
			e.auditLeases(ctx)
		case <-e.audit:
			e.auditLeases(ctx)
		}
	}
}

func (e *Engine) sweep(ctx context.Context) {
	for more := true; more && ctx.Err() == nil; {
		var s *store.Swept
		err := e.bounded(ctx, func(ctx context.Context) (err error) {
			s, err = e.store.Sweep(ctx, sweepLimit)
			return err
		})
		if err != nil {
			return
		}
		if s.Ended > 0 {
			e.allChanged()
			wake(e.due)
		}
		more = s.More
	}
}

// countWaiting looks for due tasks of funcs that are not bound here. They are left alone, counted, and
// logged once (R3).
func (e *Engine) countWaiting(ctx context.Context) {
	var waiting map[string]int
	err := e.bounded(ctx, func(ctx context.Context) (err error) {
		waiting, err = e.store.Waiting(ctx)
		return err
	})
	if err != nil {
		return
	}
	for _, fn := range e.stats.noteUnbound(waiting, e.funcs) {
		e.log.Warn("tasks wait for a func that is not bound here: they are left alone", "func", fn, "count", waiting[fn])
	}
}

// auditLeases releases, uncounted, what is leased to this worker and unknown to it: the lease came with
// an answer that was lost (O6).
func (e *Engine) auditLeases(ctx context.Context) {
	e.mu.Lock()
	w := e.worker
	before := e.requests + 1
	for r := range e.inflight {
		before = min(before, r)
	}
	e.mu.Unlock()
	if w == nil {
		return
	}
	for q := (store.ListQuery{Worker: w.id, Limit: auditPage}); ; {
		var tasks []*store.Task
		err := e.bounded(ctx, func(ctx context.Context) (err error) {
			tasks, err = e.store.List(ctx, q)
			return err
		})
		if err != nil {
			return
		}
		for _, t := range tasks {
			e.auditLease(w, t, before)
			q.Before = t.Incarnation
		}
		if len(tasks) < q.Limit {
			return
		}
	}
}

func (e *Engine) auditLease(w *worker, t *store.Task, before int64) {
	e.mu.Lock()
	known := t.Request >= before || e.running[t.Incarnation] != nil || e.stuck[t.ID] > 0
	e.mu.Unlock()
	if known {
		return
	}
	lease := store.Lease{Incarnation: t.Incarnation, Worker: t.Worker, Epoch: t.Epoch}
	err := e.bounded(w.ctx, func(ctx context.Context) error {
		_, err := e.store.Settle(ctx, &store.SettleRequest{Lease: lease, Kind: store.SettleRelease})
		return err
	})
	if err == nil {
		wake(e.due)
	}
}

// How long it takes until a store that does not tell what others write is asked again.
const (
	firstListen = time.Second
	maxListen   = time.Minute
)

// listen passes on the store's hints, and ends the engine when the store says that it has been closed.
func (e *Engine) listen(ctx context.Context, stop context.CancelCauseFunc) {
	n, ok := e.store.(store.Notifier)
	if !ok {
		return
	}
	for delay := firstListen; ctx.Err() == nil; delay = min(2*delay, maxListen) {
		err := n.Listen(ctx, e.hint)
		if errors.Is(err, store.ErrClosed) {
			e.closed(stop)
			return
		}
		if e.setHinted(false) {
			e.allChanged() // who waits polls again
			delay = firstListen
		}
		if ctx.Err() == nil {
			e.log.Debug("the store does not tell of others' writes: they are polled for", "error", err)
			pause(ctx, delay)
		}
	}
}

// hint wakes those whom others' writes may concern.
func (e *Engine) hint(h store.Hint) {
	e.setHinted(true)
	if h.All || h.Due {
		wake(e.due)
	}
	if h.All || slices.Contains(h.Mail, e.WorkerID()) {
		wake(e.post)
	}
	if h.All {
		e.allChanged()
		return
	}
	for _, incarnation := range h.Tasks {
		e.changed(incarnation)
	}
}

// setHinted notes whether hints come; it returns whether they came before.
func (e *Engine) setHinted(now bool) (before bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	before, e.hinted = e.hinted, now
	return before
}
