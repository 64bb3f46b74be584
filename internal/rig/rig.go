// Package rig is what tests of the engine stand on: an engine in a bubble of virtual time, a store that fails on
// demand, and a func that takes a number and returns one.
package rig

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

// What the funcs of these tests are made of.
type (
	Turn    = perdure.Turn[int, int]
	Handler = perdure.Handler[int, int]
	Options = perdure.FuncOptions[int]
	Func    = perdure.Func[int, int]
)

// Echo returns its input.
func Echo(_ context.Context, turn *Turn) (int, error) { return turn.Input(), nil }

// Stay waits for the interrupt and returns its error.
func Stay(_ context.Context, turn *Turn) (int, error) {
	<-turn.Interrupt().Done()
	return 0, context.Cause(turn.Interrupt())
}

// Server is an engine that runs in a bubble.
type Server struct {
	Engine *perdure.Engine
	Client perdure.Client
	Logs   *Logs

	t    *testing.T
	end  context.CancelFunc
	done chan error
}

// Logs keeps what an engine says.
type Logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *Logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *Logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// Serve starts an engine and waits until it is ready. It is shut down with the test unless it was before. The logger of
// the options is replaced by one that keeps what is said, unless there is one.
func Serve(t *testing.T, st store.Store, opts perdure.Options, funcs ...perdure.Binding) *Server {
	t.Helper()
	s := &Server{t: t, Logs: &Logs{}, done: make(chan error, 1)}
	opts.Funcs = funcs
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.NewTextHandler(s.Logs, nil))
	}
	var err error
	if s.Engine, err = perdure.New(st, &opts); err != nil {
		t.Fatal(err)
	}
	s.Client = s.Engine.Client()
	ctx, end := context.WithCancel(context.WithoutCancel(t.Context()))
	s.end = end
	go func() { s.done <- s.Engine.Run(ctx) }()
	t.Cleanup(func() {
		end()
		<-s.done
		synctest.Wait()
	})
	synctest.Wait()
	return s
}

// End begins the shutdown, and does not wait for it.
func (s *Server) End() { s.end() }

// Ended waits until the engine has ended by itself, and returns what Run did.
func (s *Server) Ended() error {
	err := <-s.done
	s.done <- err
	return err
}

// Stop shuts the engine down and returns what Run did.
func (s *Server) Stop() error {
	s.end()
	return s.Ended()
}

// Counter returns one of the engine's figures.
func (s *Server) Counter(name string) int64 {
	synctest.Wait() // a slot is given back a moment after the outcome is told
	for _, c := range s.Engine.Counters() {
		if c.Name == name {
			return c.Value
		}
	}
	s.t.Fatalf("no counter %s", name)
	return 0
}

// In runs a test in a bubble of virtual time with an engine on memory.
func In(t *testing.T, opts perdure.Options, test func(t *testing.T, s *Server), funcs ...perdure.Binding) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) { test(t, Serve(t, memstore.New(), opts, funcs...)) })
}

// Faults breaks calls of a store while it is set.
type Faults struct {
	mu     sync.Mutex
	decide func(storetest.Call) storetest.Fault
}

// Set says what goes wrong with each call; nil: nothing.
func (f *Faults) Set(decide func(storetest.Call) storetest.Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.decide = decide
}

// All makes every call fail in one way.
func (f *Faults) All(fault storetest.Fault) {
	f.Set(func(storetest.Call) storetest.Fault { return fault })
}

// Only makes the next call of a method fail.
func (f *Faults) Only(op string, fault storetest.Fault) {
	used := false
	f.Set(func(c storetest.Call) storetest.Fault {
		if c.Op != op || used {
			return storetest.None
		}
		used = true
		return fault
	})
}

// Faulty wraps a store.
func Faulty(st store.Store) (store.Store, *Faults) {
	f := &Faults{}
	return storetest.NewFaulty(st, func(c storetest.Call) storetest.Fault {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.decide == nil {
			return storetest.None
		}
		return f.decide(c)
	}).Store(), f
}

// After lets virtual time pass.
func After(d time.Duration) { <-time.After(d) }

// Start gives a task a number.
func Start(t *testing.T, c perdure.Client, f *Func, n int, id string) *perdure.Handle[int] {
	t.Helper()
	return StartWith(t, c, f, n, &perdure.StartOptions{TaskID: id})
}

// StartWith is Start with options.
func StartWith(t *testing.T, c perdure.Client, f *Func, n int, opts *perdure.StartOptions) *perdure.Handle[int] {
	t.Helper()
	h, err := f.Start(t.Context(), c, n, opts)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// Task returns a task as it is now.
func Task(t *testing.T, c perdure.Client, id string) *perdure.Info {
	t.Helper()
	info, err := c.Task(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// Ends fails the test unless the handle's turn ends, or has ended, as wanted.
func Ends(t *testing.T, rule string, h *perdure.Handle[int], want perdure.Status) perdure.Result[int] {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	r, err := h.Result(ctx)
	if r.Status != want {
		t.Errorf("%s: turn %d of %s: got %q (%v), want %s", rule, h.Turn(), h.TaskID(), r.Status, err, want)
	}
	return r
}

// Is fails the test unless got is want.
func Is[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// Fails fails the test unless err is want.
func Fails(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
}

// Box carries a value from a handler to its test.
type Box[T any] struct {
	mu sync.Mutex
	v  T
}

// Set puts a value into the box.
func (b *Box[T]) Set(v T) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.v = v
}

// Change replaces what is in the box.
func (b *Box[T]) Change(f func(T) T) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.v = f(b.v)
}

// Get returns what is in the box.
func (b *Box[T]) Get() T {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.v
}

// Attach returns the handle of a task's current (else last) turn.
func Attach[In, Out any](t *testing.T, c perdure.Client, f *perdure.Func[In, Out], id string) *perdure.Handle[Out] {
	t.Helper()
	h, err := f.Attach(t.Context(), c, id, nil)
	if err != nil {
		t.Fatal(err)
	}
	return h
}
