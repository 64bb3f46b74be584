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
	"testing"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/pgtest"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/memstore"
	"github.com/perdure/perdure/store/pgstore"
	"github.com/perdure/perdure/store/rules"
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
}

type process struct {
	eng    *perdure.Engine
	faulty *storetest.Faulty
	stop   context.CancelFunc
	ready  chan struct{}
}

// New returns a world on a store, with the given number of process slots, each of which is started again
// when its process dies. decide breaks calls to the store, given the slot.
func New(t *testing.T, st store.Store, slots int, decide func(slot int, c storetest.Call) storetest.Fault) *World {
	w := &World{t: t, store: st, decide: decide, journal: newJournal(t), running: make([]*process, slots)}
	w.ctx, w.end = context.WithCancel(context.WithoutCancel(t.Context()))
	for slot := range slots {
		w.start(slot)
	}
	return w
}

func (w *World) start(slot int) {
	p := &process{faulty: storetest.NewFaulty(w.store, func(c storetest.Call) storetest.Fault {
		if c.Op == "Lock" || c.Op == "Listen" {
			return storetest.None // an OS lock has no network to fail on
		}
		w.deciding.Lock()
		defer w.deciding.Unlock()
		return w.decide(slot, c)
	})}
	p.faulty.Delay = lease + lease/2
	opts := &perdure.Options{
		Funcs: w.journal.bindings(), Lease: lease, Drain: drain, Logger: slog.New(slog.DiscardHandler), MaxRunning: 50,
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

// OnMemory and OnSQLite open the stores of a world.
func OnMemory(*testing.T) store.Store { return memstore.New() }

// OnSQLite opens a file of its own. It lives in the bubble in which it is opened. It is not listened to:
// looking for the writes of other processes twenty times a virtual second takes most of a run.
func OnSQLite(t *testing.T) store.Store {
	st, err := sqlitestore.Open(t.Context(), filepath.Join(t.TempDir(), "tasks.db"), &sqlitestore.Options{UnsafeNoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	return struct {
		store.Store
		store.Exclusive
	}{st, st}
}

// OnPostgres opens a schema of its own. The server is started by the first call, which must not be within a bubble.
func OnPostgres(t *testing.T) func(*testing.T) store.Store {
	url := pgtest.URL(t)
	return func(t *testing.T) store.Store {
		st, err := pgstore.Open(t.Context(), url, &pgstore.Options{Schema: pgtest.Schema(t, url), PollOnly: true, UnsafeClock: rules.Now})
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
}

// live runs a process, and starts the next in its slot when it has died or was stopped.
func (w *World) live(ctx context.Context, slot int, p *process) {
	err := p.eng.Run(ctx)
	p.stop()
	var left *perdure.LeftError
	if err != nil && !errors.Is(err, perdure.ErrClosed) && !errors.As(err, &left) {
		w.t.Errorf("engine ended with %v", err)
	}
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
	w.journal.check(w.store)
	w.end()
	w.procs.Wait()
	if err := w.store.Close(); err != nil {
		w.t.Error(err)
	}
}

// tryAgain reports whether a caller should make its call again, with the same IDs.
func tryAgain(err error) bool {
	return errors.Is(err, perdure.ErrUnavailable) || errors.Is(err, perdure.ErrShuttingDown) ||
		errors.Is(err, perdure.ErrClosed) || errors.Is(err, storetest.ErrFault) || errors.Is(err, context.DeadlineExceeded)
}

// call makes a call at one process after another until its result is known.
func call[T any](w *World, do func(context.Context, perdure.Client) (T, error)) (T, error) {
	began := time.Now()
	for {
		ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
		v, err := do(ctx, w.client())
		cancel()
		if err == nil || !tryAgain(err) {
			return v, err
		}
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
	a, err := call(w, func(ctx context.Context, c perdure.Client) (*perdure.Accepted, error) { return c.Start(ctx, req) })
	if err != nil {
		return err
	}
	w.journal.accepted(a)
	w.calls.Go(func() {
		q := perdure.TurnQuery{TaskID: task, Incarnation: a.Incarnation, Turn: a.Turn}
		o, err := call(w, func(ctx context.Context, c perdure.Client) (*perdure.Outcome, error) { return c.Outcome(ctx, q) })
		w.journal.told(a, o, err)
	})
	return nil
}

// Cancel, Terminate and Delete act on a task until that is known to have happened.
func (w *World) Cancel(task string) error {
	_, err := call(w, func(ctx context.Context, c perdure.Client) (perdure.Status, error) { return c.Cancel(ctx, task, nil) })
	return err
}

// CancelInput cancels the turn of one input.
func (w *World) CancelInput(task, input string) error {
	_, err := call(w, func(ctx context.Context, c perdure.Client) (perdure.Status, error) {
		return c.Cancel(ctx, task, &perdure.CancelOptions{InputID: input})
	})
	return err
}

// Terminate ends a task by force.
func (w *World) Terminate(task string) error {
	_, err := call(w, func(ctx context.Context, c perdure.Client) (perdure.Status, error) {
		return c.Terminate(ctx, task, &perdure.TerminateOptions{Reason: "test"})
	})
	return err
}

// Delete removes a task.
func (w *World) Delete(task string) error {
	_, err := call(w, func(ctx context.Context, c perdure.Client) (bool, error) { return true, c.Delete(ctx, task, nil) })
	return err
}

// Advance lets virtual time pass.
func (w *World) Advance(d time.Duration) { <-time.After(d) }
