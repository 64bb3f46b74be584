package engine

import (
	"context"

	"github.com/perdure/perdure/store"
)

// pen is held by whoever writes to a turn. Writes have numbers, by which the store recognises them when they are repeated
// (O6).
type pen struct {
	held    chan struct{}            // capacity 1
	number  int64                    // of the last write; guarded by held, as is unknown
	unknown *store.CheckpointRequest // sent, its result unknown; else nil
}

// lock waits for the pen; it fails with the cause of ctx's end.
func (p *pen) lock(ctx context.Context) error {
	select {
	case p.held <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (p *pen) unlock() { <-p.held }

// write sends a request of a turn, after the one before if the result of that is unknown. It repeats until the result is
// known or ctx ends. The pen is held.
func (p *pen) write(ctx context.Context, a *Attempt, req *store.CheckpointRequest) error {
	req.Lease = a.life.lease
	if err := p.resend(ctx, a); err != nil {
		a.emitter.putBack(req.Events)
		return err
	}
	p.number++
	req.Number = p.number
	p.unknown = req
	return p.resend(ctx, a)
}

// resend sends the request whose result is unknown, if there is one.
func (p *pen) resend(ctx context.Context, a *Attempt) error {
	if p.unknown == nil {
		return nil
	}
	req := p.unknown
	_, err := repeat(ctx, a.e, manner{failed: a.heldUp}, func(ctx context.Context) (*store.Checkpointed, error) {
		return a.e.store.Checkpoint(ctx, req)
	})
	if err == nil || store.Definite(err) {
		p.unknown = nil
	}
	if err == nil {
		a.e.stats.events.Add(int64(len(req.Events)))
		a.e.streams.wake(a.life.lease.Incarnation)
	}
	return err
}

// heldUp hears of a write that the store does not take. When the handler has returned, the turn's end waits for it.
func (a *Attempt) heldUp(err error) {
	a.e.mu.Lock()
	ending := a.life.phase.ending()
	a.e.mu.Unlock()
	if ending {
		a.e.troubles.note(a, err)
	}
}

// Checkpoint writes what was emitted and the metadata, and moves the commit mark; it returns when that is
// durable (M1, E2). It repeats a write whose result is unknown until ctx ends. Errors: store.ErrLeaseLost, ErrTerminated;
// a *store.ContentError, after which what was emitted since the last write, or is told to be lost, is lost; ctx's own,
// after which the write may still have happened and a later checkpoint covers it.
func (a *Attempt) Checkpoint(ctx context.Context) error {
	ctx, stop := a.whileHeld(ctx)
	defer stop()
	s, err := a.meta.snapshot() // before the pen is taken: what encodes is the program's code
	if err != nil {
		return err
	}
	if err := a.pen.lock(ctx); err != nil {
		return err
	}
	defer a.pen.unlock()
	if cause := context.Cause(a.ctx); cause != nil {
		return cause
	}
	if err := a.emitter.tellLoss(); err != nil {
		return err
	}
	req := &store.CheckpointRequest{Commit: true, Metadata: a.meta.unlessStored(s), Events: a.emitter.collect()}
	if err := a.pen.write(ctx, a, req); err != nil {
		return a.lostBy(err)
	}
	a.meta.written(s)
	a.e.stats.checkpoints.Add(1)
	if a.task.Suspect {
		a.cleared()
	}
	return nil
}

// KeepEvents keeps what the try before had emitted after its last checkpoint, which would otherwise be taken
// back (E2). It returns when that is durable, with the last event of this turn, or nil if there is none. It
// must come before the first Emit and Checkpoint of an entry: ErrKeepEvents. Other errors are as those of
// Checkpoint.
func (a *Attempt) KeepEvents(ctx context.Context) (*store.Event, error) {
	ctx, stop := a.whileHeld(ctx)
	defer stop()
	if err := a.pen.lock(ctx); err != nil {
		return nil, err
	}
	defer a.pen.unlock()
	if a.pen.number > 0 || a.emitter.begun() {
		return nil, ErrKeepEvents
	}
	if err := a.pen.write(ctx, a, &store.CheckpointRequest{KeepEvents: true}); err != nil {
		return nil, a.lostBy(err)
	}
	return a.lastEvent(ctx)
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
	if !store.Definite(err) || isContent(err) {
		return err
	}
	a.refused()
	return context.Cause(a.ctx)
}
