package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/store/pgstore"
)

// Across is how long it takes from one worker of a database to another.
type Across struct {
	Notified bool    `json:"notified"` // with notifications, else by polling alone
	Times    int     `json:"times"`
	Steer    Latency `json:"steer"`  // from the call of Start here until the handler there is interrupted
	Result   Latency `json:"result"` // from the handler's return there until it is known here
}

// RunAcross measures steers and results between two workers, with notifications and without.
func RunAcross(ctx context.Context, o Options) ([]Across, error) {
	o = o.withDefaults()
	var all []Across
	for _, notified := range []bool{true, false} {
		a, err := across(ctx, o, notified)
		if err != nil {
			return nil, err
		}
		all = append(all, *a)
	}
	return all, nil
}

// relay is the turn that runs there while this side steers and waits.
type relay struct {
	entered  chan struct{}
	asked    atomic.Int64 // Unix nanoseconds
	returned atomic.Int64

	mu   sync.Mutex
	seen []time.Duration
}

func (r *relay) handle(_ context.Context, turn *perdure.Turn[note, note]) (note, error) {
	r.entered <- struct{}{}
	<-turn.Interrupt().Done()
	if turn.Causes().Steered { // else it is the end of the turn that has steered
		r.mu.Lock()
		r.seen = append(r.seen, time.Since(time.Unix(0, r.asked.Load())))
		r.mu.Unlock()
		r.returned.Store(time.Now().UnixNano())
	}
	return note{}, nil
}

func across(ctx context.Context, o Options, notified bool) (a *Across, err error) {
	place := o.place("across")
	defer remove(place)
	opts := &pgstore.Options{PollOnly: !notified}
	r := &relay{entered: make(chan struct{}, 1)}
	there, stopThere, err := join(ctx, place, opts, &perdure.Options{Funcs: []perdure.Binding{talk.Bind(r.handle)}})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stopThere()) }()
	here, stopHere, err := join(ctx, place, opts, &perdure.Options{WatchOnly: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stopHere()) }()
	var results []time.Duration
	times := o.Across
	if !notified {
		times = max(times/10, 10)
	}
	for i := range times {
		took, err := r.once(ctx, there.Client(), here.Client(), i)
		if err != nil {
			return nil, err
		}
		results = append(results, took)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return &Across{Notified: notified, Times: times, Steer: latency(r.seen), Result: latency(results)}, nil
}

// once begins a turn there, steers it from here, and waits here for its outcome. It returns how long that took from
// the handler's return.
func (r *relay) once(ctx context.Context, there, here perdure.Client, i int) (time.Duration, error) {
	task := &perdure.StartOptions{TaskID: fmt.Sprint("task-", i)}
	if _, err := talk.Start(ctx, there, note{"x"}, task); err != nil {
		return 0, err
	}
	<-r.entered
	h, err := talk.Attach(ctx, here, task.TaskID, nil)
	if err != nil {
		return 0, err
	}
	waited := make(chan error, 1)
	var ended time.Time
	go func() {
		_, err := h.Result(ctx)
		ended = time.Now()
		waited <- err
	}()
	if err := wait(ctx, 20*time.Millisecond); err != nil { // until it waits
		return 0, err
	}
	r.asked.Store(time.Now().UnixNano())
	steer, err := talk.Start(ctx, here, note{"y"}, task)
	if err != nil {
		return 0, err
	}
	if err := <-waited; err != nil {
		return 0, err
	}
	took := ended.Sub(time.Unix(0, r.returned.Load()))
	<-r.entered
	_, err = here.Terminate(ctx, steer.TaskID(), nil)
	return took, err
}

// join opens a store of its own on a place, and runs an engine on it until the returned function is called.
func join(ctx context.Context, place string, on *pgstore.Options, opts *perdure.Options) (*perdure.Engine, func() error, error) {
	st, err := pgstore.Open(ctx, place, on)
	if err != nil {
		return nil, nil, err
	}
	b, err := run(ctx, st, *opts)
	if err != nil {
		return nil, nil, err
	}
	return b.eng, b.close, nil
}
