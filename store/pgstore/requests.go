package pgstore

import (
	"cmp"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/perdure/perdure/store/rules"
)

// requestKey names an operation that is recognised when it is repeated.
type requestKey struct{ task, id string }

// remembered is what a request ID stands for from now on, and what it has stood for before, if anything.
type remembered struct{ now, before *rules.Request }

const sqlRequests = `SELECT r.task, r.id, r.op, r.answer, r.at
	FROM unnest($1::text[], $2::text[]) AS w (task, id) JOIN perdure.requests r ON r.task = w.task AND r.id = w.id`

// queueRequests reads what request IDs stand for. The tasks have been locked before, so that no transaction that uses one of
// the IDs on a task that is there is under way.
func (t *tx) queueRequests(b *pgx.Batch, keys []requestKey) {
	for _, k := range keys {
		t.requests[k] = nil
	}
	b.Queue(t.s.sql(sqlRequests), column(keys, func(k requestKey) string { return k.task }),
		column(keys, func(k requestKey) string { return k.id })).Query(each(t.scanRequest))
}

func (t *tx) scanRequest(rows pgx.Rows) error {
	var r rules.Request
	var answer string
	if err := rows.Scan(&r.Task, &r.ID, &r.Op, &answer, (*instant)(&r.At)); err != nil {
		return err
	}
	r.Answer = []byte(answer)
	t.requests[requestKey{r.Task, r.ID}] = &r
	return nil
}

// Request implements rules.Rows.
func (t *tx) Request(task, id string) (*rules.Request, error) {
	k := requestKey{task, id}
	if _, read := t.requests[k]; !read {
		b := &pgx.Batch{}
		t.queueRequests(b, []requestKey{k})
		if err := t.send(b); err != nil {
			return nil, err
		}
	}
	return t.requests[k], nil
}

// Remember implements rules.Rows.
func (t *tx) Remember(r *rules.Request) error {
	k := requestKey{r.Task, r.ID}
	t.changes.requests = append(t.changes.requests, remembered{now: r, before: t.requests[k]})
	t.requests[k] = r
	return nil
}

const (
	sqlOutdate = `DELETE FROM perdure.requests r USING unnest($1::text[], $2::text[], $3::bigint[]) AS w (task, id, at)
		WHERE r.task = w.task AND r.id = w.id AND r.at = w.at`
	sqlRemember = `INSERT INTO perdure.requests (task, id, op, answer, at)
		SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[])`
)

// queueRemembered writes what request IDs stand for, in the order of the IDs: two transactions that use the same ones wait
// for each other, and the second fails as a whole and is run again. That is how an ID is used once where no row of a task
// is there to be locked.
func (t *tx) queueRemembered(b *pgx.Batch, rows []remembered) {
	if len(rows) == 0 {
		return
	}
	var added, outdated []*rules.Request
	for _, r := range rows {
		added = append(added, r.now)
		if r.before != nil {
			outdated = append(outdated, r.before)
		}
	}
	task := func(r *rules.Request) string { return r.Task }
	id := func(r *rules.Request) string { return r.ID }
	at := func(r *rules.Request) int64 { return micros(r.At) }
	slices.SortFunc(added, func(x, y *rules.Request) int { return cmp.Or(cmp.Compare(x.Task, y.Task), cmp.Compare(x.ID, y.ID)) })
	if len(outdated) > 0 {
		b.Queue(t.s.sql(sqlOutdate), column(outdated, task), column(outdated, id), column(outdated, at))
	}
	b.Queue(t.s.sql(sqlRemember), column(added, task), column(added, id),
		column(added, func(r *rules.Request) string { return r.Op }),
		column(added, func(r *rules.Request) string { return string(r.Answer) }), column(added, at))
}

const sqlForget = `WITH old AS (SELECT task, id, row_number() OVER () AS n
		FROM (SELECT task, id FROM perdure.requests WHERE at <= $1 ORDER BY at LIMIT $2 + 1 FOR UPDATE SKIP LOCKED) r),
	gone AS (DELETE FROM perdure.requests r USING old WHERE r.task = old.task AND r.id = old.id AND old.n <= $2 RETURNING 1)
	SELECT (SELECT count(*) FROM gone) < (SELECT count(*) FROM old)`

// Forget implements rules.Rows.
func (t *tx) Forget(before time.Time, limit int) (more bool, err error) {
	err = t.query(sqlForget, func(rows pgx.Rows) error { return rows.Scan(&more) }, micros(before), limit)
	return more, err
}
