// Package engine runs turns: it takes leases from a store, enters handlers, and writes what they leave.
// It is untyped (payloads are JSON) and knows the store and nothing above it.
//
// What runs here, and what may, is decided in three places that start nothing and call nobody: life (an attempt as a
// state machine), slots (what bounds it) and roster (all of them). The other files follow a task: inbox (start), claim
// (lease), enter (run), keeper (heartbeat), pen (checkpoint), emit, interrupt, decide and settle (end), await and tail
// (watch), shutdown.
package engine

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
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
	ErrInvalid      = errors.New("invalid")
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
	cfg     Config
	store   store.Store
	funcs   map[string]*Func
	log     *slog.Logger
	sole    bool          // the store proves that there is one engine: no lease lapses by time
	uptimer store.Uptimer // nil where leases do not lapse while a machine sleeps

	bells    bells
	hub      *hub // wakes those who wait for outcomes
	streams  *hub // wakes those who read streams
	tails    tails
	stats    stats
	troubles troubles
	reads    hindrance // of what callers ask
	writes   hindrance
	loss     atomic.Pointer[error] // the first store.ErrLost; nil: none
	clocks   clocks
	detached tally // operations under way whose callers have gone

	leaving chan struct{}   // closed when the shutdown begins
	over    context.Context // ends when nothing is written any more
	end     context.CancelFunc

	mu         sync.Mutex
	roster     roster
	worker     *registration // nil while not registered
	health     health
	hinted     bool            // the store tells at present of what others write
	missed     int64           // not 0: news were not kept that leases of requests up to this one may have had to hear
	looking    map[string]bool // tasks that are looked at, and whether once more is asked for
	early      []early         // for turns whose lease is on its way here
	goroutines int             // that run handlers or write their ends
	quiet      chan struct{}   // closed when there are none and no lease is under way; nil until shutdown
}

// bells wake the loops of an engine.
type bells struct {
	due   bell // the claim loop
	post  bell // the poll loop
	audit bell // the audit of leases
}

// New returns an engine. It starts nothing.
func New(cfg Config) *Engine {
	e := &Engine{
		cfg: cfg, store: cfg.Store, funcs: make(map[string]*Func, len(cfg.Funcs)),
		bells:   bells{newBell(), newBell(), newBell()},
		looking: map[string]bool{}, hub: newHub(), streams: newHub(), tails: tails{of: map[int64]*tail{}},
		leaving: make(chan struct{}),
		reads:   hindrance{what: "the store cannot be read"}, writes: hindrance{what: "the store takes no writes"},
	}
	e.over, e.end = context.WithCancel(context.Background())
	e.log = guardLog(cfg.Logger, &e.stats.logsDropped)
	_, e.sole = cfg.Store.(store.Exclusive)
	if !e.sole {
		e.uptimer, _ = cfg.Store.(store.Uptimer)
	}
	limits := map[string]int{}
	for i := range cfg.Funcs {
		f := &cfg.Funcs[i]
		e.funcs[f.Name], limits[f.Name] = f, f.MaxRunning
	}
	e.roster = newRoster(newSlots(cfg.MaxRunning, limits, e.bells.due.ring))
	return e
}

// Run claims tasks and runs their turns until ctx ends, then drains (rules H1 to H3). It returns nil
// after a complete shutdown and a *LeftError when handlers did not return. Errors to start with:
// store.ErrStoreInUse; ErrRunning when it has been called before.
func (e *Engine) Run(ctx context.Context) error {
	if !e.become(idle, active) {
		return ErrRunning
	}
	unlock, err := e.lock()
	if err != nil {
		e.become(active, idle)
		return err
	}
	defer unlock()
	return e.serve(ctx)
}

func (e *Engine) become(from, to state) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.roster.state != from {
		return false
	}
	e.roster.state = to
	return true
}

func (e *Engine) lock() (func(), error) {
	if x, ok := e.store.(store.Exclusive); ok && !e.cfg.Watching {
		return x.Lock()
	}
	return func() {}, nil
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
		loops.Go(func() { e.pollLoop(keeping) })
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
	e.end()
	e.allChanged()
	e.detached.wait()
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
	for _, l := range e.roster.leases {
		if l.fn == fn {
			n++
		}
	}
	return n
}

// WorkerID returns the ID of the current registration, or "" while there is none.
func (e *Engine) WorkerID() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.roster.worker
}

// HasStopped reports whether the engine has run and writes nothing any more.
func (e *Engine) HasStopped() bool { return e.over.Err() != nil }

// Draining returns a channel that is closed when the shutdown begins.
func (e *Engine) Draining() <-chan struct{} { return e.leaving }

// raw is a JSON value.
type raw = json.RawMessage
