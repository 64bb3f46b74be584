package engine

import (
	"time"

	"github.com/perdure/perdure/store"
)

// watchDeadline arms the turn's deadline: first the interrupt, and after the grace the end (C5). A turn
// that is entered past its deadline has its grace from that entry.
func (a *Attempt) watchDeadline() {
	if a.task.Turn.Deadline.IsZero() {
		return
	}
	left := max(a.task.Turn.Deadline.Sub(a.task.EnteredAt), 0)
	a.overdueAt = time.Now().Add(left)
	a.timers.set(ofDeadline, left, func() {
		a.pastDeadline()
		a.timers.set(ofDeadline, a.task.Settings.TimeoutGrace, a.expire)
	})
}

// isOverdue reports whether the turn's deadline has passed, whether or not its timer has noticed. It is called when the
// handler has returned.
func (a *Attempt) isOverdue() bool { return !a.overdueAt.IsZero() && !time.Now().Before(a.overdueAt) }

// expire ends a turn that has ignored its deadline for the grace (C5). The end is written here, and what the store hands
// back with it is run here, also when the handler returns meanwhile.
func (a *Attempt) expire() {
	a.e.mu.Lock()
	before := a.e.roster.advance(a.life, expired)
	now := a.life.phase
	if now != before {
		a.e.goroutines++
	}
	a.e.mu.Unlock()
	if now == before {
		return
	}
	a.follow(before, now, ErrTerminated)
	a.e.goOn(a, func() *Attempt { return a.settle(halted(store.Terminated, "deadline", a.task.Settings)) })
}
