package pgstore

import (
	"cmp"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/perdure/perdure/store"
)

// Statements that look for tasks, and lock those that nobody else has locked.
const (
	sqlLeasedTo = `SELECT ` + taskColumns + ` FROM perdure.tasks
		WHERE worker = $1 AND worker <> '' ORDER BY key LIMIT $2 FOR UPDATE`
	sqlDue = `SELECT ` + taskColumns + ` FROM perdure.tasks
		WHERE func = $1 AND suspect = $2 AND due_at > 0 AND due_at <= $3 ORDER BY due_at, key LIMIT $4 FOR UPDATE SKIP LOCKED`
	sqlExpired = `SELECT ` + taskColumns + ` FROM perdure.tasks
		WHERE expires_at > 0 AND expires_at <= $1 ORDER BY expires_at, key LIMIT $2 FOR UPDATE SKIP LOCKED`
	sqlOverdue = `SELECT ` + taskColumns + ` FROM perdure.tasks
		WHERE wait IN ('retry', 'strict') AND turn_deadline > 0 AND turn_deadline <= $1
		ORDER BY turn_deadline, key LIMIT $2 FOR UPDATE SKIP LOCKED`
	sqlTrimmable = `SELECT ` + taskColumns + ` FROM perdure.tasks
		WHERE trim_at > 0 AND trim_at <= $1 ORDER BY trim_at, key LIMIT $2 FOR UPDATE SKIP LOCKED`
	sqlNextDue = `SELECT coalesce(min(at), 0) FROM
		((SELECT due_at AS at FROM perdure.tasks WHERE func = $1 AND NOT suspect AND due_at > 0 AND due_at > $2 ORDER BY due_at LIMIT 1)
		UNION ALL
		(SELECT due_at FROM perdure.tasks WHERE func = $1 AND suspect AND due_at > 0 AND due_at > $2 ORDER BY due_at LIMIT 1)) d`
)

// look finds tasks as they will be after what has been changed so far, and locks them.
func (t *tx) look(sql string, args ...any) ([]*store.Task, error) {
	if err := t.flush(); err != nil {
		return nil, err
	}
	var found []*store.Task
	err := t.query(sql, func(rows pgx.Rows) error {
		task, err := t.s.scanTask(rows)
		if err == nil {
			found = append(found, t.hold(task).copied())
		}
		return err
	}, args...)
	return found, err
}

// LeasedTo implements rules.Rows. It waits for tasks that are being written: none is left out.
func (t *tx) LeasedTo(worker string, limit int) ([]*store.Task, error) {
	if limit < 0 {
		limit = 1<<31 - 1
	}
	return t.look(sqlLeasedTo, worker, limit)
}

// Due implements rules.Rows. Tasks that others are writing are left out.
func (t *tx) Due(fn string, suspect bool, now time.Time, limit int) ([]*store.Task, error) {
	due, err := t.look(sqlDue, fn, suspect, micros(now), limit)
	slices.SortFunc(due, func(a, b *store.Task) int {
		return cmp.Or(a.DueAt.Compare(b.DueAt), cmp.Compare(a.Incarnation, b.Incarnation))
	})
	if err != nil {
		return nil, err
	}
	return due, t.loadEntries(due)
}

// NextDue implements rules.Rows.
func (t *tx) NextDue(fn string, now time.Time) (time.Time, error) {
	if err := t.flush(); err != nil {
		return time.Time{}, err
	}
	var at time.Time
	err := t.query(sqlNextDue, func(rows pgx.Rows) error { return rows.Scan((*instant)(&at)) }, fn, micros(now))
	return at, err
}

// Expired implements rules.Rows.
func (t *tx) Expired(now time.Time, limit int) ([]*store.Task, error) {
	return t.look(sqlExpired, micros(now), limit)
}

// Overdue implements rules.Rows.
func (t *tx) Overdue(now time.Time, limit int) ([]*store.Task, error) {
	return t.look(sqlOverdue, micros(now), limit)
}

// Trimmable implements rules.Rows.
func (t *tx) Trimmable(now time.Time, limit int) ([]*store.Task, error) {
	return t.look(sqlTrimmable, micros(now), limit)
}
