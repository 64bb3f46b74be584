package engine

import (
	"context"
	"fmt"
	"strings"
	"time"
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

// interrupt adds causes to the turn and fires its interrupt. A steer alone waits for the func's grace.
func (a *Attempt) interrupt(more Causes) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.causes = a.causes.with(more)
	if a.causes.Steered && a.grace == nil && a.fn.SteerGrace > 0 && !a.returned {
		a.grace = time.AfterFunc(a.fn.SteerGrace, a.endGrace)
	}
	a.fireIfCaused()
}

func (a *Attempt) endGrace() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.graceOver = true
	a.fireIfCaused()
}

// fireIfCaused fires the interrupt, if there is a cause and anybody who could see it. a.mu is held.
func (a *Attempt) fireIfCaused() {
	held := a.causes.steeredOnly() && a.fn.SteerGrace > 0 && !a.graceOver
	if a.fire != nil && a.causes.Any() && !held {
		a.fire(&InterruptError{Causes: a.causes})
	}
}

// SafePoint returns the interrupt's error as soon as there is a cause, whatever the grace of a steer; the
// cause of the end of ctx, or of the attempt's own, if that is over; else nil.
func (a *Attempt) SafePoint(ctx context.Context) error {
	if a.ctx.Err() != nil {
		return context.Cause(a.ctx)
	}
	if causes := a.Causes(); causes.Any() {
		return &InterruptError{Causes: causes}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// Causes returns why the turn is interrupted; none while it is not.
func (a *Attempt) Causes() Causes {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.causes
}

// behind notes how many inputs wait behind the turn, as of a version of its task.
func (a *Attempt) behind(n int, version int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if version > a.version {
		a.pending, a.version = n, version
	}
}

// watchDeadline arms the turn's deadline: first the interrupt, and after the grace the end (C5). A turn
// that is entered past its deadline has its grace from that entry.
func (a *Attempt) watchDeadline() {
	if a.task.Turn.Deadline.IsZero() {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	left := max(a.task.Turn.Deadline.Sub(a.task.EnteredAt), 0)
	a.deadline = time.AfterFunc(left, a.pastDeadline)
}

func (a *Attempt) pastDeadline() {
	a.interrupt(Causes{Deadline: true})
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.returned {
		return
	}
	a.deadline = time.AfterFunc(a.task.Settings.TimeoutGrace, a.expire)
}

// stopTimers ends the turn's timers once its handler has returned.
func (a *Attempt) stopTimers() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, t := range []*time.Timer{a.deadline, a.grace, a.auto, a.probation} {
		if t != nil {
			t.Stop()
		}
	}
}
