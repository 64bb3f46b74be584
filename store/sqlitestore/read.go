package sqlitestore

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/rules"
)

// pool holds the connections that read, opened when first needed.
type pool struct {
	open   func() (*conn, error)
	free   chan *conn // nil: a connection that is not open
	closed chan struct{}
}

func newPool(size int, open func() (*conn, error)) *pool {
	p := &pool{open: open, free: make(chan *conn, size), closed: make(chan struct{})}
	for range size {
		p.free <- nil
	}
	return p
}

// add puts a connection in place of one that is not open yet, before the pool is used.
func (p *pool) add(c *conn) {
	<-p.free
	p.free <- c
}

func (p *pool) get(ctx context.Context) (*conn, error) {
	select {
	case <-p.closed:
		return nil, store.ErrClosed
	default:
	}
	select {
	case <-p.closed:
		return nil, store.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	case c := <-p.free:
		return p.opened(c)
	}
}

func (p *pool) opened(c *conn) (*conn, error) {
	if c != nil {
		return c, nil
	}
	c, err := p.open()
	if err != nil {
		p.free <- nil
	}
	return c, err
}

// put gives a connection back. One that cannot end its transaction is closed.
func (p *pool) put(c *conn) {
	if !c.db.AutocommitEnabled() {
		if err := c.exec(sqlRollback); err != nil {
			c.close()
			c = nil
		}
	}
	p.free <- c
}

// close waits for the reads under way. It is called once.
func (p *pool) close() (err error) {
	close(p.closed)
	for range cap(p.free) {
		if c := <-p.free; c != nil {
			err = errors.Join(err, c.close())
		}
	}
	return err
}

// read runs f on one moment of the file.
func read[T any](ctx context.Context, s *Store, f func(*conn, time.Time) (T, error)) (T, error) {
	return borrow(ctx, s, func(c *conn) (T, error) {
		if err := c.exec(sqlBeginRead); err != nil {
			var none T
			return none, err
		}
		return f(c, s.clock.Now())
	})
}

// borrow runs f with a connection that reads, which ctx interrupts. What f has read counts only if the file is still
// the one of its name.
func borrow[T any](ctx context.Context, s *Store, f func(*conn) (T, error)) (T, error) {
	var none T
	if err := ctx.Err(); err != nil {
		return none, err
	}
	if err := s.names.gone(); err != nil {
		return none, s.explain(err)
	}
	c, err := s.pool.get(ctx)
	if err != nil {
		return none, s.explain(err)
	}
	defer s.pool.put(c)
	out, err := interruptible(ctx, c, f)
	if ctx.Err() != nil && err != nil {
		err = ctx.Err()
	} else if lost := s.names.look(); lost != nil {
		err = lost
	}
	if err != nil {
		return none, s.explainRead(err)
	}
	return out, nil
}

func interruptible[T any](ctx context.Context, c *conn, f func(*conn) (T, error)) (T, error) {
	if done := ctx.Done(); done != nil {
		c.db.SetInterrupt(done)
		defer c.db.SetInterrupt(nil)
	}
	return f(c)
}

// visible returns a task that is there for a reader.
func (c *conn) visible(id string, incarnation int64, now time.Time) (*store.Task, error) {
	t, err := c.TaskByID(id)
	if err != nil {
		return nil, err
	}
	return t, rules.Visible(t, now, incarnation)
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, id string) (*store.Task, error) {
	return read(ctx, s, func(c *conn, now time.Time) (*store.Task, error) {
		t, err := c.visible(id, 0, now)
		if err != nil {
			return nil, err
		}
		t.Metadata, err = c.Metadata(t.Incarnation)
		return t, err
	})
}

// Turn implements store.Store.
func (s *Store) Turn(ctx context.Context, q store.TurnQuery) (*store.Turn, error) {
	return read(ctx, s, func(c *conn, now time.Time) (*store.Turn, error) {
		t, err := c.visible(q.TaskID, q.Incarnation, now)
		if err != nil {
			return nil, err
		}
		turn, err := c.find(t, q)
		if err != nil {
			return nil, err
		}
		if turn == nil {
			return nil, store.ErrNotFound
		}
		return rules.Complete(t, turn), nil
	})
}

const (
	sqlTurnRead = `SELECT ` + turnColumns + `, CASE WHEN ? THEN output END, CASE WHEN ? THEN input END FROM turns
		WHERE task = ? AND number = ?`
	sqlTurnReadByInput = `SELECT ` + turnColumns + `, CASE WHEN ? THEN output END, CASE WHEN ? THEN input END FROM turns
		WHERE task = ? AND input_id = ?`
)

// find returns a turn with the payloads that are asked for; others are not read.
func (c *conn) find(t *store.Task, q store.TurnQuery) (*store.Turn, error) {
	both := payload{output: true, input: true}
	if q.Number == 0 && q.InputID != "" {
		return turn(c.stmt(sqlTurnReadByInput).bool(q.Output).bool(q.Input).int(t.Incarnation).raw(q.InputID), both)
	}
	number := q.Number
	if number == 0 {
		number = t.Turn.Number
	}
	return turn(c.stmt(sqlTurnRead).bool(q.Output).bool(q.Input).int(t.Incarnation).int(number), both)
}

const (
	sqlTurnsSizes = `SELECT number, coalesce(length(input), 0) + coalesce(length(output), 0) FROM turns
		WHERE task = ? AND number > ? ORDER BY number ` + sqlLimit
	sqlTurns = `SELECT ` + turnColumns + `, output, input FROM turns
		WHERE task = ? AND number > ? AND number <= ? ORDER BY number`
)

// Turns implements store.Store.
func (s *Store) Turns(ctx context.Context, q store.TurnsQuery) (*store.TurnPage, error) {
	return read(ctx, s, func(c *conn, now time.Time) (*store.TurnPage, error) {
		t, err := c.visible(q.TaskID, 0, now)
		if err != nil {
			return nil, err
		}
		last, more, err := c.fitting(t.Incarnation, q)
		if err != nil {
			return nil, err
		}
		page := &store.TurnPage{More: more}
		page.Turns, err = turns(c.stmt(sqlTurns).int(t.Incarnation).int(q.After).int(last), payload{output: true, input: true})
		for _, turn := range page.Turns {
			rules.Complete(t, turn)
		}
		return page, err
	})
}

// fitting returns the last turn of a page, without a look at the payloads, and whether others follow.
func (c *conn) fitting(incarnation int64, q store.TurnsQuery) (last int64, more bool, err error) {
	r := &room{rows: q.Limit, bytes: store.PageBytes}
	s := c.stmt(sqlTurnsSizes).int(incarnation).int(q.After).int(int64(q.Limit + 1))
	err = s.each(func() error {
		number := s.nextInt()
		if !r.fits(int(s.nextInt())) {
			more = true
			return errEnough
		}
		last = number
		return nil
	})
	return last, more, err
}

// Events implements store.Store.
func (s *Store) Events(ctx context.Context, q store.EventsQuery) (*store.EventPage, error) {
	return read(ctx, s, func(c *conn, now time.Time) (*store.EventPage, error) {
		t, err := c.visible(q.TaskID, q.Incarnation, now)
		if err != nil {
			return nil, err
		}
		after := max(q.After, t.FirstEvent-1)
		if after >= t.LastEvent {
			return rules.Page(t, q, nil, nil), nil
		}
		events, err := c.emitted(t.Incarnation, after, q.Limit)
		if err != nil {
			return nil, err
		}
		ends, err := c.turnEvents(t.Incarnation, after, q.Limit)
		if err != nil {
			return nil, err
		}
		var rewinds []store.Event
		if q.Committed {
			rewinds, err = c.rewinds(t.Incarnation, after, q.Limit+1)
		}
		return rules.Page(t, q, append(events, ends...), rewinds), err
	})
}

// Waiting implements store.Store.
func (s *Store) Waiting(ctx context.Context, except []string, most int) (map[string]int, error) {
	return read(ctx, s, func(c *conn, now time.Time) (map[string]int, error) {
		return c.waiting(now, func(fn string) bool { return slices.Contains(except, fn) }, most)
	})
}

// Workers implements store.Store.
func (s *Store) Workers(ctx context.Context) ([]*store.Worker, error) {
	return read(ctx, s, func(c *conn, now time.Time) ([]*store.Worker, error) { return c.alive(now) })
}

// Poll implements store.Store.
func (s *Store) Poll(ctx context.Context, req *store.PollRequest) (*store.Polled, error) {
	if err := req.Valid(); err != nil {
		return nil, err
	}
	if len(req.Seen) > 0 {
		err := s.writer.do(&op{ctx: ctx, run: func(c *conn, _ time.Time) error { return c.dropMail(req.Worker, req.Seen) }})
		if err != nil {
			return nil, s.explain(err)
		}
	}
	return read(ctx, s, func(c *conn, now time.Time) (*store.Polled, error) {
		mail, err := c.mail(req.Worker)
		if err != nil {
			return nil, err
		}
		due, err := rules.Waits(c, now, req)
		return &store.Polled{Mail: mail, Due: due}, err
	})
}
