package engine

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/perdure/perdure/store"
)

// Causes say why a turn is interrupted. They only grow within a turn (rule C2).
type Causes struct {
	Steered      bool
	Cancel       bool
	CancelReason string
	Deadline     bool
	Shutdown     bool
}

// Any reports whether there is a cause.
func (c Causes) Any() bool { return c.Steered || c.Cancel || c.Deadline || c.Shutdown }

// steeredOnly reports whether a newer input is all there is.
func (c Causes) steeredOnly() bool { return c.Steered && !c.Cancel && !c.Deadline && !c.Shutdown }

// shutdownOnly reports whether the end of the engine is all there is.
func (c Causes) shutdownOnly() bool { return c.Shutdown && !c.Cancel && !c.Deadline && !c.Steered }

func (c Causes) String() string {
	var s []string
	add := func(set bool, name string) {
		if set {
			s = append(s, name)
		}
	}
	add(c.Steered, "steered")
	add(c.Cancel, "cancel requested")
	add(c.Deadline, "deadline")
	add(c.Shutdown, "shutdown")
	return strings.Join(s, ", ")
}

func (c Causes) with(more Causes) Causes {
	c.Steered = c.Steered || more.Steered
	if more.Cancel && !c.Cancel {
		c.Cancel, c.CancelReason = true, more.CancelReason
	}
	c.Deadline = c.Deadline || more.Deadline
	c.Shutdown = c.Shutdown || more.Shutdown
	return c
}

// InterruptError is the cause with which a turn's interrupt context ends.
type InterruptError struct{ Causes Causes }

func (e *InterruptError) Error() string { return fmt.Sprintf("%v: %v", ErrInterrupted, e.Causes) }

// Is makes errors.Is(err, ErrInterrupted) true.
func (e *InterruptError) Is(target error) bool { return target == ErrInterrupted }

// The doors into an interrupt are these methods, each for one cause, and no others:
//
//	atEntry        what the store knew when the turn was leased      (enter.go)
//	steered        a newer input, given here or elsewhere            (inbox.go, mail.go)
//	cancelled      a cancel, from here or elsewhere                  (signal.go, mail.go)
//	pastDeadline   the turn's deadline                               (deadline.go)
//	shuttingDown   the end of the engine                             (shutdown.go)

func (a *Attempt) atEntry() {
	t := a.task
	a.interrupt.add(Causes{
		Steered: t.Nudging > 0, Cancel: t.Turn.Cancel, CancelReason: t.Turn.CancelReason,
		Deadline: !t.Turn.Deadline.IsZero() && !t.EnteredAt.Before(t.Turn.Deadline),
	})
}

func (a *Attempt) steered() { a.interrupt.add(Causes{Steered: true}) }

func (a *Attempt) cancelled(reason string) {
	a.interrupt.add(Causes{Cancel: true, CancelReason: reason})
}

func (a *Attempt) pastDeadline() { a.interrupt.add(Causes{Deadline: true}) }

func (a *Attempt) shuttingDown() { a.interrupt.add(Causes{Shutdown: true}) }

// interrupt is a turn's cooperative interrupt: its causes, and whether the handler has been shown any.
type interrupt struct {
	grace time.Duration // for which a steer alone does not fire it

	mu        sync.Mutex
	causes    Causes
	shown     bool
	closed    bool            // the handler has returned
	ctx       context.Context // made when the handler first asks for it
	fire      context.CancelCauseFunc
	timer     *time.Timer // of the grace
	graceOver bool
}

// add adds causes, and fires. A steer alone waits for the func's grace.
func (i *interrupt) add(more Causes) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.causes = i.causes.with(more)
	if i.causes.Steered && i.timer == nil && i.grace > 0 && !i.closed {
		i.timer = time.AfterFunc(i.grace, i.endGrace)
	}
	i.fireIfCaused()
}

func (i *interrupt) endGrace() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.graceOver = true
	i.fireIfCaused()
}

// fireIfCaused fires, if there is a cause and anybody who could see it. i.mu is held.
func (i *interrupt) fireIfCaused() {
	held := i.causes.steeredOnly() && i.grace > 0 && !i.graceOver
	if i.fire != nil && i.causes.Any() && !held {
		i.shown = true
		i.fire(&InterruptError{Causes: i.causes})
	}
}

// context returns the context that ends on the interrupt too.
func (i *interrupt) context(parent context.Context) context.Context {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.ctx == nil {
		i.ctx, i.fire = context.WithCancelCause(parent)
		i.fireIfCaused()
	}
	return i.ctx
}

// show returns the causes to the handler.
func (i *interrupt) show() Causes {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.shown = i.shown || i.causes.Any()
	return i.causes
}

// close ends the interrupt when the handler has returned, and returns its causes and whether the handler was shown any.
// A deadline that has passed counts as shown.
func (i *interrupt) close(overdue bool) (causes Causes, shown bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closed = true
	if i.timer != nil {
		i.timer.Stop()
	}
	if overdue {
		i.causes.Deadline, i.shown = true, true
	}
	return i.causes, i.shown
}

// Interrupt returns the context that ends on a cooperative request too.
func (a *Attempt) Interrupt() context.Context { return a.interrupt.context(a.ctx) }

// SafePoint returns the interrupt's error as soon as there is a cause, whatever the grace of a steer; the
// cause of the end of ctx, or of the attempt's own, if that is over; else nil.
func (a *Attempt) SafePoint(ctx context.Context) error {
	if a.ctx.Err() != nil {
		return context.Cause(a.ctx)
	}
	if causes := a.interrupt.show(); causes.Any() {
		return &InterruptError{Causes: causes}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// Causes returns why the turn is interrupted, to its handler; none while it is not.
func (a *Attempt) Causes() Causes { return a.interrupt.show() }

// queue is what waits behind a turn, as of a version of its task.
type queue struct {
	mu      sync.Mutex
	inputs  int
	version int64
}

// note takes the news of a version of the task, unless it is older than what is known.
func (q *queue) note(inputs int, version int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if version > q.version {
		q.inputs, q.version = inputs, version
	}
}

// Pending returns how many inputs wait behind the turn.
func (a *Attempt) Pending() int {
	a.queue.mu.Lock()
	defer a.queue.mu.Unlock()
	return a.queue.inputs
}

// hear brings a piece of mail to the turn that it is for.
func (a *Attempt) hear(m store.Mail) {
	switch m.Kind {
	case store.MailTerminated, store.MailDeleted:
		a.lose(ErrTerminated)
		return
	case store.MailSteered:
		a.steered()
	case store.MailCancel:
		a.cancelled(m.Reason)
	}
	a.queue.note(m.Behind, m.Version)
}
