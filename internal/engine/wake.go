package engine

import (
	"context"
	"sync"
	"time"

	"github.com/perdure/perdure/store"
)

// How often a waiter looks at the store by itself: seldom where the store tells of others' writes.
const (
	waitPoll       = time.Second
	waitPollHinted = 10 * time.Second
)

// hub wakes those who wait for something to happen to a task. What it tells are hints.
type hub struct {
	mu      sync.Mutex
	waiters map[int64]map[chan struct{}]bool // by incarnation
	mail    int64                            // the last piece of mail that was delivered
}

func newHub() *hub { return &hub{waiters: map[int64]map[chan struct{}]bool{}} }

// join returns a channel that receives when the task may have changed.
func (h *hub) join(incarnation int64) chan struct{} {
	c := make(chan struct{}, 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.waiters[incarnation] == nil {
		h.waiters[incarnation] = map[chan struct{}]bool{}
	}
	h.waiters[incarnation][c] = true
	return c
}

func (h *hub) leave(incarnation int64, c chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.waiters[incarnation], c)
	if len(h.waiters[incarnation]) == 0 {
		delete(h.waiters, incarnation)
	}
}

func (h *hub) wake(incarnation int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.waiters[incarnation] {
		wake(c)
	}
}

func (h *hub) wakeAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, waiters := range h.waiters {
		for c := range waiters {
			wake(c)
		}
	}
}

// changed wakes all who are interested in a task.
func (e *Engine) changed(incarnation int64) {
	e.hub.wake(incarnation)
	e.streams.wake(incarnation)
}

func (e *Engine) allChanged() {
	e.hub.wakeAll()
	e.streams.wakeAll()
}

func (h *hub) seenMail() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mail
}

func (h *hub) sawMail(seq int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mail = max(h.mail, seq)
}

// Await returns a turn once it has ended. a, if not nil, is the attempt that runs it here. Errors:
// store.ErrNotFound, store.ErrDeleted, ErrParked (with the turn), ctx's own.
func (e *Engine) Await(ctx context.Context, q store.TurnQuery, a *Attempt) (*store.Turn, error) {
	if a != nil {
		select {
		case <-a.done:
			if a.ended != nil {
				return e.unsealTurn(a.ended)
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	turn, err := e.lookup(ctx, q)
	if err != nil || turn.Status.Outcome() {
		return turn, err
	}
	q.Incarnation, q.Number = turn.Incarnation, turn.Number
	changed := e.hub.join(q.Incarnation)
	defer e.hub.leave(q.Incarnation, changed)
	poll := time.NewTimer(e.poll())
	defer poll.Stop()
	for {
		turn, err := e.lookup(ctx, q)
		if err != nil || turn.Status.Outcome() {
			return turn, err
		}
		select {
		case <-changed:
		case <-poll.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		poll.Reset(e.poll())
	}
}

// poll relies on the store's hints only while they come.
func (e *Engine) poll() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.hinted {
		return waitPollHinted
	}
	return waitPoll
}

// lookup reads a turn; one that is parked is an error beside it.
func (e *Engine) lookup(ctx context.Context, q store.TurnQuery) (*store.Turn, error) {
	turn, err := ask(ctx, e, func(ctx context.Context) (*store.Turn, error) { return e.store.Turn(ctx, q) })
	if err != nil {
		return nil, err
	}
	if turn.Status == store.Parked {
		return turn, ErrParked
	}
	return e.unsealTurn(turn)
}
