package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/perdure/perdure/store"
)

// Delays between tries of a store operation whose result is unknown, and how long a caller without a
// deadline of its own is kept.
const (
	firstBackoff = 10 * time.Millisecond
	maxBackoff   = time.Second
	patience     = 15 * time.Second
)

// maxDetached is how many operations whose callers have gone may be under way.
const maxDetached = 1000

// answer is what the store has answered to one try.
type answer[T any] struct {
	value T
	err   error
}

// send makes one try of a store operation, in a goroutine of its own.
func send[T any](ctx context.Context, e *Engine, op func(context.Context) (T, error)) <-chan answer[T] {
	c := make(chan answer[T], 1)
	go func() {
		v, err := op(ctx)
		e.noteLoss(err)
		c <- answer[T]{v, err}
	}()
	return c
}

// try makes one try, for no longer than a lease or until ctx ends, whatever the store does with contexts: a store whose
// answer never comes must not hold up those who could ask again. A later answer is dropped. grace is how long the answer
// is still waited for when ctx has ended: a write that has begun goes to its end.
func try[T any](ctx context.Context, e *Engine, grace time.Duration, op func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, e.cfg.Lease)
	defer cancel()
	c := send(ctx, e, op)
	select {
	case a := <-c:
		return a.value, a.err
	case <-ctx.Done():
	}
	late := time.NewTimer(grace)
	defer late.Stop()
	select {
	case a := <-c:
		return a.value, a.err
	case <-late.C:
		var none T
		return none, context.Cause(ctx)
	}
}

// manner is how a call is repeated.
type manner struct {
	atMost time.Duration // after which it fails with ErrUnavailable, at once when the store is lost; 0: never
	grace  time.Duration // for the answer of a try that ctx's end has met
	failed func(error)   // hears of each try whose result is unknown; may be nil
	until  chan struct{} // no other try is made once it is closed; may be nil
}

// repeat makes tries until the result is known: the operation succeeded or was refused. It gives up when ctx ends, with
// its cause, or as its manner says.
func repeat[T any](ctx context.Context, e *Engine, m manner, op func(context.Context) (T, error)) (T, error) {
	begin := time.Now()
	for delay := firstBackoff; ; delay = min(2*delay, maxBackoff) {
		v, err := try(ctx, e, m.grace, op)
		if err == nil || store.Definite(err) {
			return v, err
		}
		if cause := context.Cause(ctx); cause != nil {
			return v, cause
		}
		if m.failed != nil {
			m.failed(err)
		}
		if m.atMost > 0 && (time.Since(begin) >= m.atMost || errors.Is(err, store.ErrLost)) {
			return v, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		if !pauseUntil(ctx, m.until, delay) {
			return v, cmp.Or(context.Cause(ctx), ErrShuttingDown)
		}
	}
}

// ask reads from the store, again and again while that does not answer and the caller is kept.
func ask[T any](ctx context.Context, e *Engine, read func(context.Context) (T, error)) (T, error) {
	v, err := repeat(ctx, e, manner{atMost: patience, failed: func(err error) { e.reads.heard(e.log, err) }}, read)
	if err == nil || store.Definite(err) {
		e.reads.heard(e.log, err)
	}
	return v, refusal(err)
}

// pause waits for d; it reports false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool { return pauseUntil(ctx, nil, d) }

// pauseUntil is pause that over, if not nil, ends too.
func pauseUntil(ctx context.Context, over <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	case <-over:
		return false
	}
}

// errand is a write that a caller has asked for. Once the store may have taken it, it goes to its end and is acted on
// whatever the caller does; one that has waited in the store until its caller went is left out.
type errand[T any] struct {
	e     *Engine
	ctx   context.Context // the caller's
	op    func(context.Context) (T, error)
	act   func(T, error) // called once, when the result is known or there is no more to be done
	begun time.Time
	delay time.Duration
	taken bool // a try may have been applied
	alone bool // its caller has gone
	ended bool // act was called for the caller, or is left to a goroutine
}

// carry runs an errand for a caller. Errors: those of the operation; ErrInvalid or ErrTooLarge
// when the store refuses its content; ErrUnavailable, also when too many operations of
// callers who have gone are under way, before anything is sent; the cause of ctx's end, after which the operation may
// still be applied.
func carry[T any](ctx context.Context, e *Engine, op func(context.Context) (T, error), act func(T, error)) (T, error) {
	r := &errand[T]{e: e, ctx: ctx, op: op, act: act, begun: time.Now(), delay: firstBackoff}
	defer func() {
		if !r.ended { // the caller's context is nil, or panics
			var none T
			act(none, fmt.Errorf("%w: the caller's context has panicked", ErrUnavailable))
		}
	}()
	if e.detached.count() >= maxDetached {
		var none T
		err := fmt.Errorf("%w: %d operations are under way whose callers have gone", ErrUnavailable, maxDetached)
		r.ended = true
		act(none, err)
		return none, err
	}
	v, err := r.run(ctx)
	return v, refusal(err)
}

// run makes tries until the errand is done. ctx is the caller's, and the errand is left to a goroutine when that ends; or
// that goroutine's, which ends with the engine.
func (r *errand[T]) run(ctx context.Context) (T, error) {
	for {
		a, answered := r.once(ctx)
		if !answered {
			return a.value, a.err
		}
		if r.done(ctx, &a) {
			return a.value, a.err
		}
		if !pause(ctx, r.delay) && !r.alone {
			return r.leave(nil)
		}
		r.delay = min(2*r.delay, maxBackoff)
	}
}

// once makes a try and waits for its answer. When the caller goes meanwhile the errand is left, and answered false.
func (r *errand[T]) once(ctx context.Context) (a answer[T], answered bool) {
	if err := ctx.Err(); err != nil {
		return answer[T]{err: err}, true
	}
	within, cancel := context.WithTimeout(ctx, r.e.cfg.Lease)
	defer cancel() // if the caller has gone, it has ended already
	c := send(within, r.e, r.op)
	if a, answered = r.await(ctx, c); !answered && !r.alone {
		a.value, a.err = r.leave(c)
		return a, false
	}
	return a, true
}

// await waits for the answer to a try: for no longer than a lease, and until ctx ends.
func (r *errand[T]) await(ctx context.Context, c <-chan answer[T]) (a answer[T], answered bool) {
	limit := time.NewTimer(r.e.cfg.Lease)
	defer limit.Stop()
	select {
	case a = <-c:
		return a, true
	case <-limit.C:
		return answer[T]{err: errLate}, true
	case <-ctx.Done():
	}
	select {
	case a = <-c:
		return a, true
	default:
		return answer[T]{err: context.Cause(ctx)}, false
	}
}

// errLate says that a try was given up.
var errLate = errors.New("the store has not answered in time")

// leave has a goroutine go on with the errand of a caller who has gone; c, if not nil, brings the answer to its try.
func (r *errand[T]) leave(c <-chan answer[T]) (none T, err error) {
	r.e.detached.add(1)
	r.ended = true
	go func() {
		defer r.e.detached.add(-1)
		r.alone = true
		ctx, cancel := context.WithCancel(context.WithoutCancel(r.ctx))
		defer cancel()
		defer context.AfterFunc(r.e.over, cancel)()
		if c != nil {
			if a, _ := r.await(ctx, c); r.done(ctx, &a) {
				return
			}
		}
		r.run(ctx)
	}()
	return none, context.Cause(r.ctx)
}

// tally counts goroutines.
type tally struct {
	mu   sync.Mutex
	n    int64
	none chan struct{} // closed when there are none; nil while nobody waits for that
}

func (t *tally) add(n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n += n
	if t.n == 0 && t.none != nil {
		close(t.none)
		t.none = nil
	}
}

func (t *tally) count() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n
}

// wait waits until there are none.
func (t *tally) wait() {
	t.mu.Lock()
	if t.n == 0 {
		t.mu.Unlock()
		return
	}
	if t.none == nil {
		t.none = make(chan struct{})
	}
	none := t.none
	t.mu.Unlock()
	<-none
}

// done reports whether an answer ends the errand, and acts on it if so. What was left out because its caller went has
// not been applied, unless an earlier try was.
func (r *errand[T]) done(ctx context.Context, a *answer[T]) bool {
	r.e.writes.heard(r.e.log, a.err)
	switch {
	case a.err == nil || store.Definite(a.err):
	case leftOut(a.err) && r.ctx.Err() != nil && !r.taken:
		a.err = context.Cause(r.ctx)
	case r.alone && ctx.Err() != nil:
		a.err = ErrShuttingDown
	case time.Since(r.begun) >= patience, errors.As(a.err, new(*store.LockedError)), errors.Is(a.err, store.ErrLost):
		a.err = fmt.Errorf("%w: %w", ErrUnavailable, a.err)
	default:
		r.taken = true
		return false
	}
	if !r.alone {
		r.ended = true
	}
	r.act(a.value, a.err)
	return true
}

// leftOut reports whether the store says that it did not begin an operation because its context had ended.
func leftOut(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
