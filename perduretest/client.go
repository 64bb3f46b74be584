package perduretest

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/perdure/perdure"
)

// client is a caller in another process: it goes on at the next engine when one dies under it.
type client struct{ h *Harness }

// betweenTries is how long a cut-off call waits before it is made again.
const betweenTries = 10 * time.Millisecond

// again makes a call, at the process that runs then, until no crash cuts it off.
func again[T any](ctx context.Context, h *Harness, call func(perdure.Client) (T, error)) (T, error) {
	for {
		v, err := call(h.process().eng.Client())
		if !errors.Is(err, perdure.ErrClosed) && !errors.Is(err, perdure.ErrShuttingDown) {
			return v, err
		}
		select {
		case <-time.After(betweenTries):
		case <-ctx.Done():
			return v, context.Cause(ctx)
		}
	}
}

func (c client) Start(ctx context.Context, req *perdure.StartRequest) (*perdure.Accepted, error) {
	return again(ctx, c.h, func(now perdure.Client) (*perdure.Accepted, error) { return now.Start(ctx, req) })
}

func (c client) Outcome(ctx context.Context, q perdure.TurnQuery) (*perdure.Outcome, error) {
	return again(ctx, c.h, func(now perdure.Client) (*perdure.Outcome, error) { return now.Outcome(ctx, q) })
}

func (c client) Task(ctx context.Context, id string) (*perdure.Info, error) {
	return again(ctx, c.h, func(now perdure.Client) (*perdure.Info, error) { return now.Task(ctx, id) })
}

func (c client) Turn(ctx context.Context, q perdure.TurnQuery) (*perdure.TurnInfo, error) {
	return again(ctx, c.h, func(now perdure.Client) (*perdure.TurnInfo, error) { return now.Turn(ctx, q) })
}

func (c client) Turns(ctx context.Context, id string, after int64) iter.Seq2[*perdure.TurnInfo, error] {
	return c.h.process().eng.Client().Turns(ctx, id, after)
}

func (c client) Tasks(ctx context.Context, opts *perdure.ListOptions) iter.Seq2[*perdure.Info, error] {
	return c.h.process().eng.Client().Tasks(ctx, opts)
}

// Events goes on with the last number it had when a process dies.
func (c client) Events(ctx context.Context, id string, opts *perdure.EventOptions) iter.Seq2[perdure.Event, error] {
	return func(yield func(perdure.Event, error) bool) {
		var o perdure.EventOptions
		if opts != nil {
			o = *opts
		}
		_, err := again(ctx, c.h, func(now perdure.Client) (struct{}, error) {
			for e, err := range now.Events(ctx, id, &o) {
				if err != nil {
					return struct{}{}, err
				}
				o.After = max(o.After, e.Number)
				if !yield(e, nil) {
					break
				}
			}
			return struct{}{}, nil
		})
		if err != nil {
			yield(perdure.Event{}, err)
		}
	}
}

func (c client) Cancel(ctx context.Context, id string, opts *perdure.CancelOptions) (perdure.Status, error) {
	return again(ctx, c.h, func(now perdure.Client) (perdure.Status, error) { return now.Cancel(ctx, id, opts) })
}

func (c client) Terminate(ctx context.Context, id string, opts *perdure.TerminateOptions) (perdure.Status, error) {
	return again(ctx, c.h, func(now perdure.Client) (perdure.Status, error) { return now.Terminate(ctx, id, opts) })
}

func (c client) Resume(ctx context.Context, id string) (perdure.Status, error) {
	return again(ctx, c.h, func(now perdure.Client) (perdure.Status, error) { return now.Resume(ctx, id) })
}

func (c client) Delete(ctx context.Context, id string, opts *perdure.DeleteOptions) error {
	_, err := again(ctx, c.h, func(now perdure.Client) (struct{}, error) { return struct{}{}, now.Delete(ctx, id, opts) })
	return err
}
