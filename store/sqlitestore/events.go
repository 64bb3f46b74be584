package sqlitestore

import (
	"time"

	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/rules"
)

const sqlAppendEvents = `INSERT INTO events (task, first, last, turn, attempt, epoch, at, rewind, data)
	VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`

// AppendEvents implements rules.Rows. Events of one call are of one try and one moment, and a rewind can
// only be the first of them: one row holds them all.
func (c *conn) AppendEvents(incarnation int64, events []store.Event) error {
	first, last := events[0], events[len(events)-1]
	s := c.stmt(sqlAppendEvents).int(incarnation).int(first.Number).int(last.Number)
	s.int(first.Turn).int(int64(first.Attempt)).int(first.Epoch).time(first.At)
	if first.Kind == store.EventRewind {
		s.int(first.To)
		events = events[1:]
	} else {
		s.null()
	}
	return s.bytes(rules.Pack(events)).exec()
}

const sqlEvents = `SELECT first, turn, attempt, epoch, at, rewind IS NOT NULL, rewind, data FROM events
	WHERE task = ? AND last > ? ORDER BY last ` + sqlLimit

// emitted returns stored events after a number: limit, or more than a page holds, or a few more.
func (c *conn) emitted(incarnation, after int64, limit int) ([]store.Event, error) {
	var events []store.Event
	bytes := 0
	s := c.stmt(sqlEvents).int(incarnation).int(after).int(int64(limit))
	err := s.each(func() error {
		read, err := scanEvents(s, after)
		for _, e := range read {
			bytes += len(e.Data)
		}
		events = append(events, read...)
		if err == nil && (len(events) >= limit || bytes > store.PageBytes) {
			err = errEnough
		}
		return err
	})
	return events, err
}

func scanEvents(s *stmt, after int64) ([]store.Event, error) {
	e := store.Event{Number: s.nextInt(), Turn: s.nextInt(), Attempt: int(s.nextInt()), Epoch: s.nextInt(), At: s.nextTime()}
	if s.nextBool() {
		e.Kind = store.EventRewind
	}
	e.To = s.nextInt()
	return rules.Unpack(e, s.nextBytes(), after)
}

const sqlTurnEvents = `SELECT number, attempt, epoch, end_event, ended_at, status, reason FROM turns
	WHERE task = ? AND end_event > ? ORDER BY end_event ` + sqlLimit

func (c *conn) turnEvents(incarnation, after int64, limit int) ([]store.Event, error) {
	var events []store.Event
	s := c.stmt(sqlTurnEvents).int(incarnation).int(after).int(int64(limit))
	err := s.each(func() error {
		events = append(events, rules.TurnEvent(&store.Turn{
			Number: s.nextInt(), Attempt: int(s.nextInt()), Epoch: s.nextInt(), EndEvent: s.nextInt(),
			EndedAt: s.nextTime(), Status: store.Status(s.nextText()), Reason: s.nextText(),
		}))
		return nil
	})
	return events, err
}

const sqlRewinds = `SELECT first, rewind FROM events
	WHERE task = ? AND rewind IS NOT NULL AND first > ? ORDER BY first ` + sqlLimit

// rewinds returns the first rewinds after a number.
func (c *conn) rewinds(incarnation, after int64, limit int) ([]store.Event, error) {
	var rewinds []store.Event
	s := c.stmt(sqlRewinds).int(incarnation).int(after).int(int64(limit))
	err := s.each(func() error {
		rewinds = append(rewinds, store.Event{Kind: store.EventRewind, Number: s.nextInt(), To: s.nextInt()})
		return nil
	})
	return rewinds, err
}

const sqlEmittedBefore = `SELECT last, at FROM events WHERE task = ? ORDER BY last ` + sqlLimit

// EmittedBefore implements rules.Rows. A piece is a row. Times do not go back within a stream.
func (c *conn) EmittedBefore(incarnation int64, at time.Time, limit int) (number int64, next time.Time, err error) {
	s := c.stmt(sqlEmittedBefore).int(incarnation).int(int64(limit))
	err = s.each(func() error {
		last, when := s.nextInt(), s.nextTime()
		if when.After(at) {
			next = when
			return errEnough
		}
		number = last
		return nil
	})
	return number, next, err
}
