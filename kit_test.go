package perdure_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/memstore"
	"github.com/perdure/perdure/store/storetest"
)

// turnOf is the turn of the funcs of these tests: a number goes in, a number comes out.
type turnOf = perdure.Turn[int, int]

type handler = func(context.Context, *turnOf) (int, error)

type options = perdure.FuncOptions[int]

// echo returns its input.
func echo(_ context.Context, turn *turnOf) (int, error) { return turn.Input(), nil }

// stay waits for the interrupt and returns its error.
func stay(_ context.Context, turn *turnOf) (int, error) {
	<-turn.Interrupt().Done()
	return 0, context.Cause(turn.Interrupt())
}

// server is an engine that runs in a bubble.
type server struct {
	t    *testing.T
	eng  *perdure.Engine
	c    perdure.Client
	logs *logs
	end  context.CancelFunc
	done chan error
}

// logs keeps what an engine says.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// serve starts an engine and waits until it is ready. It is shut down with the test unless it was before.
func serve(t *testing.T, st store.Store, opts perdure.Options, funcs ...perdure.Binding) *server {
	t.Helper()
	s := &server{t: t, logs: &logs{}, done: make(chan error, 1)}
	opts.Funcs = funcs
	opts.Logger = slog.New(slog.NewTextHandler(s.logs, nil))
	var err error
	if s.eng, err = perdure.New(st, &opts); err != nil {
		t.Fatal(err)
	}
	s.c = s.eng.Client()
	ctx, end := context.WithCancel(context.WithoutCancel(t.Context()))
	s.end = end
	go func() { s.done <- s.eng.Run(ctx) }()
	t.Cleanup(func() {
		end()
		<-s.done
		synctest.Wait()
	})
	synctest.Wait()
	return s
}

// stop shuts the engine down and returns what Run did.
func (s *server) stop() error {
	s.end()
	err := <-s.done
	s.done <- err
	return err
}

func (s *server) counter(name string) int64 {
	synctest.Wait() // a slot is given back a moment after the outcome is told
	for _, c := range s.eng.Counters() {
		if c.Name == name {
			return c.Value
		}
	}
	s.t.Fatalf("no counter %s", name)
	return 0
}

// in runs a test in a bubble of virtual time with an engine on memory.
func in(t *testing.T, opts perdure.Options, test func(t *testing.T, s *server), funcs ...perdure.Binding) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) { test(t, serve(t, memstore.New(), opts, funcs...)) })
}

// faults breaks calls of a store while it is set.
type faults struct {
	mu     sync.Mutex
	decide func(storetest.Call) storetest.Fault
}

func (f *faults) set(decide func(storetest.Call) storetest.Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.decide = decide
}

// all makes every call fail in one way.
func (f *faults) all(fault storetest.Fault) {
	f.set(func(storetest.Call) storetest.Fault { return fault })
}

// only makes the next call of a method fail.
func (f *faults) only(op string, fault storetest.Fault) {
	used := false
	f.set(func(c storetest.Call) storetest.Fault {
		if c.Op != op || used {
			return storetest.None
		}
		used = true
		return fault
	})
}

// faulty wraps a store.
func faulty(st store.Store) (store.Store, *faults) {
	f := &faults{}
	return storetest.NewFaulty(st, func(c storetest.Call) storetest.Fault {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.decide == nil {
			return storetest.None
		}
		return f.decide(c)
	}).Store(), f
}

func after(d time.Duration) { <-time.After(d) }

type fn = perdure.Func[int, int]

func start(t *testing.T, c perdure.Client, f *fn, n int, id string) *perdure.Handle[int] {
	t.Helper()
	return startWith(t, c, f, n, &perdure.StartOptions{TaskID: id})
}

func startWith(t *testing.T, c perdure.Client, f *fn, n int, opts *perdure.StartOptions) *perdure.Handle[int] {
	t.Helper()
	h, err := f.Start(t.Context(), c, n, opts)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func task(t *testing.T, c perdure.Client, id string) *perdure.Info {
	t.Helper()
	info, err := c.Task(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// ends fails the test unless the handle's turn ends, or has ended, as wanted.
func ends(t *testing.T, rule string, h *perdure.Handle[int], want perdure.Status) perdure.Result[int] {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	r, err := h.Result(ctx)
	if r.Status != want {
		t.Errorf("%s: turn %d of %s: got %q (%v), want %s", rule, h.Turn(), h.TaskID(), r.Status, err, want)
	}
	return r
}

// is fails the test unless got is want.
func is[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// fails fails the test unless err is want.
func fails(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
}

// box carries a value from a handler to its test.
type box[T any] struct {
	mu sync.Mutex
	v  T
}

func (b *box[T]) set(v T) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.v = v
}

func (b *box[T]) get() T {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.v
}

// attach returns the handle of a task's current (else last) turn.
func attach[In, Out any](t *testing.T, c perdure.Client, f *perdure.Func[In, Out], id string) *perdure.Handle[Out] {
	t.Helper()
	h, err := f.Attach(t.Context(), c, id, nil)
	if err != nil {
		t.Fatal(err)
	}
	return h
}
