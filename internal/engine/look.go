package engine

import (
	"context"
	"errors"

	"github.com/perdure/perdure/store"
)

// lookAfter has a task looked at when err leaves open whether an operation on it was applied: the turn that runs here has
// not been told, and no mail comes, as the operation was of this worker.
func (e *Engine) lookAfter(id string, err error) {
	if errors.Is(err, ErrUnavailable) {
		e.look(id)
	}
}

// look reads a task until the store answers, and tells the turn that runs here what is to be known of it. One goroutine
// does so for a task, and none when no turn of it can run here.
func (e *Engine) look(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, already := e.looking[id]; already {
		e.looking[id] = true
		return
	}
	if len(e.livesOf(id)) == 0 && len(e.roster.tickets.open) == 0 || e.roster.state == stopped {
		return
	}
	e.looking[id] = false
	e.detached.add(1)
	go func() {
		defer e.detached.add(-1)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		defer context.AfterFunc(e.over, cancel)()
		for again := true; again; again = e.lookOnceMore(id) {
			e.lookOnce(ctx, id)
		}
	}()
}

// lookOnceMore reports whether another look was asked for meanwhile; else the looking ends.
func (e *Engine) lookOnceMore(id string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.looking[id] {
		e.looking[id] = false
		return true
	}
	delete(e.looking, id)
	return false
}

func (e *Engine) lookOnce(ctx context.Context, id string) {
	e.mu.Lock()
	held := e.livesOf(id)
	e.mu.Unlock()
	t, err := repeat(ctx, e, manner{}, func(ctx context.Context) (*store.Task, error) { return e.store.Get(ctx, id) })
	switch {
	case err == nil:
		e.changed(t.Incarnation)
		if t.Worker != "" {
			e.tell(t.Incarnation, t.Epoch, func(a *Attempt) { a.learn(t) })
		}
	case !store.Definite(err):
		return // the engine has ended, or the store is lost
	}
	for _, l := range held {
		if t == nil || l.lease != leaseOf(t) {
			l.of.supersede(t)
		}
	}
}

// livesOf returns the attempts that hold a lease of a task and have not begun to write their end. e.mu is held.
func (e *Engine) livesOf(id string) (lives []*life) {
	for _, l := range e.roster.leases {
		if l.task == id && !l.phase.ending() {
			lives = append(lives, l)
		}
	}
	return lives
}

// learn takes from its task's row what a turn hears of otherwise.
func (a *Attempt) learn(t *store.Task) {
	if t.Nudging > 0 {
		a.steered()
	}
	if t.Turn.Cancel {
		a.cancelled(t.Turn.CancelReason)
	}
	a.queue.note(t.Queued, t.Version)
}

// supersede ends an attempt whose task has another lease, or none, or is gone (nil), unless it writes its own end: the
// answer to that says more.
func (a *Attempt) supersede(t *store.Task) {
	a.e.mu.Lock()
	ending := a.life.phase.ending()
	a.e.mu.Unlock()
	switch {
	case ending:
	case t == nil || t.Incarnation != a.life.lease.Incarnation || t.Status.Outcome():
		a.lose(ErrTerminated)
	default:
		a.refused()
	}
}
