// Package engine runs turns: it takes leases from a store, enters handlers, and writes what they leave.
// It is untyped (payloads are JSON) and knows the store and nothing above it.
//
// The files follow a task: inbox (start), claim (lease), attempt (run), keeper (heartbeat), checkpoint,
// interrupt, boundary (end), wake (watch), shutdown.
package engine

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/perdure/perdure/store"
)

// Errors of the engine; those of package store come through as they are.
var (
	ErrShuttingDown = errors.New("engine is shutting down")
	ErrUnavailable  = errors.New("store unavailable")
	ErrTerminated   = errors.New("turn terminated")
	ErrInterrupted  = errors.New("turn interrupted")
	ErrCancelled    = errors.New("turn cancelled")
	ErrParked       = errors.New("task parked")
	ErrRunning      = errors.New("engine is already running")
	ErrTooLarge     = errors.New("too large")
)

// Func is a func bound to its handler.
type Func struct {
	Name           string
	Settings       store.Settings
	MaxRunning     int // 0: no limit of its own
	AutoCheckpoint time.Duration
	SteerGrace     time.Duration // how long a steer alone does not fire the interrupt
	Run            func(ctx context.Context, a *Attempt) Exit
	Retryable      func(error) bool // nil: every error
}

// Codec encodes payloads before they are stored. Its methods are called concurrently.
type Codec interface {
	// Encode returns what is stored for a payload. The label says where it belongs; Decode gets the same.
	Encode(label string, plain []byte) ([]byte, error)
	Decode(label string, stored []byte) ([]byte, error)
	// Digests identifies the canonical JSON of an input under every key held, the current one first.
	Digests(canonical []byte) []store.Digest
}

// Config is what an engine needs.
type Config struct {
	Store       store.Store
	Funcs       []Func
	Codec       Codec
	Logger      *slog.Logger
	MaxRunning  int
	Lease       time.Duration
	Drain       time.Duration
	MaxOutput   int
	MaxMetadata int
	MaxEvent    int
	EmitEvents  int // of one turn that may wait to be written
	EmitBytes   int
	Worker      store.WorkerInfo
	Watching    bool // Run only watches: it is no worker
}

// Engine runs turns. Its methods may be called concurrently.
type Engine struct {
	cfg   Config
	store store.Store
	funcs map[string]*Func
	log   *slog.Logger
	sole  bool // the store proves that there is one engine: no lease lapses by time

	hub     *hub // wakes those who wait for outcomes
	streams *hub // wakes those who read streams
	tails   tails
	due     chan struct{} // wakes the claim loop; capacity 1
	post    chan struct{} // wakes the mail loop; capacity 1
	audit   chan struct{} // wakes the audit; capacity 1
	stats   stats

	leaving chan struct{} // closed when the shutdown begins

	mu       sync.Mutex
	state    state
	worker   *worker             // nil while not registered
	running  map[int64]*Attempt  // by incarnation: turns that this engine holds the lease of
	live     map[string]*Attempt // by task ID: handlers that have not returned
	stuck    map[string]int      // by task ID: how many of them have lost their lease
	reserved int                 // slots promised to operations under way
	busy     map[string]int      // slots taken or promised, by func
	waiting  map[string]bool     // funcs that may have due tasks waiting for a slot
	probing  *Attempt            // the suspect that was entered last (R4)
	requests int64
	inflight map[int64]bool // requests that may be given a lease
	early    []news         // for turns whose lease is on its way here
	swept    bool           // the first claim pass is done
	healthy  bool           // the last heartbeat was taken
	failing  bool           // the last heartbeat was not taken
	hinted   bool           // the store tells at present of what others write

	goroutines int           // that run handlers
	quiet      chan struct{} // closed when there are none and no lease is under way; nil until shutdown
}

type state int

const (
	idle state = iota
	active
	draining
	stopped
)

// worker is one registration of this engine. Its context ends when it may no longer write.
type worker struct {
	id     string
	ctx    context.Context
	cancel context.CancelCauseFunc
}

// New returns an engine. It starts nothing.
func New(cfg Config) *Engine {
	e := &Engine{
		cfg: cfg, store: cfg.Store, log: cfg.Logger, funcs: make(map[string]*Func, len(cfg.Funcs)),
		hub: newHub(), streams: newHub(), tails: tails{of: map[int64]*tail{}}, due: make(chan struct{}, 1), post: make(chan struct{}, 1), audit: make(chan struct{}, 1),
		leaving: make(chan struct{}),
		running: map[int64]*Attempt{}, live: map[string]*Attempt{}, stuck: map[string]int{}, busy: map[string]int{}, waiting: map[string]bool{}, inflight: map[int64]bool{},
	}
	_, e.sole = cfg.Store.(store.Exclusive)
	for i := range cfg.Funcs {
		e.funcs[cfg.Funcs[i].Name] = &cfg.Funcs[i]
	}
	return e
}

// Run claims tasks and runs their turns until ctx ends, then drains (rules H1 to H3). It returns nil
// after a complete shutdown and a *LeftError when handlers did not return. Errors to start with:
// store.ErrStoreInUse; ErrRunning when it has been called before.
func (e *Engine) Run(ctx context.Context) error {
	if err := e.activate(); err != nil {
		return err
	}
	unlock, err := e.lock()
	if err != nil {
		e.setState(idle)
		return err
	}
	defer unlock()
	return e.serve(ctx)
}

func (e *Engine) activate() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.state != idle {
		return ErrRunning
	}
	e.state = active
	return nil
}

func (e *Engine) lock() (func(), error) {
	if x, ok := e.store.(store.Exclusive); ok && !e.cfg.Watching {
		return x.Lock()
	}
	return func() {}, nil
}

func (e *Engine) setState(s state) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.state = s
}

// serve runs the loops until ctx ends or the store is closed, then shuts down.
func (e *Engine) serve(ctx context.Context) error {
	base, end := context.WithCancelCause(context.WithoutCancel(ctx)) // what may be written until the very end
	defer end(nil)
	keeping, endKeeping := context.WithCancel(base)
	defer endKeeping()
	serving, stop := context.WithCancelCause(ctx)
	defer stop(nil)

	var loops, keeper sync.WaitGroup
	if e.cfg.Watching {
		keeper.Go(func() { e.attend(keeping, stop) })
	} else {
		keeper.Go(func() { e.keep(keeping, base, stop) })
		loops.Go(func() { e.claimLoop(serving) })
		loops.Go(func() { e.mailLoop(keeping) })
		loops.Go(func() { e.sweepLoop(keeping) })
	}
	loops.Go(func() { e.listen(keeping, stop) })

	<-serving.Done()
	left := e.drain()
	endKeeping()
	keeper.Wait()
	e.goodbye(base)
	end(store.ErrLeaseLost)
	loops.Wait()
	if left == nil {
		within(e.quiet, lastWrites)
	}
	for _, a := range e.attempts() {
		a.resolve(nil)
	}
	e.allChanged()
	if cause := context.Cause(serving); errors.Is(cause, store.ErrClosed) {
		return cause
	}
	return left
}

// newWorkerID returns the ID of a new registration; IDs are never used again.
func newWorkerID() string { return uuid.Must(uuid.NewV7()).String() }

// Func returns a bound func.
func (e *Engine) Func(name string) (*Func, bool) {
	f, ok := e.funcs[name]
	return f, ok
}

// Running returns how many turns of a func are running here.
func (e *Engine) Running(fn string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for _, a := range e.running {
		if a.task.Func == fn {
			n++
		}
	}
	return n
}

// WorkerID returns the ID of the current registration, or "" while there is none.
func (e *Engine) WorkerID() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.worker == nil {
		return ""
	}
	return e.worker.id
}

// Draining returns a channel that is closed when the shutdown begins.
func (e *Engine) Draining() <-chan struct{} { return e.leaving }

// Ready reports why the engine is not ready to take work; nil when it is (rule R5).
func (e *Engine) Ready() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.state == draining || e.state == stopped:
		return ErrShuttingDown
	case e.state == idle:
		return errors.New("engine is not running")
	case !e.healthy:
		return ErrUnavailable
	case !e.swept:
		return errors.New("first sweep is not done")
	}
	return nil
}

func (e *Engine) encode(at place, plain []byte) ([]byte, error) {
	if e.cfg.Codec == nil || plain == nil {
		return plain, nil
	}
	return e.cfg.Codec.Encode(at.label(), plain)
}

func (e *Engine) decode(at place, stored []byte) ([]byte, error) {
	if e.cfg.Codec == nil || stored == nil {
		return stored, nil
	}
	return e.cfg.Codec.Decode(at.label(), stored)
}

// place says where a payload belongs: its kind, its task, and for metadata its key.
type place struct{ kind, task, key string }

// Kinds of payloads.
const (
	input    = "input"
	output   = "output"
	metadata = "metadata"
	event    = "event"
)

// label is the place for the codec. No task ID has a slash.
func (p place) label() string {
	if p.key == "" {
		return p.kind + ":" + p.task
	}
	return p.kind + ":" + p.task + "/" + p.key
}

// wake makes a receiver of c run once more.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// raw is a JSON value.
type raw = json.RawMessage
