package engine

import (
	"context"

	"github.com/perdure/perdure/store"
)

// Checkpoint writes what was emitted and the metadata, and moves the commit mark; it returns when that is
// durable (M1, E2). It repeats a write whose result is unknown until ctx ends. Errors: store.ErrLeaseLost, ErrTerminated;
// ctx's own, after which the write may still have happened and a later checkpoint covers it.
func (a *Attempt) Checkpoint(ctx context.Context) error {
	ctx, stop := a.whileHeld(ctx)
	defer stop()
	select {
	case a.saving <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-a.saving }()
	if cause := context.Cause(a.ctx); cause != nil {
		return cause
	}
	changes, numbers, err := a.meta.snapshot()
	if err != nil {
		return err
	}
	req := &store.CheckpointRequest{Commit: true, Metadata: changes, Events: a.emitter.take()}
	if err := a.write(ctx, req); err != nil {
		return a.lostBy(err)
	}
	a.meta.written(numbers)
	a.e.stats.checkpoints.Add(1)
	if a.task.Suspect {
		a.e.cleared(a)
	}
	return nil
}

// whileHeld returns ctx, ended also when the attempt may no longer write (O4).
func (a *Attempt) whileHeld(ctx context.Context) (context.Context, func()) {
	if ctx == a.ctx || ctx == a.Interrupt() {
		return ctx, func() {}
	}
	joined, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(a.ctx, func() { cancel(context.Cause(a.ctx)) })
	return joined, func() {
		stop()
		cancel(nil)
	}
}

// lostBy ends the attempt if err says that its lease is gone, and returns the cause of that end.
func (a *Attempt) lostBy(err error) error {
	if !store.Definite(err) {
		return err
	}
	a.lost(store.ErrLeaseLost)
	return context.Cause(a.ctx)
}
