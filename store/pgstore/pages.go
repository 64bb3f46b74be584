package pgstore

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/rules"
)

// Statements of pages number the rows, and add up the bytes of payload before each, in the order of the page: a row that
// does not belong to it is not sent, and a payload that is stored apart not even read.

// sqlTurns reads up to $3 turns after the number $2, and after $4 bytes no more. The last column is the number of the next.
const sqlTurns = `SELECT ` + turnColumns + turnPayload + `, next FROM (
		SELECT *, row_number() OVER w AS n, sum(size) OVER w AS bytes, lead(number) OVER w AS next FROM (
			SELECT ` + turnColumns + turnPayload + `, coalesce(octet_length(input), 0) + coalesce(octet_length(output), 0) AS size
			FROM perdure.turns WHERE task = ` + keyOfID + ` AND number > $2 ORDER BY number LIMIT $3 + 1) r
		WINDOW w AS (ORDER BY number ROWS UNBOUNDED PRECEDING)) p
	WHERE n <= $3 AND (n = 1 OR bytes <= $4)`

// Turns implements store.Store.
func (s *Store) Turns(ctx context.Context, q store.TurnsQuery) (*store.TurnPage, error) {
	page := &store.TurnPage{}
	ask := func(r *reading) {
		r.readTask(q.TaskID)
		r.query(sqlTurns, func(rows pgx.Rows) error {
			var next *int64
			turn, err := scanTurn(rows, true, &next)
			page.Turns, page.More = append(page.Turns, turn), next != nil
			return err
		}, q.TaskID, q.After, q.Limit, store.PageBytes)
	}
	return read(ctx, s, ask, func(r *reading) (*store.TurnPage, error) {
		t, err := r.visible(0)
		if err != nil {
			return nil, err
		}
		for _, turn := range page.Turns {
			rules.Complete(t, turn)
		}
		return page, nil
	})
}

// Statements that read a page of a stream: $2 is the number to go on after, or where the stream begins. Of a row of events
// not less is read than of all before it $3 events, or more than $4 bytes: a row of which only a part is wanted counts
// none, and what tells the lengths of events is taken off, 4 bytes of each at most.
const (
	startOfPage = `greatest($2, (SELECT first_event - 1 FROM perdure.tasks WHERE id = $1))`
	sqlEvents   = `SELECT first, turn, attempt, epoch, at, rewind, data FROM (
			SELECT *, sum(n) OVER w - n AS events, sum(size) OVER w - size AS bytes FROM (
				SELECT first, last, turn, attempt, epoch, at, rewind, data, last - greatest(first - 1, start) AS n,
					CASE WHEN first > start THEN greatest(octet_length(data) - 4 * (last - first + 1), 0) ELSE 0 END AS size
				FROM perdure.events, (SELECT ` + startOfPage + ` AS start) s
				WHERE task = ` + keyOfID + ` AND last > start ORDER BY last LIMIT $3) r
			WINDOW w AS (ORDER BY last ROWS UNBOUNDED PRECEDING)) p
		WHERE events < $3 AND bytes <= $4`
	sqlTurnEvents = `SELECT number, attempt, epoch, end_event, ended_at, status, reason FROM perdure.turns
		WHERE task = ` + keyOfID + ` AND end_event > 0 AND end_event > ` + startOfPage + ` ORDER BY end_event LIMIT $3`
	sqlRewinds = `SELECT first, rewind FROM perdure.events
		WHERE task = ` + keyOfID + ` AND rewind IS NOT NULL AND first > ` + startOfPage + ` ORDER BY first LIMIT $3 + 1`
)

// Events implements store.Store.
func (s *Store) Events(ctx context.Context, q store.EventsQuery) (*store.EventPage, error) {
	var events, rewinds []store.Event
	ask := func(r *reading) {
		r.readTask(q.TaskID)
		r.query(sqlEvents, func(rows pgx.Rows) error {
			read, err := scanEvents(rows, max(q.After, r.task.FirstEvent-1))
			events = append(events, read...)
			return err
		}, q.TaskID, q.After, q.Limit, store.PageBytes)
		r.query(sqlTurnEvents, func(rows pgx.Rows) error {
			e, err := scanTurnEvent(rows)
			events = append(events, e)
			return err
		}, q.TaskID, q.After, q.Limit)
		if q.Committed {
			r.query(sqlRewinds, func(rows pgx.Rows) error {
				e := store.Event{Kind: store.EventRewind}
				err := rows.Scan(&e.Number, &e.To)
				rewinds = append(rewinds, e)
				return err
			}, q.TaskID, q.After, q.Limit)
		}
	}
	return read(ctx, s, ask, func(r *reading) (*store.EventPage, error) {
		t, err := r.visible(q.Incarnation)
		if err != nil {
			return nil, err
		}
		return rules.Page(t, q, events, rewinds), nil
	})
}
