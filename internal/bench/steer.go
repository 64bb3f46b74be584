package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/perdure/perdure"
)

// Steer is how long a newer input takes to reach the handler that runs, and to be accepted.
type Steer struct {
	Tasks  int     `json:"tasks"` // steered at the same time
	Steers int     `json:"steers"`
	Rate   float64 `json:"steers_per_s"`
	Seen   Latency `json:"seen"`     // from the call of Start until the handler's interrupt has ended
	Start  Latency `json:"accepted"` // until Start has returned
}

// steered is one task of the measurement.
type steered struct {
	id      string
	entered chan struct{} // a turn waits for its interrupt
	asked   atomic.Int64  // when the steer that it waits for was begun, Unix nanoseconds
	seen    []time.Duration
	started []time.Duration
}

var talk = perdure.NewFunc[note, note]("talk", &perdure.FuncOptions[note]{MultiTurn: true, Steerable: true})

// RunSteer measures steers of many tasks, one after the other in each.
func RunSteer(ctx context.Context, o Options) (*Steer, error) {
	o = o.withDefaults()
	place := o.place("steer")
	defer remove(place)
	tasks := map[string]*steered{}
	for i := range o.Steered {
		id := fmt.Sprint("task-", i)
		tasks[id] = &steered{id: id, entered: make(chan struct{}, 1)}
	}
	b, err := open(ctx, place, perdure.Options{Funcs: []perdure.Binding{talk.Bind(func(ctx context.Context, turn *perdure.Turn[note, note]) (note, error) {
		t := tasks[turn.TaskID()]
		select {
		case t.entered <- struct{}{}:
		case <-ctx.Done():
		}
		<-turn.Interrupt().Done()
		if turn.Causes().Steered {
			t.seen = append(t.seen, time.Since(time.Unix(0, t.asked.Load())))
		}
		return note{}, context.Cause(turn.Interrupt())
	})}})
	if err != nil {
		return nil, err
	}
	if err := steerAll(ctx, b.eng.Client(), tasks, o.Duration); err != nil {
		return nil, err
	}
	if err := b.close(); err != nil {
		return nil, err
	}
	var seen, started []time.Duration
	for _, t := range tasks {
		seen, started = append(seen, t.seen...), append(started, t.started...)
	}
	return &Steer{Tasks: o.Steered, Steers: len(seen), Rate: float64(len(seen)) / o.Duration.Seconds(), Seen: latency(seen), Start: latency(started)}, nil
}

func steerAll(ctx context.Context, c perdure.Client, tasks map[string]*steered, d time.Duration) error {
	var wg sync.WaitGroup
	errs := make(chan error, len(tasks))
	over := time.Now().Add(d)
	for _, t := range tasks {
		wg.Go(func() { errs <- t.steer(ctx, c, over) })
	}
	wg.Wait()
	for range tasks {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}

// thinking is how long at most a turn is left alone before it is steered; on average half of that.
const thinking = 20 * time.Millisecond

// steer begins a task's first turn, and steers each turn a moment after it was entered.
func (t *steered) steer(ctx context.Context, c perdure.Client, over time.Time) error {
	for first := true; first || time.Now().Before(over); first = false {
		began := time.Now()
		t.asked.Store(began.UnixNano())
		if _, err := talk.Start(ctx, c, note{"x"}, &perdure.StartOptions{TaskID: t.id}); err != nil {
			return err
		}
		if !first {
			t.started = append(t.started, time.Since(began))
		}
		select {
		case <-t.entered:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := wait(ctx, rand.N(thinking)); err != nil {
			return err
		}
	}
	return nil
}
