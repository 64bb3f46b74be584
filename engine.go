package perdure

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"time"

	"github.com/perdure/perdure/internal/engine"
	"github.com/perdure/perdure/store"
)

// Options are the options of an engine. The zero value of each field is its default.
type Options struct {
	// Funcs are the funcs that this engine runs. Tasks of others are left alone (R3).
	Funcs []Binding
	// Logger gets what the engine has to say: never an input, an output or a secret. Default: slog.Default().
	Logger *slog.Logger
	// WatchOnly makes Run listen to what others write, and run nothing: for processes that start, steer and watch
	// tasks that others run. Such an engine is no worker, and takes no lock. Funcs are those whose inputs it checks.
	WatchOnly bool
	// MaxRunning bounds the turns that run at once: default 1,000. A start beyond it is durable and
	// pending, and runs when a slot is free.
	MaxRunning int
	// MaxRecoveries is the default of FuncOptions.MaxRecoveries: default 20.
	MaxRecoveries int
	// Lease is how long the engine may be silent before others take its tasks: default 15 s. It is
	// renewed three times as often (O3).
	Lease time.Duration
	// Drain is how long Run waits for turns to end once its context has: default 25 s (H1).
	Drain time.Duration
	// Limits bound what is stored (S6).
	Limits Limits
	// EmitEvents and EmitBytes bound what one turn has emitted and is not written yet; Emit waits beyond:
	// default 1,000 events, 1 MiB.
	EmitEvents, EmitBytes int
	// Codec encodes payloads before they are stored; default: they are stored as they are.
	Codec Codec
	// Agent is the label that tasks started through this engine carry.
	Agent string
	// Program and Version stamp the tasks started through this engine (S9): default, the main package's
	// path and version.
	Program, Version string
}

// Engine runs durable functions on a store. It starts nothing by itself: [Engine.Run] does. Its methods
// may be called concurrently.
type Engine struct {
	e        *engine.Engine
	store    store.Store
	log      *slog.Logger // may panic
	limits   Limits
	agent    string
	source   store.Source
	recover  int
	bindings map[string]Binding

	customStreams bool // some func has a StreamHandler
}

// Defaults of engine options.
const (
	defaultMaxRunning    = 1000
	defaultMaxRecoveries = 20
	defaultLease         = 15 * time.Second
	defaultDrain         = 25 * time.Second
	minLease             = 100 * time.Millisecond
	defaultEmitEvents    = 1000
	defaultEmitBytes     = 1 << 20
)

// New returns an engine on a store; opts may be nil. The store stays the caller's, to be closed after Run
// has returned. New fails when an option or a func's declaration is invalid.
func New(st store.Store, opts *Options) (*Engine, error) {
	if opts == nil {
		opts = &Options{}
	}
	if err := opts.validate(st); err != nil {
		return nil, fmt.Errorf("new engine: %w", err)
	}
	e := &Engine{
		store: st, log: or(opts.Logger, slog.Default()), limits: opts.Limits.withDefaults(), agent: opts.Agent, source: opts.source(),
		recover: or(opts.MaxRecoveries, defaultMaxRecoveries), bindings: map[string]Binding{},
	}
	cfg := engine.Config{
		Store: st, Logger: e.log, MaxRunning: or(opts.MaxRunning, defaultMaxRunning),
		Lease: or(opts.Lease, defaultLease), Drain: or(opts.Drain, defaultDrain),
		MaxOutput: e.limits.Output, MaxMetadata: e.limits.Metadata, MaxEvent: e.limits.Event,
		EmitEvents: or(opts.EmitEvents, defaultEmitEvents), EmitBytes: or(opts.EmitBytes, defaultEmitBytes),
		Watching: opts.WatchOnly,
		Worker:   store.WorkerInfo{Host: e.source.Host, PID: os.Getpid(), Program: e.source.Program, Version: e.source.Version},
	}
	if opts.Codec != nil {
		cfg.Codec = codec{opts.Codec}
	}
	for _, b := range opts.Funcs {
		b.fn.Settings = *e.complete(&b.fn.Settings)
		e.bindings[b.name] = b
		e.customStreams = e.customStreams || b.stream != nil
		cfg.Funcs = append(cfg.Funcs, b.fn)
	}
	e.e = engine.New(cfg)
	return e, nil
}

func (o *Options) validate(st store.Store) error {
	if st == nil {
		return invalid("the store is nil")
	}
	seen := map[string]bool{}
	for _, b := range o.Funcs {
		if b.name == "" && b.err == nil {
			return invalid("a binding in Funcs is empty: use Func.Bind")
		}
		if b.err != nil {
			return b.err
		}
		if seen[b.name] {
			return invalid("func %q is bound twice", b.name)
		}
		seen[b.name] = true
	}
	switch {
	case o.MaxRunning < 0:
		return invalid("MaxRunning must not be %d", o.MaxRunning)
	case o.MaxRecoveries < 0:
		return invalid("MaxRecoveries must not be %d", o.MaxRecoveries)
	case o.Lease != 0 && o.Lease < minLease:
		return invalid("Lease must be at least %v", minLease)
	case o.EmitEvents < 0 || o.EmitBytes < 0:
		return invalid("EmitEvents and EmitBytes must not be negative")
	case o.Drain < 0:
		return invalid("Drain must not be %v", o.Drain)
	}
	return validText("Agent", o.Agent, o.Limits.withDefaults().TagValue)
}

// source returns the stamp of rule S9.
func (o *Options) source() store.Source {
	s := store.Source{Program: o.Program, Version: o.Version, Library: Version()}
	s.Host, _ = os.Hostname()
	if info, ok := debug.ReadBuildInfo(); ok {
		s.Program = or(s.Program, info.Path)
		s.Version = or(s.Version, info.Main.Version)
	}
	s.Program = or(s.Program, filepath.Base(os.Args[0]))
	for _, text := range []*string{&s.Program, &s.Version, &s.Host} {
		*text = engine.PlainText(*text)
	}
	return s
}

// Version returns the version of perdure that the program was built with; "(devel)" if unknown.
func Version() string {
	const path = "github.com/perdure/perdure"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "(devel)"
	}
	if info.Main.Path == path {
		return or(info.Main.Version, "(devel)")
	}
	for _, d := range info.Deps {
		if d.Path == path {
			return d.Version
		}
	}
	return "(devel)"
}

// complete fills in what a declaration leaves to the engine.
func (e *Engine) complete(s *store.Settings) *store.Settings {
	c := *s
	c.MaxRecoveries = or(c.MaxRecoveries, e.recover)
	return &c
}

// Run takes the store's tasks and runs their turns until ctx ends; then it drains and returns (H1). It
// owns every goroutine of the engine: after it has returned there is none, and no further write (H3). It
// returns nil after a complete shutdown. Errors: ErrStoreInUse when another engine works on the store;
// *LeftError when handlers had not returned; ErrClosed when the store was closed under it. An engine is
// run once.
func (e *Engine) Run(ctx context.Context) error { return e.e.Run(ctx) }

// Client returns a client on the engine's store. Turns that can begin at once are run by this engine
// while it runs. It works before, and for reading after, Run.
func (e *Engine) Client() Client { return &local{e} }

// Limits returns the limits in force, defaults filled in.
func (e *Engine) Limits() Limits { return e.limits }

// Draining returns a channel that is closed when the engine begins to shut down (H1).
func (e *Engine) Draining() <-chan struct{} { return e.e.Draining() }

// Ready reports nil when the engine takes work, and otherwise why it does not (R5).
func (e *Engine) Ready() error { return e.e.Ready() }

// FuncInfo is a bound func.
type FuncInfo struct {
	Name      string `json:"func"`
	MultiTurn bool   `json:"multi_turn"`
	Steerable bool   `json:"steerable"`
	Ephemeral bool   `json:"ephemeral"`
	Running   int    `json:"running"` // turns that run here
}

// Funcs returns the funcs that are bound here, by name.
func (e *Engine) Funcs() []FuncInfo {
	var funcs []FuncInfo
	for name, b := range e.bindings {
		s := b.fn.Settings
		funcs = append(funcs, FuncInfo{Name: name, MultiTurn: s.MultiTurn, Steerable: s.Steerable,
			Ephemeral: s.Ephemeral, Running: e.e.Running(name)})
	}
	slices.SortFunc(funcs, func(a, b FuncInfo) int { return cmp.Compare(a.Name, b.Name) })
	return funcs
}

// WorkerInfo is an engine that is alive on the store.
type WorkerInfo struct {
	ID        string    `json:"worker"`
	Host      string    `json:"host"`
	PID       int       `json:"pid"`
	Program   string    `json:"program"`
	Version   string    `json:"version"`
	Funcs     []string  `json:"funcs"`
	Running   int       `json:"running"`
	Self      bool      `json:"self"`
	StartedAt time.Time `json:"started_at"`
	BeatAt    time.Time `json:"beat_at"`
	ExpiresAt time.Time `json:"expires_at"`
}

// Workers returns the workers that are alive on the store, this engine's among them.
func (e *Engine) Workers(ctx context.Context) ([]WorkerInfo, error) {
	workers, err := e.e.Workers(ctx)
	if err != nil {
		return nil, err
	}
	self := e.e.WorkerID()
	infos := make([]WorkerInfo, 0, len(workers))
	for _, w := range workers {
		infos = append(infos, WorkerInfo{ID: w.ID, Host: w.Info.Host, PID: w.Info.PID, Program: w.Info.Program,
			Version: w.Info.Version, Funcs: w.Funcs, Running: w.Running, Self: w.ID == self,
			StartedAt: w.StartedAt, BeatAt: w.BeatAt, ExpiresAt: w.ExpiresAt})
	}
	return infos, nil
}

// Counter is one figure of an engine, named as Prometheus would.
type Counter = engine.Counter

// Counters returns the engine's figures since it was made, in a fixed order.
func (e *Engine) Counters() []Counter { return e.e.Counters() }
