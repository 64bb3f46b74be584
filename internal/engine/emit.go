package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/perdure/perdure/store"
)

// Emitted events are written at once when nothing was written for flushEvery; otherwise when that has
// passed, or when flushCount or flushBytes wait.
const (
	flushEvery = 10 * time.Millisecond
	flushCount = 256
	flushBytes = 64 << 10
)

// ErrKeepEvents says that KeepEvents came too late.
var ErrKeepEvents = errors.New("KeepEvents must come before the first Emit and Checkpoint of an entry")

// emitter holds the events of a turn that are not written yet. What it holds is bounded: Emit waits.
type emitter struct {
	mu      sync.Mutex
	events  [][]byte
	bytes   int
	writing bool          // a goroutine writes, until there is nothing to write
	last    time.Time     // when it last began to
	err     error         // why it has given up
	loss    error         // what has become of events that Emit took and the store refused; nil once it is told
	room    chan struct{} // closed when events have been taken; nil while nobody waits for that
	many    chan struct{} // capacity 1: enough wait to be written at once; made with the goroutine
	gone    sync.WaitGroup
}

// Emit appends events, in this order, to the task's stream (E1). It returns when they have found room among
// those that wait to be written; what cannot be written is told to the next Emit or Checkpoint. Errors:
// ErrTooLarge, before anything is appended; store.ErrLeaseLost, ErrTerminated; ctx's own, when it ended
// while there was no room: then the first of the events may have been appended.
func (a *Attempt) Emit(ctx context.Context, events ...[]byte) error {
	if err := a.CheckEvents(events...); err != nil {
		return err
	}
	for i, e := range events {
		sealed, err := a.e.encode(place{ofEvent, a.task.ID, ""}, e)
		if err != nil {
			return fmt.Errorf("encode event: %w", err)
		}
		events[i] = sealed
	}
	for _, e := range events {
		if err := a.append(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// CheckEvents reports ErrTooLarge for events over the limit.
func (a *Attempt) CheckEvents(events ...[]byte) error {
	for _, e := range events {
		if len(e) > a.e.cfg.MaxEvent {
			return fmt.Errorf("event of %d bytes: %w: the limit is %d", len(e), ErrTooLarge, a.e.cfg.MaxEvent)
		}
	}
	return nil
}

// Emitted wakes readers of the task's stream: something was emitted beside the store.
func (a *Attempt) Emitted() { a.e.streams.wake(a.life.lease.Incarnation) }

func (a *Attempt) append(ctx context.Context, event []byte) error {
	for {
		room, err := a.tryAppend(event)
		if err != nil || room == nil {
			return err
		}
		select {
		case <-room:
		case <-a.ctx.Done():
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// tryAppend appends an event if there is room, else it returns what is closed when there may be.
func (a *Attempt) tryAppend(event []byte) (room chan struct{}, err error) {
	m := &a.emitter
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return nil, m.err
	}
	if err := m.loss; err != nil {
		m.loss = nil
		return nil, err
	}
	if a.ctx.Err() != nil {
		return nil, context.Cause(a.ctx)
	}
	if len(m.events) >= a.e.cfg.EmitEvents || len(m.events) > 0 && m.bytes+len(event) > a.e.cfg.EmitBytes {
		if m.room == nil {
			m.room = make(chan struct{})
		}
		return m.room, nil
	}
	m.events = append(m.events, event)
	m.bytes += len(event)
	switch {
	case !m.writing:
		m.writing = true
		if m.many == nil {
			m.many = make(chan struct{}, 1)
		}
		m.gone.Go(a.writeEvents)
	case m.enough(a.e.cfg.EmitEvents):
		ring(m.many)
	}
	return nil, nil
}

// enough reports whether what waits is worth a write of its own. m.mu is held.
func (m *emitter) enough(most int) bool {
	return len(m.events) >= min(flushCount, most) || m.bytes >= flushBytes
}

// collect empties the buffer.
func (m *emitter) collect() [][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	events := m.events
	m.events, m.bytes = nil, 0
	if m.room != nil {
		close(m.room)
		m.room = nil
	}
	return events
}

// writeEvents is the goroutine that writes what was emitted, until nothing waits.
func (a *Attempt) writeEvents() {
	for a.untilWrite() {
		if a.pen.lock(a.ctx) != nil {
			continue
		}
		if err := a.flush(); err != nil {
			a.emitter.fail(a.lostBy(err)) // before the pen is free: the turn's end must not leave out what is lost here
		}
		a.pen.unlock()
	}
}

// flush writes what waits. The pen is held.
func (a *Attempt) flush() error {
	events := a.emitter.collect()
	if len(events) == 0 {
		return nil // a checkpoint has written them
	}
	return a.pen.write(a.ctx, a, &store.CheckpointRequest{Events: events})
}

// untilWrite waits until what was emitted is to be written. It returns false, and ends the goroutine, when
// nothing was, or nothing may be written any more.
func (a *Attempt) untilWrite() bool {
	m := &a.emitter
	m.mu.Lock()
	pause := flushEvery - time.Since(m.last)
	if m.enough(a.e.cfg.EmitEvents) {
		pause = 0
	}
	if len(m.events) == 0 || m.err != nil || a.ctx.Err() != nil {
		m.writing = false
		m.mu.Unlock()
		return false
	}
	m.mu.Unlock()
	if pause > 0 {
		timer := time.NewTimer(pause)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-m.many:
		case <-a.ctx.Done():
		}
	}
	m.mu.Lock()
	m.last = time.Now()
	m.mu.Unlock()
	return true
}

// fail makes all that follows fail; a refusal of what was to be written, what follows next.
func (m *emitter) fail(err error) {
	m.mu.Lock()
	if isContent(err) {
		m.loss = fmt.Errorf("events that were emitted before are lost: %w", err)
		m.mu.Unlock()
		return
	}
	m.err = err
	m.mu.Unlock()
	m.collect()
}

// tellLoss returns, once, that events are lost which Emit took.
func (m *emitter) tellLoss() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := m.loss
	m.loss = nil
	return err
}

// errReturned is what emitting gets once the handler has returned.
var errReturned = fmt.Errorf("handler has returned: %w", store.ErrLeaseLost)

// close refuses what comes later. What waits is left for the end of the turn.
func (m *emitter) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil {
		m.err = errReturned
	}
}

// putBack keeps the events of a request that was never sent for the next one.
func (m *emitter) putBack(events [][]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range events {
		m.bytes += len(e)
	}
	m.events = append(events, m.events...)
}

func (m *emitter) begun() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.writing || len(m.events) > 0
}

// lastPage is how many events lastEvent looks at at once.
const lastPage = 100

// lastEvent reads the last message of this turn, going back piece by piece.
func (a *Attempt) lastEvent(ctx context.Context) (*store.Event, error) {
	for upTo := a.task.LastEvent; upTo > 0; upTo -= lastPage {
		last, err := a.lastMessage(ctx, max(0, upTo-lastPage), upTo)
		switch {
		case err != nil:
			return nil, err
		case last == nil:
			continue
		case last.Turn != a.task.Turn.Number:
			return nil, nil
		}
		return a.e.unsealEvent(a.task.ID, last)
	}
	return nil, nil
}

// lastMessage returns the last message in a part of the stream that still stands; nil if there is none.
func (a *Attempt) lastMessage(ctx context.Context, after, upTo int64) (last *store.Event, err error) {
	q := store.EventsQuery{TaskID: a.task.ID, Incarnation: a.life.lease.Incarnation, Committed: true, Limit: lastPage}
	for q.After = after; q.After < upTo; {
		page, err := repeat(ctx, a.e, manner{}, func(ctx context.Context) (*store.EventPage, error) { return a.e.store.Events(ctx, q) })
		if err != nil {
			return nil, err
		}
		for i, e := range page.Events {
			if e.Kind == store.EventMessage && e.Number <= upTo {
				last = &page.Events[i]
			}
		}
		if page.Next <= q.After {
			break
		}
		q.After = page.Next
	}
	return last, nil
}
