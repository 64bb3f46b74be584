package perduretest

import (
	"context"
	"sync"

	"github.com/perdure/perdure/store"
)

// mortal is one process's view of the store. Once dead, nothing reaches the store any more.
type mortal struct {
	inner store.Store
	h     *Harness
	dead  chan struct{}
	once  sync.Once
	hint  chan struct{}
}

var (
	_ store.Store    = (*mortal)(nil)
	_ store.Notifier = (*mortal)(nil) // by which the engine hears at once of its death
)

func newMortal(h *Harness) *mortal {
	m := &mortal{inner: h.store, h: h, dead: make(chan struct{}), hint: make(chan struct{}, 1)}
	h.hints.add(m.hint)
	return m
}

func (m *mortal) die() { m.once.Do(func() { close(m.dead) }) }

func (m *mortal) alive() error {
	select {
	case <-m.dead:
		return store.ErrClosed
	default:
		return nil
	}
}

// write makes a write, dying on either side of it where the test says so.
func write[T any](m *mortal, w Write, op func() (T, error)) (T, error) {
	var none T
	if err := m.alive(); err != nil {
		return none, err
	}
	before, after := m.h.count(w)
	if before {
		m.h.Crash()
		return none, store.ErrClosed
	}
	v, err := op()
	if after {
		m.h.Crash()
	}
	if m.alive() != nil {
		return none, store.ErrClosed
	}
	m.h.hints.send(m.hint)
	return v, err
}

// read makes a call that is no point to crash at.
func read[T any](m *mortal, op func() (T, error)) (T, error) {
	if err := m.alive(); err != nil {
		var none T
		return none, err
	}
	return op()
}

// Offer implements store.Store.
func (m *mortal) Offer(ctx context.Context, req *store.OfferRequest) (*store.Offered, error) {
	return write(m, Start, func() (*store.Offered, error) { return m.inner.Offer(ctx, req) })
}

// Claim implements store.Store. It counts only where it leases something: others happen all the time.
func (m *mortal) Claim(ctx context.Context, req *store.ClaimRequest) (*store.Claimed, error) {
	c, err := read(m, func() (*store.Claimed, error) { return m.inner.Claim(ctx, req) })
	if err != nil || len(c.Entries) == 0 {
		return c, err
	}
	if before, after := m.h.count(Claim); before || after {
		m.h.Crash()
		return nil, store.ErrClosed
	}
	return c, nil
}

// Checkpoint implements store.Store.
func (m *mortal) Checkpoint(ctx context.Context, req *store.CheckpointRequest) (*store.Checkpointed, error) {
	return write(m, Checkpoint, func() (*store.Checkpointed, error) { return m.inner.Checkpoint(ctx, req) })
}

// Settle implements store.Store.
func (m *mortal) Settle(ctx context.Context, req *store.SettleRequest) (*store.Settled, error) {
	return write(m, End, func() (*store.Settled, error) { return m.inner.Settle(ctx, req) })
}

// Signal implements store.Store.
func (m *mortal) Signal(ctx context.Context, req *store.SignalRequest) (*store.Signalled, error) {
	s, err := read(m, func() (*store.Signalled, error) { return m.inner.Signal(ctx, req) })
	m.h.hints.send(m.hint)
	return s, err
}

// Delete implements store.Store.
func (m *mortal) Delete(ctx context.Context, req *store.DeleteRequest) (*store.Removed, error) {
	r, err := read(m, func() (*store.Removed, error) { return m.inner.Delete(ctx, req) })
	m.h.hints.send(m.hint)
	return r, err
}

// Heartbeat implements store.Store.
func (m *mortal) Heartbeat(ctx context.Context, req *store.HeartbeatRequest) (*store.Beat, error) {
	return read(m, func() (*store.Beat, error) { return m.inner.Heartbeat(ctx, req) })
}

// Poll implements store.Store.
func (m *mortal) Poll(ctx context.Context, req *store.PollRequest) (*store.Polled, error) {
	return read(m, func() (*store.Polled, error) { return m.inner.Poll(ctx, req) })
}

// Sweep implements store.Store.
func (m *mortal) Sweep(ctx context.Context, limit int) (*store.Swept, error) {
	return read(m, func() (*store.Swept, error) { return m.inner.Sweep(ctx, limit) })
}

// Get implements store.Store.
func (m *mortal) Get(ctx context.Context, id string) (*store.Task, error) {
	return read(m, func() (*store.Task, error) { return m.inner.Get(ctx, id) })
}

// Turn implements store.Store.
func (m *mortal) Turn(ctx context.Context, q store.TurnQuery) (*store.Turn, error) {
	return read(m, func() (*store.Turn, error) { return m.inner.Turn(ctx, q) })
}

// Turns implements store.Store.
func (m *mortal) Turns(ctx context.Context, q store.TurnsQuery) (*store.TurnPage, error) {
	return read(m, func() (*store.TurnPage, error) { return m.inner.Turns(ctx, q) })
}

// List implements store.Store.
func (m *mortal) List(ctx context.Context, q store.ListQuery) (*store.TaskPage, error) {
	return read(m, func() (*store.TaskPage, error) { return m.inner.List(ctx, q) })
}

// Events implements store.Store.
func (m *mortal) Events(ctx context.Context, q store.EventsQuery) (*store.EventPage, error) {
	return read(m, func() (*store.EventPage, error) { return m.inner.Events(ctx, q) })
}

// Waiting implements store.Store.
func (m *mortal) Waiting(ctx context.Context, except []string, most int) (map[string]int, error) {
	return read(m, func() (map[string]int, error) { return m.inner.Waiting(ctx, except, most) })
}

// Workers implements store.Store.
func (m *mortal) Workers(ctx context.Context) ([]*store.Worker, error) {
	return read(m, func() ([]*store.Worker, error) { return m.inner.Workers(ctx) })
}

// Close implements store.Store: the process ends, the store goes on.
func (m *mortal) Close() error {
	m.die()
	return nil
}

// Listen passes on hints of other processes' writes, and tells of this one's death.
func (m *mortal) Listen(ctx context.Context, hint func(store.Hint)) error {
	defer m.h.hints.remove(m.hint)
	hint(store.Hint{All: true})
	for {
		select {
		case <-m.hint:
			hint(store.Hint{All: true})
		case <-m.dead:
			return store.ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// hints tells processes of each other's writes.
type hints struct {
	mu  sync.Mutex
	all map[chan struct{}]bool
}

func (h *hints) add(c chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.all == nil {
		h.all = map[chan struct{}]bool{}
	}
	h.all[c] = true
}

func (h *hints) remove(c chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.all, c)
}

func (h *hints) send(from chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.all {
		if c == from {
			continue
		}
		select {
		case c <- struct{}{}:
		default:
		}
	}
}
