// Package bench measures an engine on a SQLite file or a Postgres database: cycles of a trivial func beside a
// bare loop that writes the same rows, start latency, running tasks, suspended tasks, recovery, steering,
// streams, and several processes on one database. "perdure bench" prints what it returns.
package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/stores"
	"github.com/perdure/perdure/store"
)

// Options say what to measure, and how much. Zero values are the defaults.
type Options struct {
	DB        string        // the URL of a Postgres database; else files of SQLite are used
	Dir       string        // where the files go; they are removed afterwards
	Duration  time.Duration // of each cycle measurement: default 3 s
	Rounds    int           // of cycle measurements; the median counts: default 3
	Callers   []int         // default 1, 64, 256
	Running   int           // idle tasks at once: default 10,000
	Suspended int           // default 100,000
	Orphans   int           // default 10,000
	Steered   int           // tasks that are steered at the same time: default 64
	Turns     int           // of one task: default 10,000
	Emitting  []int         // tasks that emit at the same time: default 1, 64
	Readers   int           // of one task's stream over HTTP: default 1,000
	Across    int           // steers and results from one worker to another, with notifications: default 300
	Workers   []int         // processes on one database at the same time: default 1, 2, 4
	Self      []string      // the command that runs [Child] with the arguments that follow
}

func (o Options) withDefaults() Options {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&o.Rounds, 3)
	def(&o.Running, 10_000)
	def(&o.Suspended, 100_000)
	def(&o.Orphans, 10_000)
	def(&o.Steered, 64)
	def(&o.Turns, 10_000)
	def(&o.Readers, 1000)
	def(&o.Across, 300)
	if o.Duration == 0 {
		o.Duration = 3 * time.Second
	}
	if len(o.Callers) == 0 {
		o.Callers = []int{1, 64, 256}
	}
	if len(o.Workers) == 0 {
		o.Workers = []int{1, 2, 4}
	}
	if len(o.Emitting) == 0 {
		o.Emitting = []int{1, 64}
	}
	return o
}

// Report is what was measured. Parts that were not asked for are nil.
type Report struct {
	Cycles    []Cycles   `json:"cycles,omitempty"`
	Running   *Running   `json:"running,omitempty"`
	Suspended *Suspended `json:"suspended,omitempty"`
	Orphans   *Orphans   `json:"orphans,omitempty"`
	Steer     *Steer     `json:"steer,omitempty"`
	Turns     *Turns     `json:"turns,omitempty"`
	Events    *Events    `json:"events,omitempty"`
	Workers   []Workers  `json:"workers,omitempty"`
	Across    []Across   `json:"across,omitempty"`
}

// Latency is a distribution of times.
type Latency struct {
	P50 time.Duration `json:"p50_ns"`
	P99 time.Duration `json:"p99_ns"`
}

func latency(times []time.Duration) Latency {
	if len(times) == 0 {
		return Latency{}
	}
	slices.Sort(times)
	return Latency{P50: times[len(times)/2], P99: times[len(times)*99/100]}
}

// bench is one measurement's store and engine.
type bench struct {
	store store.Store
	eng   *perdure.Engine
	stop  context.CancelFunc
	done  chan error
}

// open starts an engine on a place and waits until it is ready.
func open(ctx context.Context, place string, opts perdure.Options) (*bench, error) {
	st, err := stores.Open(ctx, place, nil)
	if err != nil {
		return nil, err
	}
	return run(ctx, st, opts)
}

// run starts an engine on a store, which it closes with it, and waits until it is ready.
func run(ctx context.Context, st store.Store, opts perdure.Options) (*bench, error) {
	opts.Logger = slog.New(slog.DiscardHandler)
	eng, err := perdure.New(st, &opts)
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	b := &bench{store: st, eng: eng, done: make(chan error, 1)}
	running, stop := context.WithCancel(ctx)
	b.stop = stop
	go func() { b.done <- eng.Run(running) }()
	if err := b.ready(ctx); err != nil {
		return nil, fmt.Errorf("engine: %w", errors.Join(err, b.close()))
	}
	return b, nil
}

func (b *bench) ready(ctx context.Context) error {
	for b.eng.Ready() != nil {
		select {
		case err := <-b.done:
			b.done <- err
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}

func (b *bench) close() error {
	b.stop()
	err := <-b.done
	if closed := b.store.Close(); err == nil {
		err = closed
	}
	return err
}

// note is the input and output of the trivial func.
type note struct {
	Text string `json:"text"`
}

var trivial = perdure.NewFunc[note, note]("trivial", nil)

func echo(_ context.Context, turn *perdure.Turn[note, note]) (note, error) { return turn.Input(), nil }

// idle runs until it is interrupted.
var idle = perdure.NewFunc[note, note]("idle", nil)

// pausing suspends at once; its next input completes it.
var pausing = perdure.NewFunc[note, note]("pausing", nil)

func suspend(_ context.Context, turn *perdure.Turn[note, note]) (note, error) {
	if turn.Entry() == perdure.Resumed {
		return turn.Input(), nil
	}
	return turn.Suspend(turn.Input(), "until the next input")
}
