package sqlitestore

import (
	"context"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/perdure/perdure/store"
)

// List implements store.Store. One filter chooses the index to walk down, newest first; the others are checked on the
// way. Alternatives take a walk each, side by side, so that no more is read than the page holds.
func (s *Store) List(ctx context.Context, q store.ListQuery) (*store.TaskPage, error) {
	return read(ctx, s, func(c *conn, now time.Time) (*store.TaskPage, error) {
		var all []*cursor
		defer func() {
			for _, w := range all {
				w.s.finish()
			}
		}()
		for _, w := range walks(q) {
			at := &cursor{s: c.walk(w, q, now)}
			all = append(all, at)
			if err := at.next(c); err != nil {
				return nil, err
			}
		}
		return c.merge(all, q.Limit)
	})
}

// cursor is where a walk has come to.
type cursor struct {
	s *stmt
	t *store.Task // nil at the end
}

func (w *cursor) next(c *conn) error {
	w.t = nil
	more, err := w.s.next()
	if err == nil && more {
		w.t, err = c.scanTask(w.s)
	}
	return err
}

// merge makes a page of the newest tasks of several walks.
func (c *conn) merge(all []*cursor, limit int) (*store.TaskPage, error) {
	page, r := &store.TaskPage{}, &room{rows: limit, bytes: store.PageBytes}
	for {
		var newest *cursor
		for _, w := range all {
			if w.t != nil && (newest == nil || w.t.Incarnation > newest.t.Incarnation) {
				newest = w
			}
		}
		if newest == nil {
			return page, nil
		}
		if !r.fits(sizeOfTask(newest.t)) {
			page.More = true
			return page, nil
		}
		page.Tasks = append(page.Tasks, newest.t)
		if err := newest.next(c); err != nil {
			return nil, err
		}
	}
}

// walk is one way through the tasks: an index, and the value to look for in it.
type walk struct {
	from string
	args []string
}

// Where walks go.
const (
	walkTag     = `tags CROSS JOIN tasks ON tasks.key = tags.task WHERE tags.name = ? AND tags.value = ?`
	walkWorker  = `tasks INDEXED BY tasks_worker WHERE worker = ?`
	walkSession = `tasks INDEXED BY tasks_session WHERE session = ?`
	walkStatus  = `tasks INDEXED BY tasks_status WHERE status = ? AND status <> 'completed'`
	walkAgent   = `tasks INDEXED BY tasks_agent WHERE agent = ?`
	walkFunc    = `tasks INDEXED BY tasks_func WHERE func = ?`
	walkAll     = `tasks NOT INDEXED WHERE TRUE`
)

// walks chooses the filter that leaves the fewest tasks, as a rule. Alternatives take a walk each.
func walks(q store.ListQuery) []walk {
	switch {
	case q.Worker != "":
		return []walk{{walkWorker, []string{q.Worker}}}
	case q.Session != "":
		return []walk{{walkSession, []string{q.Session}}}
	case len(q.Tags) > 0:
		name := slices.Min(slices.Collect(maps.Keys(q.Tags)))
		return []walk{{walkTag, []string{name, q.Tags[name]}}}
	case len(q.Statuses) > 0 && !slices.Contains(q.Statuses, store.Completed):
		return alternatives(walkStatus, q.Statuses)
	case q.Agent != "":
		return []walk{{walkAgent, []string{q.Agent}}}
	case len(q.Funcs) > 0:
		return alternatives(walkFunc, q.Funcs)
	}
	return []walk{{walkAll, nil}}
}

func alternatives[T ~string](from string, values []T) []walk {
	var all []walk
	for _, v := range slices.Compact(slices.Sorted(slices.Values(values))) {
		all = append(all, walk{from, []string{string(v)}})
	}
	return all
}

func (c *conn) walk(w walk, q store.ListQuery, now time.Time) *stmt {
	sql, args := w.filter(q)
	s := c.once(sql)
	for _, arg := range args {
		s.raw(arg)
	}
	before := q.Before
	if before == 0 {
		before = math.MaxInt64
	}
	return s.int(before).time(now).int(int64(q.Limit + 1))
}

// filter returns the statement of a walk with all other filters of the query, and its arguments up to those
// that every walk has: the incarnation to continue below, the time, and the limit.
func (w walk) filter(q store.ListQuery) (string, []string) {
	key := "key"
	if w.from == walkTag {
		key = "tags.task"
	}
	var b strings.Builder
	b.WriteString(`SELECT ` + taskColumns + ` FROM ` + w.from)
	args := slices.Clone(w.args)
	add := func(column string, values ...string) {
		b.WriteString(` AND ` + column + ` IN (?` + strings.Repeat(`, ?`, len(values)-1) + `)`)
		args = append(args, values...)
	}
	if q.Session != "" {
		add("session", q.Session)
	}
	if q.Agent != "" {
		add("agent", q.Agent)
	}
	if len(q.Funcs) > 0 && w.from != walkFunc {
		add("func", q.Funcs...)
	}
	if len(q.Statuses) > 0 && w.from != walkStatus {
		add("status", texts(q.Statuses)...)
	}
	for _, name := range slices.Sorted(maps.Keys(q.Tags)) {
		b.WriteString(` AND EXISTS (SELECT 1 FROM tags g WHERE g.name = ? AND g.value = ? AND g.task = tasks.key)`)
		args = append(args, name, q.Tags[name])
	}
	b.WriteString(` AND ` + key + ` < ? AND (expires_at IS NULL OR expires_at > ?) ORDER BY ` + key + ` DESC ` + sqlLimit)
	return b.String(), args
}

func texts(statuses []store.Status) []string {
	var all []string
	for _, s := range statuses {
		all = append(all, string(s))
	}
	return all
}
