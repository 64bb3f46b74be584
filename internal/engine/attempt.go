package engine

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/perdure/perdure/store"
)

// leakAfter is how long a handler may go on after its ctx has ended before it is reported.
const leakAfter = 10 * time.Second

// Attempt is one entry of a handler. Its methods may be called concurrently.
type Attempt struct {
	e        *Engine
	fn       *Func
	worker   *registration
	life     *life // guarded by e.mu
	task     *store.Task
	input    []byte
	previous []byte
	meta     *Metadata
	ending   *changes // of the metadata, to be written with the end; nil before

	ctx context.Context // ends when the turn may no longer write
	end context.CancelCauseFunc

	interrupt interrupt
	queue     queue
	timers    timers
	pen       pen
	emitter   emitter
	replaced  atomic.Bool      // it has been logged that something the handler gave is not as it gave it
	early     []func(*Attempt) // what was heard before the lease arrived; told before the handler is entered
	surplus   bool             // the lease is to be given back, and no handler entered
	overdueAt time.Time        // when the deadline passes, on the monotonic clock; zero without one

	gone chan struct{} // closed when the handler has returned, or will not be entered
	news outcome       // for those who wait for the turn's end
}

func (e *Engine) newAttempt(w *registration, entry *store.Entry) *Attempt {
	t := entry.Task
	a := &Attempt{
		e: e, fn: e.funcs[t.Func], worker: w, task: t, input: entry.Input, previous: entry.Previous,
		pen: pen{held: make(chan struct{}, 1)}, gone: make(chan struct{}), news: outcome{done: make(chan struct{})},
		queue: queue{inputs: t.Queued, version: t.Version},
	}
	a.interrupt.grace = a.fn.SteerGrace
	a.life = &life{lease: entry.Lease, task: t.ID, fn: t.Func, suspect: t.Suspect, of: a}
	a.ctx, a.end = context.WithCancelCause(w.ctx)
	return a
}

// advance makes a move of an attempt, and does what follows from it. It returns the phase before.
func (a *Attempt) advance(m move, cause error) (before phase) {
	a.e.mu.Lock()
	before = a.e.roster.advance(a.life, m)
	now := a.life.phase
	a.e.mu.Unlock()
	a.follow(before, now, cause)
	return before
}

// follow does what follows from a move: ctx ends with the right to write, and those who wait for the turn are told to
// look at the store when its end will not come from here.
func (a *Attempt) follow(before, now phase, cause error) {
	if before == now {
		return
	}
	gone := before.holds() && !now.holds()
	if gone || now == drained || now == expiring {
		a.end(cause)
	}
	if before == running && now.inside() {
		time.AfterFunc(leakAfter, a.reportLeak)
	}
	if gone {
		a.news.resolve(nil)
	}
}

// lose notes that the attempt's lease is gone.
func (a *Attempt) lose(cause error) { a.advance(lost, cause) }

// refused notes that the store says so.
func (a *Attempt) refused() {
	a.e.mu.Lock()
	before := a.e.roster.refused(a.life)
	now := a.life.phase
	a.e.mu.Unlock()
	a.follow(before, now, store.ErrLeaseLost)
	a.e.bells.audit.ring()
}

func (a *Attempt) reportLeak() {
	select {
	case <-a.gone:
	default:
		a.e.stats.leaked.Add(1)
		a.Logger().Error("handler has not returned since its context ended", "after", leakAfter)
	}
}

// Task returns the task as it was when the turn was entered, without its metadata.
func (a *Attempt) Task() *store.Task { return a.task }

// Epoch returns the fencing token of the lease.
func (a *Attempt) Epoch() int64 { return a.life.lease.Epoch }

// Input returns the JSON of the turn's input.
func (a *Attempt) Input() []byte { return a.input }

// Previous returns the JSON of the input of the turn entered before, or nil.
func (a *Attempt) Previous() []byte { return a.previous }

// Metadata returns the task's metadata.
func (a *Attempt) Metadata() *Metadata { return a.meta }

// Writable returns why the turn may no longer write; nil if it may.
func (a *Attempt) Writable() error {
	if a.ctx.Err() != nil {
		return context.Cause(a.ctx)
	}
	return nil
}

// Logger returns a logger with the turn's attributes.
func (a *Attempt) Logger() *slog.Logger {
	t := a.task
	return a.e.log.With("task", t.ID, "func", t.Func, "turn", t.Turn.Number, "attempt", t.Turn.Attempt,
		"epoch", a.life.lease.Epoch, "worker", a.life.lease.Worker)
}

// outcome is what is known here of the end of an attempt's turn.
type outcome struct {
	mu    sync.Mutex
	done  chan struct{} // closed when the attempt is over
	ended *store.Turn   // the outcome, if the attempt's end was the turn's; set before done is closed
}

// resolve tells those who wait that the attempt is over. Only the first call counts.
func (o *outcome) resolve(ended *store.Turn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case <-o.done:
	default:
		o.ended = ended
		close(o.done)
	}
}

// timers are those of a turn, which end with its handler.
type timers struct {
	mu      sync.Mutex
	stopped bool
	of      [3]*time.Timer
}

// What the timers of a turn are for.
const (
	ofDeadline = iota
	ofProbation
	ofCheckpoint
)

// set has f called after d, unless the handler has returned by then, or the timer is set again.
func (t *timers) set(which int, d time.Duration, f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped {
		return
	}
	if t.of[which] != nil {
		t.of[which].Stop()
	}
	t.of[which] = time.AfterFunc(d, f)
}

func (t *timers) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopped = true
	for _, timer := range t.of {
		if timer != nil {
			timer.Stop()
		}
	}
}
