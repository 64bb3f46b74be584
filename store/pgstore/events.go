package pgstore

import (
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/rules"
)

// eventRow holds the events of one call of AppendEvents.
type eventRow struct {
	task   int64
	first  store.Event
	last   int64
	rewind pgtype.Int8
	data   []byte
}

// AppendEvents implements rules.Rows. Events of one call are of one try and one moment, and a rewind can
// only be the first of them: one row holds them all.
func (t *tx) AppendEvents(incarnation int64, events []store.Event) error {
	row := eventRow{task: incarnation, first: events[0], last: events[len(events)-1].Number}
	if row.first.Kind == store.EventRewind {
		row.rewind = pgtype.Int8{Int64: row.first.To, Valid: true}
		events = events[1:]
	}
	row.data = rules.Pack(events)
	t.changes.events = append(t.changes.events, row)
	return nil
}

const sqlInsertEvents = `INSERT INTO perdure.events (task, first, last, turn, attempt, epoch, at, rewind, data)
	SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
		$8::bigint[], $9::bytea[])`

func (t *tx) queueEvents(b *pgx.Batch, rows []eventRow) {
	rows = slices.DeleteFunc(rows, func(r eventRow) bool { return t.gone(r.task) })
	if len(rows) == 0 {
		return
	}
	number := func(value func(eventRow) int64) []int64 { return column(rows, value) }
	b.Queue(t.s.sql(sqlInsertEvents),
		number(func(r eventRow) int64 { return r.task }),
		number(func(r eventRow) int64 { return r.first.Number }),
		number(func(r eventRow) int64 { return r.last }),
		number(func(r eventRow) int64 { return r.first.Turn }),
		number(func(r eventRow) int64 { return int64(r.first.Attempt) }),
		number(func(r eventRow) int64 { return r.first.Epoch }),
		number(func(r eventRow) int64 { return micros(r.first.At) }),
		column(rows, func(r eventRow) pgtype.Int8 { return r.rewind }),
		column(rows, func(r eventRow) []byte { return r.data }))
}

// scanEvents reads the events of one row that come after a number.
func scanEvents(rows pgx.Rows, after int64) ([]store.Event, error) {
	var e store.Event
	var rewind pgtype.Int8
	var data []byte
	if err := rows.Scan(&e.Number, &e.Turn, &e.Attempt, &e.Epoch, (*instant)(&e.At), &rewind, &data); err != nil {
		return nil, err
	}
	if rewind.Valid {
		e.Kind, e.To = store.EventRewind, rewind.Int64
	}
	return rules.Unpack(e, data, after)
}

// scanTurnEvent reads the end of a turn as an event.
func scanTurnEvent(rows pgx.Rows) (store.Event, error) {
	var t store.Turn
	err := rows.Scan(&t.Number, &t.Attempt, &t.Epoch, &t.EndEvent, (*instant)(&t.EndedAt), (*string)(&t.Status), &t.Reason)
	return rules.TurnEvent(&t), err
}

const sqlEmittedBefore = `SELECT last, at FROM perdure.events WHERE task = $1 ORDER BY last LIMIT $2`

// EmittedBefore implements rules.Rows. Times do not go back within a stream, unless the database's clock does: then
// some events are kept longer.
func (t *tx) EmittedBefore(incarnation int64, at time.Time, limit int) (number int64, next time.Time, err error) {
	if err := t.flush(); err != nil {
		return 0, next, err
	}
	err = t.query(sqlEmittedBefore, func(rows pgx.Rows) error {
		var last int64
		var when time.Time
		err := rows.Scan(&last, (*instant)(&when))
		switch {
		case err != nil || !next.IsZero():
		case when.After(at):
			next = when
		default:
			number = last
		}
		return err
	}, incarnation, limit)
	return number, next, err
}
