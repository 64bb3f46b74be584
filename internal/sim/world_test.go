// Package sim runs several engines on one store in virtual time, breaks their stores on purpose, and
// checks what the rules promise: no accepted input is lost, never two handlers at once for one task,
// nobody is told of an outcome that is not stored.
//
// It must run inside a testing/synctest bubble.
package sim

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/pgtest"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/memstore"
	"github.com/perdure/perdure/store/pgstore"
	"github.com/perdure/perdure/store/sqlitestore"
	"github.com/perdure/perdure/store/storetest"
)

// Timing of the engines in a world: short, because virtual time makes heartbeats cheap but not free.
const (
	lease   = 3 * time.Second
	drain   = 2 * time.Second
	restart = 500 * time.Millisecond // from a process's death to the next one's start
	patient = 30 * time.Minute       // how long a caller waits before it counts as lost
)

// World is a store and the processes on it.
type World struct {
	t       *testing.T
	store   store.Store
	wall    *Wall
	decide  func(process int, c storetest.Call) storetest.Fault
	journal *Journal

	deciding sync.Mutex // decide is called by one goroutine at a time

	ctx   context.Context
	end   context.CancelFunc
	calls sync.WaitGroup // callers
	procs sync.WaitGroup

	mu      sync.Mutex
	running []*process // by slot
	next    int        // for callers, in turn
	deaths  int
	delay   time.Duration // of answers that are late
	old     bool          // processes that are started bind the func Renamed under its old name
	codec   *codec
}

type process struct {
	eng    *perdure.Engine
	faulty *storetest.Faulty
	stop   context.CancelFunc
}

// Place is where a world's store lives.
type Place struct {
	Open  func(t *testing.T, wall *Wall) store.Store
	Steps bool // the wall clock may go forth by more than a lease: no lease lapses by it
}

// Wall is the clock of the machines in a world, which may be set.
type Wall struct{ off atomic.Int64 }

// Now returns the time.
func (w *Wall) Now() time.Time { return time.Now().Add(time.Duration(w.off.Load())) }

// Step sets the clock forth, or back.
func (w *Wall) Step(by time.Duration) { w.off.Add(int64(by)) }

// newWorld returns a world at a place, with the given number of process slots, each of which is started again when its
// process dies. decide breaks calls to the store, given the slot; late is how late answers are that are late.
func newWorld(t *testing.T, at Place, slots int, late time.Duration, decide func(*World) func(slot int, c storetest.Call) storetest.Fault) *World {
	w := &World{t: t, wall: &Wall{}, running: make([]*process, slots), delay: late, old: true, codec: &codec{}}
	w.store = at.Open(t, w.wall)
	w.journal = newJournal(t, w.store)
	w.decide = decide(w)
	w.ctx, w.end = context.WithCancel(context.WithoutCancel(t.Context()))
	for slot := range slots {
		w.start(slot)
	}
	return w
}

// maxRunning is small enough for tasks to wait.
const maxRunning = 6

func (w *World) start(slot int) {
	p := &process{faulty: storetest.NewFaulty(w.store, func(c storetest.Call) storetest.Fault {
		if c.Op == "Lock" || c.Op == "Listen" || c.Op == "Close" {
			return storetest.None // an OS lock has no network to fail on
		}
		w.deciding.Lock()
		defer w.deciding.Unlock()
		return w.decide(slot, c)
	})}
	w.mu.Lock()
	p.faulty.Delay = w.delay
	old := w.old
	w.mu.Unlock()
	opts := &perdure.Options{
		Funcs: w.journal.bindings(old), Lease: lease, Drain: drain, Logger: slog.New(slog.DiscardHandler), MaxRunning: maxRunning,
		Codec: w.codec,
	}
	var err error
	if p.eng, err = perdure.New(p.faulty.Store(), opts); err != nil {
		w.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(w.ctx)
	p.stop = stop
	w.mu.Lock()
	w.running[slot] = p
	w.mu.Unlock()
	w.procs.Go(func() { w.live(ctx, slot, p) })
}

// OnMemory is the store in memory.
var OnMemory = Place{Open: func(*testing.T, *Wall) store.Store { return memstore.New() }, Steps: true}

// OnSQLite is a file of its own. It lives in the bubble in which it is opened. It is not listened to:
// looking for the writes of other processes twenty times a virtual second takes most of a run.
var OnSQLite = Place{Steps: true, Open: func(t *testing.T, wall *Wall) store.Store {
	st, err := sqlitestore.Open(t.Context(), filepath.Join(t.TempDir(), "tasks.db"), &sqlitestore.Options{UnsafeNoSync: true, UnsafeClock: wall.Now})
	if err != nil {
		t.Fatal(err)
	}
	return unheard{st}
}}

// unheard is a file of which nobody is told what others write.
type unheard struct{ *sqlitestore.Store }

func (unheard) Listen(ctx context.Context, _ func(store.Hint)) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

// OnPostgres is a schema of its own. The server is started by the call, which must not be within a bubble.
func OnPostgres(t *testing.T) Place {
	url := pgtest.URL(t)
	schema := pgtest.Schema(t, url)
	return Place{Open: func(t *testing.T, wall *Wall) store.Store {
		pgtest.Empty(t, url, schema)
		st, err := pgstore.Open(t.Context(), url, &pgstore.Options{Schema: schema, PollOnly: true, UnsafeClock: wall.Now})
		if err != nil {
			t.Fatal(err)
		}
		return st
	}}
}

// live runs a process, and starts the next in its slot when it has died or was stopped.
func (w *World) live(ctx context.Context, slot int, p *process) {
	err := p.eng.Run(ctx)
	p.stop()
	var left *perdure.LeftError
	if err != nil && !errors.Is(err, perdure.ErrClosed) && !errors.As(err, &left) {
		w.t.Errorf("engine ended with %v", err)
	}
	w.journal.disturbed()
	w.mu.Lock()
	w.deaths++
	w.mu.Unlock()
	if w.ctx.Err() != nil {
		return
	}
	<-time.After(restart)
	if w.ctx.Err() == nil {
		w.start(slot)
	}
}

// Crash kills the process in a slot.
func (w *World) Crash(slot int) { w.at(slot).faulty.Kill() }

// Shutdown stops the process in a slot as a deployment does.
func (w *World) Shutdown(slot int) { w.at(slot).stop() }

// Rename makes processes that are started from now on know the func Renamed under its new name only, or both again.
func (w *World) Rename(old bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.old = old
}

func (w *World) at(slot int) *process {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.running[slot]
}

// client returns the client of some process; callers are spread over them.
func (w *World) client() perdure.Client {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.next++
	return w.running[w.next%len(w.running)].eng.Client()
}

// Wait waits for all callers, checks the world, and ends it.
func (w *World) Wait() {
	w.t.Helper()
	w.calls.Wait()
	w.calm()
	w.Advance(2 * lease) // what was released, or is to be swept away, is
	w.journal.check()
	w.idle()
	w.end()
	w.procs.Wait()
	if err := w.store.Close(); err != nil {
		w.t.Error(err)
	}
}

// calm has nothing break any more.
func (w *World) calm() {
	w.deciding.Lock()
	defer w.deciding.Unlock()
	w.decide = func(int, storetest.Call) storetest.Fault { return storetest.None }
}

// idle checks that no engine counts anything as running any more, and that each takes as many tasks at once as it may:
// slots do not leak.
func (w *World) idle() {
	w.t.Helper()
	for slot := range w.running {
		eng := w.at(slot).eng
		if err := eng.Ready(); err != nil {
			w.t.Errorf("process %d is not ready although nothing is broken any more: %v", slot, err)
			continue
		}
		for _, c := range eng.Counters() {
			if (c.Name == "turns_running" || c.Name == "callers_gone") && c.Value != 0 {
				w.t.Errorf("slots: process %d counts %d %s when nothing runs", slot, c.Value, c.Name)
			}
		}
		w.fill(eng.Client(), slot)
	}
}

// fill starts, at a process where nothing runs, as many tasks at once as it has slots: none has to wait for another.
func (w *World) fill(c perdure.Client, slot int) {
	const takes = 600 * time.Millisecond
	ctx, cancel := context.WithTimeout(w.ctx, 2*takes-time.Millisecond)
	defer cancel()
	var tasks []string
	for _, fn := range []string{Job, Job, Solo, Talk, Haste, Rush}[:maxRunning] {
		a, err := c.Start(ctx, &perdure.StartRequest{Func: fn, Input: Script{Steps: 1, Pause: takes, Finish: true}.json()})
		if err != nil {
			w.t.Errorf("slots: a task of %s at process %d, where nothing runs: %v", fn, slot, err)
			return
		}
		tasks = append(tasks, a.TaskID)
	}
	for _, task := range tasks {
		if _, err := c.Outcome(ctx, perdure.TurnQuery{TaskID: task}); err != nil {
			w.t.Errorf("slots: %d tasks at process %d, where nothing ran and as many may run: %v", maxRunning, slot, err)
			return
		}
	}
}

// tryAgain reports whether a caller should make its call again, with the same IDs.
func tryAgain(err error) bool {
	return errors.Is(err, perdure.ErrUnavailable) || errors.Is(err, perdure.ErrShuttingDown) ||
		errors.Is(err, perdure.ErrClosed) || errors.Is(err, storetest.ErrFault) || errors.Is(err, context.DeadlineExceeded)
}

// call makes a call at one process after another until its result is known. hasty callers give up each try soon, and
// come again.
func call[T any](w *World, hasty time.Duration, do func(context.Context, perdure.Client) (T, error)) (T, error) {
	began := time.Now()
	for {
		ctx, cancel := context.WithTimeout(w.ctx, min(time.Minute, hasty))
		v, err := do(ctx, w.client())
		cancel()
		if err == nil || !tryAgain(err) {
			return v, err
		}
		hasty = max(2*hasty, hasty)
		if time.Since(began) > patient {
			w.t.Errorf("a call was not answered for %v: %v", patient, err)
			return v, err
		}
		<-time.After(50 * time.Millisecond)
	}
}

// Start gives a task an input. A caller in the background waits for its outcome and journals it.
func (w *World) Start(fn, task, input string, s Script, opts ...func(*perdure.StartRequest)) error {
	req := &perdure.StartRequest{Func: fn, TaskID: task, InputID: input, Input: s.json()}
	for _, o := range opts {
		o(req)
	}
	w.journal.offering(task, input)
	a, err := call(w, s.hurry(), func(ctx context.Context, c perdure.Client) (*perdure.Accepted, error) { return c.Start(ctx, req) })
	if err != nil {
		return err
	}
	w.journal.accepted(a)
	w.calls.Go(func() {
		q := perdure.TurnQuery{TaskID: task, Incarnation: a.Incarnation, Turn: a.Turn}
		for {
			o, err := call(w, time.Minute, func(ctx context.Context, c perdure.Client) (*perdure.Outcome, error) { return c.Outcome(ctx, q) })
			if errors.Is(err, perdure.ErrParked) && w.unparks() {
				w.unpark(task)
				continue
			}
			w.journal.told(a, o, err)
			return
		}
	})
	return nil
}

// unparks reports whether there is still an operator who gives parked tasks another chance.
func (w *World) unparks() bool { return w.ctx.Err() == nil }

// unpark gives a parked task another chance, once it has been looked at.
func (w *World) unpark(task string) {
	<-time.After(time.Second)
	w.journal.disturbed()
	_, err := call(w, time.Minute, func(ctx context.Context, c perdure.Client) (perdure.Status, error) { return c.Resume(ctx, task, nil) })
	tolerate(w, err)
}

// Cancel, Terminate and Delete act on a task until that is known to have happened.
func (w *World) Cancel(task string) error {
	return w.signal(time.Minute, func(ctx context.Context, c perdure.Client, request string) error {
		_, err := c.Cancel(ctx, task, &perdure.CancelOptions{RequestID: request})
		return err
	})
}

// signal makes one operation, with one request ID however often it has to be sent.
func (w *World) signal(hasty time.Duration, do func(context.Context, perdure.Client, string) error) error {
	request := w.journal.requestID()
	_, err := call(w, hasty, func(ctx context.Context, c perdure.Client) (bool, error) { return true, do(ctx, c, request) })
	return err
}

// CancelInput cancels the turn of one input.
func (w *World) CancelInput(task, input string) error {
	w.journal.disturbed() // the turn that it steered may be entered again
	return w.signal(time.Minute, func(ctx context.Context, c perdure.Client, request string) error {
		_, err := c.Cancel(ctx, task, &perdure.CancelOptions{InputID: input, RequestID: request})
		return err
	})
}

// Terminate ends a task by force.
func (w *World) Terminate(task string) error {
	return w.signal(time.Millisecond, func(ctx context.Context, c perdure.Client, request string) error {
		_, err := c.Terminate(ctx, task, &perdure.TerminateOptions{Reason: "test", RequestID: request})
		return err
	})
}

// Delete removes a task.
func (w *World) Delete(task string) error {
	return w.signal(time.Millisecond, func(ctx context.Context, c perdure.Client, request string) error {
		return c.Delete(ctx, task, &perdure.DeleteOptions{RequestID: request})
	})
}

// Advance lets virtual time pass.
func (w *World) Advance(d time.Duration) { <-time.After(d) }
