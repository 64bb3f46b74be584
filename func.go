package perdure

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/perdure/perdure/internal/engine"
	"github.com/perdure/perdure/store"
)

// Func is the declaration of a durable function: a stable name, an input and an output type, options.
// It is bound to its handler, with [Func.Bind], in the programs that run it; others only start it. A Func
// is immutable and may be used concurrently.
type Func[In, Out any] struct {
	name     string
	opts     FuncOptions[In]
	settings store.Settings
	err      error
}

// FuncOptions are the options of a func. The zero value of each field is its default. What is marked
// "stored" is stored with each task when it is created and holds for its life, whatever later versions
// of the program declare.
type FuncOptions[In any] struct {
	// MultiTurn makes a return suspend the task for its next input instead of completing it (T5). Stored.
	MultiTurn bool
	// Steerable lets inputs be queued while a turn runs; MaxPending (default 10) bounds how many (G2). Stored.
	Steerable  bool
	MaxPending int
	// SteerGrace is how long a newer input leaves the running turn's Interrupt alone. In that time only
	// SafePoint tells of it, so that the turn can be steered between its steps and not inside one.
	// Other causes do not wait. Default 0: the interrupt fires at once.
	SteerGrace time.Duration

	// Timeout bounds a turn, counted from its first entry, across crashes (C5); 0 means none. When it has
	// passed, the interrupt fires; after TimeoutGrace (default 30 s) the turn is terminated. Stored.
	Timeout      time.Duration
	TimeoutGrace time.Duration

	// Retry is the retry policy; the default is one attempt (Y1). Stored, except its predicate.
	Retry RetryPolicy

	// Ephemeral removes a task Linger (default 10 s) after its end. Stored.
	Ephemeral bool
	Linger    time.Duration
	// Retention removes other tasks this long after their end: default 7 days; KeepForever. Stored.
	Retention time.Duration
	// KeepTurns is how many ended turns of a task are kept: default 1,000; KeepAll. Stored.
	KeepTurns int

	// KeepEvents is how many of a task's newest events are kept, and KeepEventsFor how long; 0 keeps all as
	// long as the task, or their turns. Older ones are removed in the background, and readers are told of
	// the gap (E5). What may still be taken back is kept. Stored.
	KeepEvents    int
	KeepEventsFor time.Duration

	// Stream builds the handler that keeps a task's messages instead of the store (E4). It is called with
	// the task's ID for each entry of the task's handler, also after a crash, and for each reader of its stream
	// in a program that binds the func; what it returns is closed once that is over. An error fails the attempt.
	Stream func(ctx context.Context, taskID string) (StreamHandler, error)

	// MaxRecoveries is how often a turn is entered again after crashes with no checkpoint in between,
	// before its task is parked (R4): default Options.MaxRecoveries. Stored.
	MaxRecoveries int

	// MaxRunning bounds the turns of this func that one engine runs at once; 0 means Options.MaxRunning.
	MaxRunning int
	// AutoCheckpoint writes a checkpoint this long after the first unwritten metadata change; 0 means
	// that only Checkpoint and the turn's end write (M1).
	AutoCheckpoint time.Duration

	// Title, Description and Tags label a new task (S8). An error reaches the caller of Start and nothing
	// is created. Tags given to Start are laid over these. Bytes that are no UTF-8 become U+FFFD.
	Title       func(in In, taskID string) (string, error)
	Description func(in In, taskID string) (string, error)
	Tags        func(in In, taskID string) (map[string]string, error)
}

// KeepForever as Retention, and KeepAll as KeepTurns, remove nothing.
const (
	KeepForever time.Duration = -1
	KeepAll                   = -1
)

// Defaults of func options.
const (
	defaultMaxPending   = 10
	defaultTimeoutGrace = 30 * time.Second
	defaultLinger       = 10 * time.Second
	defaultRetention    = 7 * 24 * time.Hour
	defaultKeepTurns    = 1000
)

// NewFunc declares a func. A name that is no identifier (S5), or options that contradict each other, make
// a Func whose every use returns the same error; [Func.Err] tells it at once.
func NewFunc[In, Out any](name string, opts *FuncOptions[In]) *Func[In, Out] {
	f := &Func[In, Out]{name: name}
	if opts != nil {
		f.opts = *opts
	}
	if f.err = f.validate(); f.err != nil {
		f.err = fmt.Errorf("func %q: %w", name, f.err)
		return f
	}
	f.settings = f.opts.settings()
	return f
}

// Name returns the func's name.
func (f *Func[In, Out]) Name() string { return f.name }

// Err returns what is wrong with the declaration, or nil.
func (f *Func[In, Out]) Err() error { return f.err }

func (f *Func[In, Out]) validate() error {
	o := &f.opts
	if !isIdentifier(f.name) {
		return invalid("the name must match %s", identifier)
	}
	for field, d := range map[string]time.Duration{"Timeout": o.Timeout, "TimeoutGrace": o.TimeoutGrace,
		"Linger": o.Linger, "AutoCheckpoint": o.AutoCheckpoint, "SteerGrace": o.SteerGrace, "KeepEventsFor": o.KeepEventsFor} {
		if d < 0 {
			return invalid("%s must not be %v", field, d)
		}
	}
	for field, n := range map[string]int{"MaxPending": o.MaxPending, "MaxRecoveries": o.MaxRecoveries, "MaxRunning": o.MaxRunning, "KeepEvents": o.KeepEvents} {
		if n < 0 {
			return invalid("%s must not be %d", field, n)
		}
	}
	switch {
	case o.Retention < 0 && o.Retention != KeepForever:
		return invalid("Retention must not be %v", o.Retention)
	case o.KeepTurns < 0 && o.KeepTurns != KeepAll:
		return invalid("KeepTurns must not be %d", o.KeepTurns)
	case o.Ephemeral && o.Retention != 0:
		return invalid("an Ephemeral func has a Linger, not a Retention")
	case o.MaxPending > 0 && !o.Steerable:
		return invalid("MaxPending is for Steerable funcs")
	case o.SteerGrace > 0 && !o.Steerable:
		return invalid("SteerGrace is for Steerable funcs")
	}
	return o.Retry.validate()
}

// settings returns what is stored with a task.
func (o *FuncOptions[In]) settings() store.Settings {
	s := store.Settings{
		MultiTurn: o.MultiTurn, Steerable: o.Steerable, Ephemeral: o.Ephemeral,
		Timeout: o.Timeout, TimeoutGrace: or(o.TimeoutGrace, defaultTimeoutGrace),
		Keep: or(o.Retention, defaultRetention), KeepTurns: or(o.KeepTurns, defaultKeepTurns),
		KeepEvents: o.KeepEvents, KeepEventsFor: o.KeepEventsFor,
		MaxRecoveries: o.MaxRecoveries, Retry: o.Retry.stored(),
	}
	if o.Steerable {
		s.MaxPending = or(o.MaxPending, defaultMaxPending)
	}
	if o.Ephemeral {
		s.Keep = or(o.Linger, defaultLinger)
	}
	s.Keep, s.KeepTurns = max(s.Keep, 0), max(s.KeepTurns, 0)
	return s
}

// or returns v, or the default if v is zero.
func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// Handler is the code of a func. ctx lives as long as the turn may write (C1); turn.Interrupt() also ends
// on a cooperative request. What it returns is the turn's outcome.
// Bytes of its output, and of the text of its error, that are no UTF-8 become U+FFFD, which is logged and counted.
type Handler[In, Out any] func(ctx context.Context, turn *Turn[In, Out]) (Out, error)

// Binding is a func bound to its handler, for Options.Funcs.
type Binding struct {
	name   string
	fn     engine.Func
	desc   describer
	stream func(context.Context, string) (StreamHandler, error)
	err    error
}

// describer checks an untyped input against the func's input type and applies its label functions.
type describer func(input json.RawMessage, taskID string, req *StartRequest) error

// Bind binds the func to the handler that runs its turns in this program.
func (f *Func[In, Out]) Bind(handler Handler[In, Out]) Binding {
	b := Binding{name: f.name, err: f.err}
	if b.err == nil && handler == nil {
		b.err = fmt.Errorf("func %q: %w", f.name, invalid("the handler is nil"))
	}
	b.fn = engine.Func{
		Name: f.name, Settings: f.settings, MaxRunning: f.opts.MaxRunning,
		AutoCheckpoint: f.opts.AutoCheckpoint, SteerGrace: f.opts.SteerGrace, Retryable: f.opts.Retry.Retryable,
		Run: func(ctx context.Context, a *engine.Attempt) engine.Exit { return run(ctx, a, handler, f.opts.Stream) },
	}
	b.desc, b.stream = f.describeRaw, f.opts.Stream
	return b
}

// run enters the handler with typed values and turns what it leaves into an exit.
func run[In, Out any](ctx context.Context, a *engine.Attempt, handler Handler[In, Out],
	build func(context.Context, string) (StreamHandler, error)) engine.Exit {
	stream, closeStream, err := openStream(ctx, a, build)
	if err != nil {
		return engine.Exit{Err: err}
	}
	defer closeStream()
	t := &Turn[In, Out]{Scope: &Scope{a: a, stream: stream}}
	if err := unmarshal(a.Input(), &t.input); err != nil {
		if p, ok := err.(*PanicError); ok {
			a.Logger().Error("the stored input does not decode", "error", p, "stack", p.Stack())
		}
		return engine.Exit{Kind: engine.ExitPark, Reason: "the stored input does not decode: " + inputProblem(err)}
	}
	out, err := handler(ctx, t)
	return t.exit(out, err)
}
