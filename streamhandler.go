package perdure

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/perdure/perdure/internal/engine"
	"github.com/perdure/perdure/internal/payload"
	"github.com/perdure/perdure/store"
)

// StreamHandler keeps the messages of a task in a place of its own; the store then has none of them (E4). See
// FuncOptions.Stream. What it does with the messages of a try that did not come to its end is its own affair:
// there are no rewinds.
type StreamHandler interface {
	// Put appends a message; it is called by one goroutine at a time, in the order of Emit, whose error its
	// error becomes. The event has a Turn, an Attempt, a time and Data, and no Number.
	Put(ctx context.Context, e Event) error
	// Get returns the messages after a number that are there now, in order, or some of the first of them; each
	// with the Number, from 1, that it has among the task's messages. Anything else is an error of its readers.
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
	h, err := buildStream(ctx, a.Task().ID, build)
	if err != nil {
		return nil, func() {}, err
	}
	return &customStream{h: h}, func() {
		if err := engine.Guard(h.Close); err != nil {
			a.Logger().Warn("stream handler not closed", "error", err)
		}
	}, nil
}

// buildStream builds a stream handler.
func buildStream(ctx context.Context, id string, build func(context.Context, string) (StreamHandler, error)) (h StreamHandler, err error) {
	err = engine.Guard(func() (err error) {
		h, err = build(ctx, id)
		return err
	})
	if err == nil && h == nil {
		err = errors.New("there is none")
	}
	if err != nil {
		return nil, fmt.Errorf("open stream: %w", err)
	}
	return h, nil
}

func (s *customStream) put(ctx context.Context, a *engine.Attempt, events [][]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, data := range events {
		if err := a.Writable(); err != nil {
			return err
		}
		e := Event{Turn: a.Task().Turn.Number, Attempt: a.Task().Turn.Attempt, Kind: EventMessage, At: time.Now().UTC(), Data: data}
		if err := engine.Guard(func() error { return s.h.Put(ctx, e) }); err != nil {
			return fmt.Errorf("put event: %w", err)
		}
	}
	a.Emitted()
	return nil
}

// streamPoll is how often a reader looks at a stream handler that nobody here puts anything into.
const streamPoll = time.Second

// customEvents reads the messages of a stream handler until the scope of the options has ended.
func (c *local) customEvents(ctx context.Context, b Binding, info *Info, opts EventOptions, yield func(Event, error) bool) (err error) {
	h, err := buildStream(ctx, info.ID, b.stream)
	if err != nil {
		return err
	}
	r := &listener{yield: yield}
	defer func() {
		if cerr := c.closeStream(h, r, info.ID); cerr != nil {
			err = errors.Join(err, cerr)
		}
	}()
	opts.Incarnation = info.Incarnation
	woken, leave := c.e.e.WatchStream(info.Incarnation)
	defer leave()
	tick := time.NewTicker(streamPoll)
	defer tick.Stop()
	for {
		gone := c.e.e.HasStopped()                 // before it looks: what was put before that is seen
		end, err := c.scopeEnd(ctx, info.ID, opts) // before the messages: none comes after it
		if err != nil {
			return err
		}
		last, more, err := getAll(ctx, h, opts.After, r.give)
		if opts.After = last; err != nil || !more {
			return err
		}
		if end != nil {
			r.give(*end)
			r.gone = true // whatever it says: there is no more
			return nil
		}
		switch {
		case opts.NoWait:
			return nil
		case gone:
			return ErrShuttingDown
		}
		select {
		case <-woken:
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// listener is who reads a stream. One who has left, or has had the end, must be given nothing more: that would be a panic
// of the loop in which it reads.
type listener struct {
	yield func(Event, error) bool
	gone  bool
}

// give yields an event, and reports whether the reader wants more.
func (r *listener) give(e Event) bool {
	r.gone = !r.yield(e, nil)
	return !r.gone
}

// closeStream closes the stream handler of a reader, and returns a panic of it if the reader can be told. All else is of
// no use to a reader, and logged.
func (c *local) closeStream(h StreamHandler, r *listener, task string) error {
	err := engine.Guard(h.Close)
	if _, panicked := err.(*engine.PanicError); err == nil || panicked && !r.gone {
		return err
	}
	_ = engine.Guard(func() error { // the logger is the user's
		c.e.log.Warn("stream handler of a reader not closed", "task", task, "error", err)
		return nil
	})
	return nil
}

// getAll yields what there is after a number, and returns the last one; more is false when the reader has left.
func getAll(ctx context.Context, h StreamHandler, after int64, give func(Event) bool) (last int64, more bool, err error) {
	for {
		if ctx.Err() != nil {
			return after, false, context.Cause(ctx)
		}
		var page []Event
		err := engine.Guard(func() (err error) {
			page, err = h.Get(ctx, after)
			return err
		})
		if err != nil {
			return after, false, fmt.Errorf("get events: %w", err)
		}
		for _, e := range page {
			if err := checkStored(e, after); err != nil {
				return after, false, fmt.Errorf("get events: %w", err)
			}
			after = e.Number
			if !give(e) {
				return after, false, nil
			}
		}
		if len(page) == 0 {
			return after, true, nil
		}
	}
}

// checkStored refuses an event of a stream handler's that readers would take for another, or meet again.
func checkStored(e Event, after int64) error {
	switch {
	case e.Number <= after:
		return fmt.Errorf("the stream handler returned event %d when asked for what comes after %d", e.Number, after)
	case e.Kind != EventMessage:
		return fmt.Errorf("event %d of the stream handler is a %q and no message", e.Number, e.Kind)
	}
	if err := payload.Sound(e.Data); err != nil {
		return fmt.Errorf("the data of event %d of the stream handler %w", e.Number, err)
	}
	return nil
}

// scopeEnd returns the end of the task, or of the turn that is read to its end, if that has come.
func (c *local) scopeEnd(ctx context.Context, id string, opts EventOptions) (*Event, error) {
	end := &Event{Kind: EventEnd, Turn: opts.Turn, At: time.Now().UTC()}
	if opts.Turn != 0 {
		turn, _, err := c.e.e.Turn(ctx, store.TurnQuery{TaskID: id, Incarnation: opts.Incarnation, Number: opts.Turn})
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
