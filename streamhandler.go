package perdure

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/perdure/perdure/internal/engine"
)

// StreamHandler keeps the messages of a task in a place of its own; the store then has none of them (E4). See
// FuncOptions.Stream. What it does with the messages of a try that did not come to its end is its own affair:
// there are no rewinds.
type StreamHandler interface {
	// Put appends a message; it is called by one goroutine at a time, in the order of Emit, whose error its
	// error becomes. The event has a Turn, an Attempt, a time and Data, and no Number.
	Put(ctx context.Context, e Event) error
	// Get returns the messages after a number that are there now, in order, or some of the first of them; each
	// with the Number, from 1, that it has among the task's messages.
	Get(ctx context.Context, after int64) ([]Event, error)
	// Close ends the handler. It is called once.
	Close() error
}

// customStream is the stream handler of one entry.
type customStream struct {
	mu sync.Mutex
	h  StreamHandler
}

// openStream builds the stream handler of an entry, if its func has one. close is never nil.
func openStream(ctx context.Context, a *engine.Attempt, build func(context.Context, string) (StreamHandler, error)) (s *customStream, closeIt func(), err error) {
	if build == nil {
		return nil, func() {}, nil
	}
	h, err := build(ctx, a.Task().ID)
	if err == nil && h == nil {
		err = errors.New("there is none")
	}
	if err != nil {
		return nil, func() {}, fmt.Errorf("open stream: %w", err)
	}
	return &customStream{h: h}, func() {
		if err := h.Close(); err != nil {
			a.Logger().Warn("stream handler not closed", "error", err)
		}
	}, nil
}

func (s *customStream) put(ctx context.Context, a *engine.Attempt, events [][]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, data := range events {
		if err := a.Writable(); err != nil {
			return err
		}
		e := Event{Turn: a.Task().Turn.Number, Attempt: a.Task().Turn.Attempt, Kind: EventMessage, At: time.Now().UTC(), Data: data}
		if err := s.h.Put(ctx, e); err != nil {
			return fmt.Errorf("put event: %w", err)
		}
	}
	a.Emitted()
	return nil
}

// streamPoll is how often a reader looks at a stream handler that nobody here puts anything into.
const streamPoll = time.Second

// customEvents reads the messages of a stream handler until the scope of the options has ended.
func (c *local) customEvents(ctx context.Context, b Binding, info *Info, opts EventOptions, yield func(Event, error) bool) error {
	h, err := b.stream(ctx, info.ID)
	if err != nil {
		return fmt.Errorf("open stream: %w", err)
	}
	defer h.Close()
	opts.Incarnation = info.Incarnation
	woken, leave := c.e.e.WatchStream(info.Incarnation)
	defer leave()
	tick := time.NewTicker(streamPoll)
	defer tick.Stop()
	for {
		end, err := c.scopeEnd(ctx, info.ID, opts) // before the messages: none comes after it
		if err != nil {
			return err
		}
		last, more, err := getAll(ctx, h, opts.After, yield)
		if opts.After = last; err != nil || !more {
			return err
		}
		if end != nil {
			yield(*end, nil)
			return nil
		}
		if opts.NoWait {
			return nil
		}
		select {
		case <-woken:
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// getAll yields what there is after a number, and returns the last one; more is false when the reader has left.
func getAll(ctx context.Context, h StreamHandler, after int64, yield func(Event, error) bool) (last int64, more bool, err error) {
	for {
		page, err := h.Get(ctx, after)
		if err != nil {
			return after, false, fmt.Errorf("get events: %w", err)
		}
		for _, e := range page {
			after = max(after, e.Number)
			if !yield(e, nil) {
				return after, false, nil
			}
		}
		if len(page) == 0 {
			return after, true, nil
		}
	}
}

// scopeEnd returns the end of the task, or of the turn that is read to its end, if that has come.
func (c *local) scopeEnd(ctx context.Context, id string, opts EventOptions) (*Event, error) {
	end := &Event{Kind: EventEnd, Turn: opts.Turn, At: time.Now().UTC()}
	if opts.Turn != 0 {
		turn, err := c.Turn(ctx, TurnQuery{TaskID: id, Incarnation: opts.Incarnation, Turn: opts.Turn})
		if errors.Is(err, ErrDeleted) {
			end.Status = Deleted
			return end, nil
		}
		if err != nil || turn.EndedAt.IsZero() {
			return nil, err
		}
		end.Status, end.Reason, end.At = turn.Status, turn.Reason, turn.EndedAt
		return end, nil
	}
	info, err := c.Task(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound), err == nil && info.Incarnation != opts.Incarnation:
		end.Status = Deleted
		return end, nil
	case err != nil || info.EndedAt.IsZero():
		return nil, err
	}
	end.Status, end.Reason, end.At = info.Status, info.Reason, info.EndedAt
	return end, nil
}
