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
		sealed, err := a.e.encode(place{event, a.task.ID, ""}, e)
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

// Writable returns why the turn may no longer write; nil if it may.
func (a *Attempt) Writable() error {
	if a.ctx.Err() != nil {
		return context.Cause(a.ctx)
	}
	return nil
}

// Emitted wakes readers of the task's stream: something was emitted beside the store.
func (a *Attempt) Emitted() { a.e.streams.wake(a.lease.Incarnation) }

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
		wake(m.many)
	}
	return nil, nil
}

// enough reports whether what waits is worth a write of its own. m.mu is held.
func (m *emitter) enough(most int) bool {
	return len(m.events) >= min(flushCount, most) || m.bytes >= flushBytes
}

// take empties the buffer.
func (m *emitter) take() [][]byte {
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
		select {
		case a.saving <- struct{}{}:
		case <-a.ctx.Done():
			continue
		}
		err := a.flush()
		<-a.saving
		if err != nil {
			a.emitter.fail(a.lostBy(err))
		}
	}
}

// flush writes what waits. a.saving is held.
func (a *Attempt) flush() error {
	events := a.emitter.take()
	if len(events) == 0 {
		return nil // a checkpoint has written them
	}
	return a.write(a.ctx, &store.CheckpointRequest{Events: events})
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

// fail makes all that follows fail.
func (m *emitter) fail(err error) {
	m.mu.Lock()
	m.err = err
	m.mu.Unlock()
	m.take()
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

// write sends a request of this turn, after the one before if the result of that is unknown: both have
// numbers by which the store recognises them (O6). It repeats until the result is known or ctx ends.
// a.saving is held.
func (a *Attempt) write(ctx context.Context, req *store.CheckpointRequest) error {
	req.Lease = a.lease
	if err := a.resend(ctx); err != nil {
		a.owe(req)
		return err
	}
	a.number++
	req.Number = a.number
	a.unknown = req
	return a.resend(ctx)
}

// resend sends the request whose result is unknown, if there is one.
func (a *Attempt) resend(ctx context.Context) error {
	if a.unknown == nil {
		return nil
	}
	req := a.unknown
	err := a.e.repeat(ctx, 0, func(ctx context.Context) error {
		_, err := a.e.store.Checkpoint(ctx, req)
		return err
	})
	if err == nil || store.Definite(err) {
		a.unknown = nil
	}
	if err == nil {
		a.e.stats.events.Add(int64(len(req.Events)))
		a.e.streams.wake(a.lease.Incarnation)
	}
	return err
}

// owe keeps the events of a request that was never sent for the next one.
func (a *Attempt) owe(req *store.CheckpointRequest) {
	m := &a.emitter
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range req.Events {
		m.bytes += len(e)
	}
	m.events = append(req.Events, m.events...)
}

// KeepEvents keeps what the try before had emitted after its last checkpoint, which would otherwise be taken
// back (E2). It returns when that is durable, with the last event of this turn, or nil if there is none. It
// must come before the first Emit and Checkpoint of an entry: ErrKeepEvents. Other errors are as those of
// Checkpoint.
func (a *Attempt) KeepEvents(ctx context.Context) (*store.Event, error) {
	ctx, stop := a.whileHeld(ctx)
	defer stop()
	select {
	case a.saving <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer func() { <-a.saving }()
	if a.number > 0 || a.emitter.begun() {
		return nil, ErrKeepEvents
	}
	if err := a.write(ctx, &store.CheckpointRequest{KeepEvents: true}); err != nil {
		return nil, a.lostBy(err)
	}
	return a.lastEvent(ctx)
}

func (m *emitter) begun() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.writing || len(m.events) > 0
}

// lastPage is how many events lastEvent looks at at once.
const lastPage = 100

// lastEvent reads the last message of this turn.
func (a *Attempt) lastEvent(ctx context.Context) (*store.Event, error) {
	q := store.EventsQuery{TaskID: a.task.ID, Incarnation: a.lease.Incarnation, Committed: true, Limit: lastPage}
	for before := a.task.LastEvent; before > 0; before -= lastPage {
		q.After = max(0, before-lastPage)
		var page *store.EventPage
		err := a.e.repeat(ctx, 0, func(ctx context.Context) (err error) {
			page, err = a.e.store.Events(ctx, q)
			return err
		})
		if err != nil {
			return nil, err
		}
		if e, found := lastOf(page.Events, a.task.Turn.Number); e != nil || found {
			return a.e.unsealEvent(a.task.ID, e)
		}
	}
	return nil, nil
}

// lastOf returns the last message of a turn. over says that those before are of other turns.
func lastOf(events []store.Event, turn int64) (last *store.Event, over bool) {
	for i := len(events) - 1; i >= 0; i-- {
		e := &events[i]
		if e.Kind != store.EventMessage {
			continue
		}
		if e.Turn != turn {
			return nil, true
		}
		return e, true
	}
	return nil, false
}
