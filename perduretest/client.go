package perduretest

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/google/uuid"

	"github.com/perdure/perdure"
)

// client is a caller in another process: it goes on at the next engine when one dies under it.
type client struct{ h *Harness }

// betweenTries is how long a cut-off call waits before it is made again.
const betweenTries = 10 * time.Millisecond

// again makes a call, at the process that runs then, until no crash cuts it off. What writes has an ID before it is made
// here: each try is then known as the same (O6).
func again[T any](ctx context.Context, h *Harness, call func(perdure.Client) (T, error)) (T, error) {
	for {
		p := h.process()
		v, err := call(p.eng.Client())
		if !errors.Is(err, perdure.ErrClosed) && !errors.Is(err, perdure.ErrShuttingDown) || h.over(p) {
			return v, err
		}
		select {
		case <-time.After(betweenTries):
		case <-ctx.Done():
			return v, context.Cause(ctx)
		}
	}
}

// name makes an ID unless the caller has.
func name(id *string) {
	if *id == "" {
		*id = uuid.Must(uuid.NewV7()).String()
	}
}

// own returns a copy of options, which may be nil.
func own[T any](opts *T) *T {
	var o T
	if opts != nil {
		o = *opts
	}
	return &o
}

func (c client) Start(ctx context.Context, req *perdure.StartRequest) (*perdure.Accepted, error) {
	if req != nil { // else the engine refuses it
		req = own(req)
		name(&req.TaskID)
		name(&req.InputID)
	}
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

// Turns goes on after the last turn it had when a process dies.
func (c client) Turns(ctx context.Context, id string, opts *perdure.TurnsOptions) iter.Seq2[*perdure.TurnInfo, error] {
	first := own(opts)
	return func(yield func(*perdure.TurnInfo, error) bool) {
		o := *first
		goOn(ctx, c.h, yield, func(now perdure.Client) iter.Seq2[*perdure.TurnInfo, error] { return now.Turns(ctx, id, &o) }, func(t *perdure.TurnInfo) bool {
			o.After = t.Number
			return countDown(&o.Limit)
		})
	}
}

// Tasks goes on below the last task it had when a process dies.
func (c client) Tasks(ctx context.Context, opts *perdure.ListOptions) iter.Seq2[*perdure.Info, error] {
	first := own(opts)
	return func(yield func(*perdure.Info, error) bool) {
		o := *first
		goOn(ctx, c.h, yield, func(now perdure.Client) iter.Seq2[*perdure.Info, error] { return now.Tasks(ctx, &o) }, func(i *perdure.Info) bool {
			o.Before = i.Incarnation
			return countDown(&o.Limit)
		})
	}
}

// goOn yields a list, begun again at the next process when one dies. note notes what was yielded and reports whether
// more is wanted.
func goOn[T any](ctx context.Context, h *Harness, yield func(T, error) bool, list func(perdure.Client) iter.Seq2[T, error], note func(T) bool) {
	_, err := again(ctx, h, func(now perdure.Client) (struct{}, error) {
		for v, err := range list(now) {
			if err != nil {
				return struct{}{}, err
			}
			if more := note(v); !yield(v, nil) || !more {
				break
			}
		}
		return struct{}{}, nil
	})
	if err != nil {
		var none T
		yield(none, err)
	}
}

// Events goes on with the last number it had when a process dies.
func (c client) Events(ctx context.Context, id string, opts *perdure.EventOptions) iter.Seq2[perdure.Event, error] {
	return func(yield func(perdure.Event, error) bool) {
		o := own(opts)
		goOn(ctx, c.h, yield, func(now perdure.Client) iter.Seq2[perdure.Event, error] { return now.Events(ctx, id, o) }, func(e perdure.Event) bool {
			o.After = max(o.After, e.Number)
			return countDown(&o.Limit)
		})
	}
}

func (c client) Cancel(ctx context.Context, id string, opts *perdure.CancelOptions) (perdure.Status, error) {
	o := own(opts)
	name(&o.RequestID)
	return again(ctx, c.h, func(now perdure.Client) (perdure.Status, error) { return now.Cancel(ctx, id, o) })
}

func (c client) Terminate(ctx context.Context, id string, opts *perdure.TerminateOptions) (perdure.Status, error) {
	o := own(opts)
	name(&o.RequestID)
	return again(ctx, c.h, func(now perdure.Client) (perdure.Status, error) { return now.Terminate(ctx, id, o) })
}

func (c client) Resume(ctx context.Context, id string, opts *perdure.ResumeOptions) (perdure.Status, error) {
	o := own(opts)
	name(&o.RequestID)
	return again(ctx, c.h, func(now perdure.Client) (perdure.Status, error) { return now.Resume(ctx, id, o) })
}

func (c client) Delete(ctx context.Context, id string, opts *perdure.DeleteOptions) error {
	o := own(opts)
	name(&o.RequestID)
	_, err := again(ctx, c.h, func(now perdure.Client) (struct{}, error) { return struct{}{}, now.Delete(ctx, id, o) })
	return err
}

// countDown counts one off a limit, and reports whether more is wanted; 0 is no limit.
func countDown(limit *int) bool {
	if *limit == 0 {
		return true
	}
	*limit--
	return *limit > 0
}
