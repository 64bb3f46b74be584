package pgstore

import (
	"cmp"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/rules"
)

// Statements that look for tasks, and lock those that nobody else has locked: who looks for work waits for nobody. Funcs
// come with how many tasks of each are wanted.
const (
	sqlLeasedTo = `SELECT ` + taskRead + ` FROM perdure.tasks
		WHERE worker = $1 AND worker <> '' ORDER BY key LIMIT $2 FOR UPDATE SKIP LOCKED`
	sqlLeasedMore = `SELECT EXISTS (SELECT FROM perdure.tasks WHERE worker = $1 AND worker <> '' AND key <> ALL ($2))`
	sqlLeasedBy   = `SELECT ` + taskRead + ` FROM perdure.tasks
		WHERE worker = $1 AND worker <> '' AND request = $2 ORDER BY key`
	eachFunc = `SELECT t.* FROM unnest($1::text[], $2::bigint[]) AS f (name, most), LATERAL (SELECT ` + taskRead + ` FROM perdure.tasks
		WHERE func = f.name AND suspect = $3 AND `
	sqlDue     = eachFunc + `due_at = 1 ORDER BY place, key LIMIT f.most FOR UPDATE SKIP LOCKED) t`
	sqlDelayed = eachFunc + `due_at > 1 AND due_at <= $4 ORDER BY due_at, key LIMIT f.most FOR UPDATE SKIP LOCKED) t`
	sqlExpired = `SELECT ` + taskRead + ` FROM perdure.tasks
		WHERE expires_at > 0 AND expires_at <= $1 ORDER BY expires_at, key LIMIT $2 FOR UPDATE SKIP LOCKED`
	sqlEnding = `SELECT ` + taskRead + ` FROM perdure.tasks
		WHERE due_at > 0 AND (end_by > 0 OR turn_cancel OR turn_deadline > 0) AND end_by <= $1
		ORDER BY end_by, key LIMIT $2 FOR UPDATE SKIP LOCKED`
	sqlTrimmable = `SELECT ` + taskRead + ` FROM perdure.tasks
		WHERE trim_at > 0 AND trim_at <= $1 ORDER BY trim_at, key LIMIT $2 FOR UPDATE SKIP LOCKED`
	sqlNextDue = `SELECT coalesce(min(d.at), 0) FROM unnest($1::text[]) AS f (name), LATERAL
		((SELECT due_at AS at FROM perdure.tasks WHERE func = f.name AND NOT suspect AND due_at > 0 AND due_at > $2 ORDER BY due_at LIMIT 1)
		UNION ALL
		(SELECT due_at FROM perdure.tasks WHERE func = f.name AND suspect AND due_at > 0 AND due_at > $2 ORDER BY due_at LIMIT 1)) d`
)

// statement is a statement with its arguments.
type statement struct {
	sql  string
	args []any
}

// look finds tasks as they will be after what has been changed so far, and locks them.
func (t *tx) look(sql string, args ...any) ([]*store.Task, error) {
	return t.lookFor(statement{sql, args})
}

// lookFor is look with several statements at once.
func (t *tx) lookFor(all ...statement) ([]*store.Task, error) {
	if err := t.flush(); err != nil {
		return nil, err
	}
	var found []*store.Task
	b := &pgx.Batch{}
	for _, st := range all {
		b.Queue(t.s.sql(st.sql), st.args...).Query(each(func(rows pgx.Rows) error {
			task, err := t.s.scanTask(rows)
			if err == nil {
				found = append(found, t.hold(task).copied())
			}
			return err
		}))
	}
	return found, t.send(b)
}

// LeasedTo implements rules.Rows. The worker is locked, so that nothing is being leased to it.
func (t *tx) LeasedTo(worker string, limit int) (tasks []*store.Task, all bool, err error) {
	if tasks, err = t.look(sqlLeasedTo, worker, limit); err != nil {
		return nil, false, err
	}
	more := false
	keys := column(tasks, func(t *store.Task) int64 { return t.Incarnation })
	err = t.query(sqlLeasedMore, func(rows pgx.Rows) error { return rows.Scan(&more) }, worker, keys)
	return tasks, !more, err
}

// LeasedBy implements rules.Rows. It locks nothing: what others write meanwhile, they tell the worker by mail.
func (t *tx) LeasedBy(worker string, request int64) ([]*store.Task, error) {
	held, err := t.look(sqlLeasedBy, worker, request)
	if err != nil {
		return nil, err
	}
	return held, t.loadEntries(held)
}

// Due implements rules.Rows. Tasks that others are writing are left out.
func (t *tx) Due(now time.Time, plain, suspects []store.ClaimFunc) ([]*store.Task, error) {
	var all []statement
	for i, funcs := range [][]store.ClaimFunc{plain, suspects} {
		if len(funcs) == 0 {
			continue
		}
		names := column(funcs, func(f store.ClaimFunc) string { return f.Name })
		most := column(funcs, func(f store.ClaimFunc) int64 { return int64(f.Limit) })
		all = append(all, statement{sqlDue, []any{names, most, i == 1}}, statement{sqlDelayed, []any{names, most, i == 1, micros(now)}})
	}
	if len(all) == 0 {
		return nil, nil
	}
	found, err := t.lookFor(all...)
	if err != nil {
		return nil, err
	}
	due := slices.Concat(first(found, plain, false), first(found, suspects, true))
	return due, t.loadEntries(due)
}

// first returns the first tasks in the line of each func.
func first(found []*store.Task, funcs []store.ClaimFunc, suspect bool) (due []*store.Task) {
	of := map[string][]*store.Task{}
	for _, t := range found {
		if t.Suspect == suspect {
			of[t.Func] = append(of[t.Func], t)
		}
	}
	for _, f := range funcs {
		due = append(due, rules.InLine(f.Limit, of[f.Name])...)
	}
	return due
}

// NextDue implements rules.Rows.
func (t *tx) NextDue(now time.Time, funcs []string) (at time.Time, err error) {
	if err := t.flush(); err != nil || len(funcs) == 0 {
		return at, err
	}
	err = t.query(sqlNextDue, func(rows pgx.Rows) error { return rows.Scan((*instant)(&at)) }, funcs, micros(now))
	return at, err
}

// Expired implements rules.Rows.
func (t *tx) Expired(now time.Time, limit int) ([]*store.Task, error) {
	expired, err := t.look(sqlExpired, micros(now), limit)
	if err != nil {
		return nil, err
	}
	return expired, t.weigh(column(expired, func(t *store.Task) int64 { return t.Incarnation }))
}

// Ending implements rules.Rows. A task that version 1 has written, or has been imported from it, has no end, or that of
// another turn: it is corrected.
func (t *tx) Ending(now time.Time, limit int) ([]*store.Task, error) {
	found, err := t.look(sqlEnding, micros(now), limit)
	if err != nil {
		return nil, err
	}
	var ending []*store.Task
	for _, task := range found {
		if task.EndBy.IsZero() {
			task.EndBy = endBy(task)
		}
		if !task.EndBy.IsZero() && !task.EndBy.After(now) {
			ending = append(ending, task)
		} else if err := t.UpdateTask(task); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(ending, func(a, b *store.Task) int {
		return cmp.Or(a.EndBy.Compare(b.EndBy), cmp.Compare(a.Incarnation, b.Incarnation))
	})
	return ending, nil
}

// Trimmable implements rules.Rows.
func (t *tx) Trimmable(now time.Time, limit int) ([]*store.Task, error) {
	return t.look(sqlTrimmable, micros(now), limit)
}
