package engine

import (
	"sync"
	"time"
)

// bell wakes a loop; rung again before the loop has come, it wakes it once.
type bell chan struct{}

func newBell() bell { return make(bell, 1) }

func (b bell) ring() { ring(b) }

// ring makes a receiver of c run once more.
func ring(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// hub wakes those who wait for something to happen to a task. What it tells are hints.
type hub struct {
	mu      sync.Mutex
	waiters map[int64]map[chan struct{}]bool // by incarnation
	count   int
	next    time.Time
	pending bool // a wakeSome is to come
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
	h.count++
	return c
}

func (h *hub) leave(incarnation int64, c chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.waiters[incarnation], c)
	h.count--
	if len(h.waiters[incarnation]) == 0 {
		delete(h.waiters, incarnation)
	}
}

func (h *hub) wake(incarnation int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.waiters[incarnation] {
		ring(c)
	}
}

func (h *hub) wakeAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ringAll()
}

func (h *hub) ringAll() {
	for _, waiters := range h.waiters {
		for c := range waiters {
			ring(c)
		}
	}
}

// perWaiter is how long all waiters are left alone, for each of them, after they were woken for what may concern none:
// each reads from the store.
const perWaiter = 200 * time.Microsecond

// wakeSome is wakeAll for news that may concern none of them: at once for a few waiters, and the more seldom the more
// there are.
func (h *hub) wakeSome() {
	h.mu.Lock()
	defer h.mu.Unlock()
	left := time.Until(h.next)
	switch {
	case left <= 0:
		h.next = time.Now().Add(time.Duration(h.count) * perWaiter)
		h.ringAll()
	case !h.pending:
		h.pending = true
		time.AfterFunc(left, func() {
			h.mu.Lock()
			h.pending = false
			h.mu.Unlock()
			h.wakeSome()
		})
	}
}

// changed wakes all who are interested in a task.
func (e *Engine) changed(incarnation int64) {
	e.hub.wake(incarnation)
	e.streams.wake(incarnation)
}

// allChanged wakes all.
func (e *Engine) allChanged() {
	e.hub.wakeAll()
	e.streams.wakeAll()
}

// anyChanged wakes all for what may concern none.
func (e *Engine) anyChanged() {
	e.hub.wakeSome()
	e.streams.wakeSome()
}
