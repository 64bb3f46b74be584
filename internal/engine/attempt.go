package engine

import (
	"context"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/perdure/perdure/store"
)

// leakAfter is how long a handler may go on after its ctx has ended before it is reported.
const leakAfter = 10 * time.Second

// Attempt is one entry of a handler. Its methods may be called concurrently.
type Attempt struct {
	e        *Engine
	fn       *Func
	worker   *worker
	lease    store.Lease
	task     *store.Task
	input    []byte
	previous []byte
	meta     *Metadata

	ctx           context.Context // ends when the turn may no longer write
	end           context.CancelCauseFunc
	interruptible context.Context // made when the handler first asks for it; guarded by mu, as is fire
	fire          context.CancelCauseFunc

	saving  chan struct{}            // capacity 1: held by whoever writes
	number  int64                    // of the last checkpoint; guarded by saving, as is unknown
	unknown *store.CheckpointRequest // sent, its result unknown; else nil

	emitter emitter

	gone     chan struct{} // closed when the handler has returned
	done     chan struct{} // closed when the attempt is over
	declined bool          // the handler is not to be entered: the lease goes back
	ended    *store.Turn   // the outcome, if the attempt's end is the turn's; set before done is closed

	early []func(*Attempt) // what was heard before the lease arrived; told before the handler is entered

	mu        sync.Mutex
	causes    Causes
	pending   int   // inputs behind the turn
	version   int64 // of the task when there were as many
	settling  bool  // somebody has begun to write the end
	returned  bool  // the handler has returned
	over      bool  // it may no longer write, and its end was noted
	keptSlot  bool  // the slot was taken over from the turn before, past others that wait
	deadline  *time.Timer
	grace     *time.Timer // of the steer
	graceOver bool
	auto      *time.Timer
	probation *time.Timer
}

// enter makes an attempt of a lease that was just given and runs it in a goroutine of its own. The
// caller has taken a slot, which passes to the attempt. request is the operation that gave the lease.
func (e *Engine) enter(w *worker, entry *store.Entry, request int64) *Attempt {
	a := e.newAttempt(w, entry)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.reserved--
	e.goroutines++
	e.takeNews(a)
	e.answered(request)
	if e.state == stopped {
		e.goroutines--
		e.free(a.task.Func)
		a.resolve(nil)
		return a
	}
	e.running[a.lease.Incarnation] = a
	a.declined = e.state != active || e.worker != w
	before := e.live[a.task.ID]
	if before == nil && !a.declined {
		e.live[a.task.ID] = a
	}
	if a.task.Suspect && !a.declined {
		e.probing = a
	}
	go e.runAll(a, before)
	return a
}

// runAll runs an attempt, and those of the turns that keep its slot. It waits for before to return first.
func (e *Engine) runAll(a, before *Attempt) {
	if before != nil && !a.declined {
		a.declined = !e.succeed(before, a)
	}
	for a != nil {
		a = a.run()
	}
	e.done()
}

// done notes that a goroutine that runs handlers, or writes their end, is at its own.
func (e *Engine) done() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.goroutines--
	e.settleDown()
}

// succeed waits for the task's earlier handler to return before the next one is entered (O1). After
// leakAfter it gives up.
func (e *Engine) succeed(before, a *Attempt) bool {
	timer := time.NewTimer(leakAfter)
	defer timer.Stop()
	select {
	case <-before.gone:
	case <-timer.C:
		return false
	case <-a.ctx.Done():
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.live[a.task.ID] != nil || e.state != active {
		return false
	}
	e.live[a.task.ID] = a
	return true
}

// decline gives back a lease without entering the handler.
func (a *Attempt) decline() {
	a.handlerReturned()
	if a.beginSettling() {
		a.settle(&store.SettleRequest{Kind: store.SettleRelease})
	}
	a.leave()
	a.end(nil)
}

func (e *Engine) newAttempt(w *worker, entry *store.Entry) *Attempt {
	a := &Attempt{
		e: e, fn: e.funcs[entry.Task.Func], worker: w, lease: entry.Lease, task: entry.Task,
		input: entry.Input, previous: entry.Previous,
		saving: make(chan struct{}, 1), gone: make(chan struct{}), done: make(chan struct{}),
		pending: entry.Task.Queued, version: entry.Task.Version,
	}
	a.ctx, a.end = context.WithCancelCause(w.ctx)
	return a
}

// run enters the handler, writes how it ended, and returns the attempt of the next turn if that keeps
// this one's slot.
func (a *Attempt) run() *Attempt {
	for _, tell := range a.early {
		tell(a)
	}
	if a.declined || a.ctx.Err() != nil {
		a.decline()
		return nil
	}
	exit := a.prepare()
	if exit == nil {
		exit = a.call()
	}
	return a.conclude(exit)
}

// conclude is the part of run after the handler.
func (a *Attempt) conclude(exit *Exit) *Attempt {
	a.handlerReturned()
	next := a.finish(exit)
	a.end(nil)
	a.emitter.gone.Wait()
	return next
}

// prepare decodes what was stored and sets the causes that the turn is entered with. It returns an exit
// when the turn cannot be entered.
func (a *Attempt) prepare() *Exit {
	if err := a.unseal(); err != nil {
		return &Exit{Kind: ExitPark, Reason: "stored payload cannot be decoded: " + err.Error()}
	}
	t := a.task
	a.interrupt(Causes{
		Steered: t.Nudging > 0, Cancel: t.Turn.Cancel, CancelReason: t.Turn.CancelReason,
		Deadline: !t.Turn.Deadline.IsZero() && !t.EnteredAt.Before(t.Turn.Deadline),
	})
	a.watchDeadline()
	if t.Suspect {
		a.startProbation()
	}
	a.e.stats.entered.Add(1)
	return nil
}

func (a *Attempt) unseal() (err error) {
	id := a.task.ID
	if a.input, err = a.e.decode(place{input, id, ""}, a.input); err != nil {
		return err
	}
	if a.previous, err = a.e.decode(place{input, id, ""}, a.previous); err != nil {
		return err
	}
	a.meta, err = newMetadata(a, a.task.Metadata)
	a.task.Metadata = nil
	return err
}

// call runs the handler; a panic becomes an exit. Nothing stops runtime.Goexit: what is left to do goes on
// in another goroutine.
func (a *Attempt) call() (exit *Exit) {
	exited := false
	defer func() {
		if exited {
			return
		}
		if p := recover(); p != nil {
			exit = panicked(p, debug.Stack())
			return
		}
		go func() { a.e.runAll(a.conclude(nil), nil) }()
	}()
	x := a.fn.Run(a.ctx, a)
	exited = true
	return &x
}

// handlerReturned notes that no code of the handler runs any more.
func (a *Attempt) handlerReturned() {
	a.stopTimers()
	e := a.e
	e.mu.Lock()
	a.mu.Lock()
	a.returned = true
	a.mu.Unlock()
	if e.live[a.task.ID] == a {
		delete(e.live, a.task.ID)
	}
	e.mu.Unlock()
	a.emitter.close()
	close(a.gone)
	if a.task.Suspect {
		e.cleared(a)
	}
}

// detach frees the slot of an attempt whose lease is gone or about to go while its handler still runs.
// Its task is not claimed here again until the handler has returned (O1).
func (a *Attempt) detach() {
	e := a.e
	e.mu.Lock()
	defer e.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.returned || e.running[a.lease.Incarnation] != a {
		return
	}
	delete(e.running, a.lease.Incarnation)
	e.free(a.task.Func)
	e.stuck[a.task.ID]++
}

// lost ends an attempt that may no longer write.
func (a *Attempt) lost(cause error) {
	a.detach()
	a.end(cause)
	a.mu.Lock()
	first := !a.returned && !a.over
	a.over = true
	a.mu.Unlock()
	if first {
		a.resolve(nil)
		time.AfterFunc(leakAfter, a.reportLeak)
	}
}

func (a *Attempt) reportLeak() {
	a.mu.Lock()
	returned := a.returned
	a.mu.Unlock()
	if returned {
		return
	}
	a.e.stats.leaked.Add(1)
	a.Logger().Error("handler has not returned since its context ended", "after", leakAfter)
}

// leave gives back the attempt's slot, or clears its task for entry when it had lost it before.
func (a *Attempt) leave() {
	e := a.e
	e.mu.Lock()
	if e.running[a.lease.Incarnation] == a {
		delete(e.running, a.lease.Incarnation)
		e.free(a.task.Func)
	} else {
		e.unstick(a.task.ID)
	}
	e.mu.Unlock()
	a.resolve(a.ended)
}

// unstick clears a task for entry. e.mu is held.
func (e *Engine) unstick(task string) {
	if e.stuck[task]--; e.stuck[task] <= 0 {
		delete(e.stuck, task)
		wake(e.due)
	}
}

// resolve tells those who wait for the turn that the attempt is over.
func (a *Attempt) resolve(ended *store.Turn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case <-a.done:
	default:
		a.ended = ended
		close(a.done)
	}
}

// Task returns the task as it was when the turn was entered, without its metadata.
func (a *Attempt) Task() *store.Task { return a.task }

// Epoch returns the fencing token of the lease.
func (a *Attempt) Epoch() int64 { return a.lease.Epoch }

// Input returns the JSON of the turn's input.
func (a *Attempt) Input() []byte { return a.input }

// Previous returns the JSON of the input of the turn entered before, or nil.
func (a *Attempt) Previous() []byte { return a.previous }

// Metadata returns the task's metadata.
func (a *Attempt) Metadata() *Metadata { return a.meta }

// Interrupt returns the context that ends on a cooperative request too.
func (a *Attempt) Interrupt() context.Context {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.interruptible == nil {
		a.interruptible, a.fire = context.WithCancelCause(a.ctx)
		a.fireIfCaused()
	}
	return a.interruptible
}

// Pending returns how many inputs wait behind the turn.
func (a *Attempt) Pending() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.pending
}

// Logger returns a logger with the turn's attributes.
func (a *Attempt) Logger() *slog.Logger {
	t := a.task
	return a.e.log.With("task", t.ID, "func", t.Func, "turn", t.Turn.Number, "attempt", t.Turn.Attempt,
		"epoch", a.lease.Epoch, "worker", a.lease.Worker)
}
