package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/perdure/perdure/store"
)

const (
	beatsPerLease = 3
	sleepCheck    = time.Second // how often a worker looks whether its machine has slept
)

// margin is how long before the end of its lease a worker that could not renew stops its turns (O4).
func (e *Engine) margin() time.Duration { return e.cfg.Lease / 10 }

// registration is this engine as a worker, under an ID that is used once. Its context ends when nothing may be written
// under it any more.
type registration struct {
	id    string
	ctx   context.Context
	end   context.CancelCauseFunc
	lapse *time.Timer // ends it in time, whatever becomes of a call to the store; nil where no lease lapses
	once  sync.Once

	mu   sync.Mutex
	beat beat // the last that the store took
}

// beat is a heartbeat: when it was sent, on the monotonic clock, and how long the machine had been up then.
type beat struct {
	sent time.Time
	up   time.Duration
}

func (w *registration) last() beat {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.beat
}

func (w *registration) note(b beat) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.beat = b
}

// keep registers this engine as a worker, renews it, and starts over under a new ID after a lapse, until
// ctx ends. What its turns write may go on until base ends. A closed store ends the engine.
func (e *Engine) keep(ctx, base context.Context, stop context.CancelCauseFunc) {
	replaces := ""
	for ctx.Err() == nil {
		w, err := e.register(ctx, base, replaces)
		if err == nil {
			err = e.renew(ctx, w)
			if ctx.Err() == nil {
				e.fence(w)
				e.untilReturned(ctx, w)
				replaces = w.id
			}
		}
		if errors.Is(err, store.ErrClosed) {
			e.closed(stop)
			return
		}
		pause(ctx, firstBackoff) // a store that refuses every registration is asked again, not besieged
	}
}

// closed ends the engine: its store is gone.
func (e *Engine) closed(stop context.CancelCauseFunc) {
	e.disown()
	stop(store.ErrClosed)
}

// disown fences the worker that the engine is, if it is one.
func (e *Engine) disown() {
	e.mu.Lock()
	w := e.worker
	e.mu.Unlock()
	if w != nil {
		e.fence(w)
	}
}

// register makes a new worker.
func (e *Engine) register(ctx, base context.Context, replaces string) (*registration, error) {
	w := &registration{id: newWorkerID()}
	req := &store.HeartbeatRequest{Worker: w.id, Lease: e.cfg.Lease, First: true, Replaces: replaces, Info: e.cfg.Worker}
	for _, f := range e.cfg.Funcs {
		req.Funcs = append(req.Funcs, store.PublishedFunc{Name: f.Name, Settings: f.Settings})
	}
	b, err := e.beat(ctx, req)
	if err != nil {
		return nil, err
	}
	w.beat = b
	w.ctx, w.end = context.WithCancelCause(base)
	e.mu.Lock()
	e.worker, e.roster.worker = w, w.id
	if !e.sole {
		w.lapse = time.AfterFunc(e.untilMargin(b), func() { e.fence(w) })
	}
	e.mu.Unlock()
	e.log.Debug("worker registered", "worker", w.id)
	e.bells.due.ring()
	return w, nil
}

// untilMargin is how long after a heartbeat the worker may go on without another.
func (e *Engine) untilMargin(b beat) time.Duration {
	return time.Until(b.sent.Add(e.cfg.Lease - e.margin()))
}

// beat sends a heartbeat until it is taken or refused, or ctx ends.
func (e *Engine) beat(ctx context.Context, req *store.HeartbeatRequest) (beat, error) {
	return repeat(ctx, e, manner{grace: lastWrites}, func(try context.Context) (beat, error) {
		b := beat{sent: time.Now(), up: e.uptime()}
		answer, err := e.store.Heartbeat(try, req)
		e.noteBeat(ctx, err)
		if err == nil {
			e.clocks.look(e.log, b.sent, answer.Now)
		}
		return b, err
	})
}

// uptime is how long the machine has been up, sleep included, where that matters to leases; else 0.
func (e *Engine) uptime() time.Duration {
	if e.uptimer == nil {
		return 0
	}
	return e.uptimer.Uptime()
}

// renew sends heartbeats until the worker is refused, or has ended because it could not renew in time. Time is counted
// from before the last good one was sent.
func (e *Engine) renew(ctx context.Context, w *registration) error {
	renewing, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(w.ctx, func() { cancel(context.Cause(w.ctx)) })()
	for {
		if err := e.untilBeat(renewing, w); err != nil {
			return err
		}
		b, err := e.beat(renewing, &store.HeartbeatRequest{Worker: w.id, Lease: e.cfg.Lease, Running: e.count()})
		if err != nil {
			return err
		}
		w.note(b)
		if w.lapse != nil && !w.lapse.Reset(e.untilMargin(b)) {
			return store.ErrLeaseLost // it came too late
		}
	}
}

// untilBeat waits until it is time for the next heartbeat. It fails when the machine has slept so long meanwhile that
// the lease may be gone: the timers have stood still.
func (e *Engine) untilBeat(ctx context.Context, w *registration) error {
	last := w.last()
	for {
		left := time.Until(last.sent.Add(e.cfg.Lease / beatsPerLease))
		if left <= 0 {
			return context.Cause(ctx)
		}
		if e.uptimer != nil {
			left = min(left, sleepCheck)
		}
		if !pause(ctx, left) {
			return context.Cause(ctx)
		}
		if e.hasSlept(last) {
			e.log.Warn("the machine has slept: the lease may be gone", "worker", w.id)
			return store.ErrLeaseLost
		}
	}
}

// hasSlept reports whether the machine has slept for so long since a heartbeat that the lease may be gone.
func (e *Engine) hasSlept(since beat) bool { return e.uptime()-since.up >= e.cfg.Lease-e.margin() }

// fenceIfLate fences a worker whose lease may be gone, before something is begun under it: when the process or the machine
// has stood still, nothing may have looked at a clock since.
func (e *Engine) fenceIfLate(w *registration) {
	if last := w.last(); w.lapse != nil && (e.untilMargin(last) <= 0 || e.hasSlept(last)) {
		e.fence(w)
	}
}

// fence ends a registration before others may take its tasks (O4). The worker ends before its handlers' contexts do, so
// that nothing is written of what they return because of that. It may be called more than once.
func (e *Engine) fence(w *registration) {
	w.once.Do(func() {
		e.mu.Lock()
		if e.worker == w {
			e.worker = nil
		}
		lost := e.roster.fence(w.id)
		e.health.beating = false
		e.mu.Unlock()
		if w.lapse != nil {
			w.lapse.Stop()
		}
		w.end(store.ErrLeaseLost)
		for _, c := range lost {
			c.of.follow(c.before, c.now, store.ErrLeaseLost)
		}
		e.stats.fenced.Add(1)
		e.log.Warn("worker lost its lease: its turns are stopped", "worker", w.id, "turns", len(lost))
	})
}

// untilReturned waits until the handlers of a worker that has ended have returned, or its lease has lapsed.
func (e *Engine) untilReturned(ctx context.Context, w *registration) {
	lapse := time.NewTimer(time.Until(w.last().sent.Add(e.cfg.Lease)))
	defer lapse.Stop()
	for _, a := range e.strays(w) {
		select {
		case <-a.gone:
		case <-lapse.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// strays returns the attempts of a worker whose handlers are inside.
func (e *Engine) strays(w *registration) (all []*Attempt) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, l := range e.roster.inside {
		if l.lease.Worker == w.id {
			all = append(all, l.of)
		}
	}
	return all
}

func (e *Engine) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.roster.leases)
}

// attend looks, where keep would renew a worker, whether the store answers, until ctx ends. A closed store ends
// the engine.
func (e *Engine) attend(ctx context.Context, stop context.CancelCauseFunc) {
	for more := true; more; more = pause(ctx, e.cfg.Lease/beatsPerLease) {
		_, err := try(ctx, e, 0, e.store.Workers)
		if errors.Is(err, store.ErrClosed) {
			e.closed(stop)
			return
		}
		e.noteBeat(ctx, err)
		e.mu.Lock()
		e.health.swept = true // there is nothing to sweep
		e.mu.Unlock()
	}
}
