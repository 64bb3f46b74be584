package pgstore

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/perdure/perdure/store"
)

// List implements store.Store. One filter chooses the index to walk down, newest first; the others are
// checked on the way.
func (s *Store) List(ctx context.Context, q store.ListQuery) (*store.TaskPage, error) {
	q, some := storable(q)
	if !some {
		return &store.TaskPage{}, nil
	}
	var found []*store.Task
	all := walks(q)
	cut := make([]int64, len(all)) // the last task of a walk that has ended too early, else 0
	ask := func(r *reading) {
		for i, w := range all {
			sql, args := w.statement(q, r.given())
			r.query(sql, func(rows pgx.Rows) error {
				var next *int64
				t, err := s.scanTask(rows, &next)
				if err != nil {
					return err
				}
				found = append(found, t)
				cut[i] = 0
				if next != nil {
					cut[i] = t.Incarnation
				}
				return nil
			}, args...)
		}
	}
	return read(ctx, s, ask, func(*reading) (*store.TaskPage, error) {
		return merged(found, slices.Max(cut), q.Limit), nil
	})
}

// storable leaves out of a query what no row can have. It reports false when no task can be left.
func storable(q store.ListQuery) (store.ListQuery, bool) {
	texts := []string{q.Session, q.Agent, q.Worker}
	for k, v := range q.Tags {
		texts = append(texts, k, v)
	}
	funcs, statuses := keepTexts(q.Funcs), keepTexts(q.Statuses)
	some := !slices.ContainsFunc(texts, func(s string) bool { return !store.ValidText(s) }) &&
		(len(funcs) > 0 || len(q.Funcs) == 0) && (len(statuses) > 0 || len(q.Statuses) == 0)
	q.Funcs, q.Statuses = funcs, statuses
	return q, some
}

// keepTexts returns the texts that a row can have.
func keepTexts[T ~string](texts []T) []T {
	kept := make([]T, 0, len(texts))
	for _, t := range texts {
		if store.ValidText(string(t)) {
			kept = append(kept, t)
		}
	}
	return kept
}

// merged makes a page of what walks have found, as far down as all of them have come.
func merged(found []*store.Task, bottom int64, limit int) *store.TaskPage {
	page := &store.TaskPage{More: bottom > 0}
	page.Tasks = slices.DeleteFunc(found, func(t *store.Task) bool { return t.Incarnation < bottom })
	slices.SortFunc(page.Tasks, func(a, b *store.Task) int { return cmp.Compare(b.Incarnation, a.Incarnation) })
	if len(page.Tasks) > limit {
		page.Tasks, page.More = page.Tasks[:limit], true
	}
	return page
}

// taskSize is the size of what may be large in a task's row.
const taskSize = `octet_length(t.description) + octet_length(t.tags) + octet_length(t.reason) + octet_length(t.turn_error)`

// walk is one way through the tasks: an index, and the value to look for in it.
type walk struct {
	from  string // a FROM and the beginning of a WHERE; %s is the place of value
	value string
	name  string // of a tag
}

// Where walks go. A condition of a partial index is repeated, so that the index is used.
const (
	walkTag     = `perdure.tags g JOIN perdure.tasks t ON t.key = g.task WHERE g.name = %s AND g.value = %s`
	walkWorker  = `perdure.tasks t WHERE t.worker <> '' AND t.worker = %s`
	walkSession = `perdure.tasks t WHERE t.session <> '' AND t.session = %s`
	walkStatus  = `perdure.tasks t WHERE t.status <> 'completed' AND t.status = %s`
	walkAgent   = `perdure.tasks t WHERE t.agent <> '' AND t.agent = %s`
	walkFunc    = `perdure.tasks t WHERE t.func = %s`
	walkAll     = `perdure.tasks t WHERE true`
)

// walks chooses the filter that leaves the fewest tasks, as a rule. Alternatives take a walk each.
func walks(q store.ListQuery) []walk {
	switch {
	case q.Worker != "":
		return []walk{{from: walkWorker, value: q.Worker}}
	case q.Session != "":
		return []walk{{from: walkSession, value: q.Session}}
	case len(q.Tags) > 0:
		name := slices.Min(slices.Collect(maps.Keys(q.Tags)))
		return []walk{{from: walkTag, name: name, value: q.Tags[name]}}
	case len(q.Statuses) > 0 && !slices.Contains(q.Statuses, store.Completed):
		return alternatives(walkStatus, q.Statuses)
	case q.Agent != "":
		return []walk{{from: walkAgent, value: q.Agent}}
	case len(q.Funcs) > 0:
		return alternatives(walkFunc, q.Funcs)
	}
	return []walk{{from: walkAll}}
}

func alternatives[T ~string](from string, values []T) []walk {
	var all []walk
	for _, v := range slices.Compact(slices.Sorted(slices.Values(values))) {
		all = append(all, walk{from: from, value: string(v)})
	}
	return all
}

// statement returns the statement of a walk with all filters of the query. given is the time in tests; else 0.
func (w walk) statement(q store.ListQuery, given int64) (sql string, args []any) {
	var b strings.Builder
	arg := func(v any) string {
		args = append(args, v)
		return fmt.Sprintf("$%d", len(args))
	}
	key := "t.key"
	from := w.from
	switch from {
	case walkAll:
	case walkTag:
		key = "g.task"
		from = fmt.Sprintf(from, arg(w.name), arg(w.value))
	default:
		from = fmt.Sprintf(from, arg(w.value))
	}
	b.WriteString(`SELECT ` + taskRead + `, next FROM (SELECT *, sum(size) OVER w - size AS before, lead(key) OVER w AS next FROM
		(SELECT t.*, ` + taskSize + ` AS size FROM ` + from)
	if q.Session != "" {
		b.WriteString(` AND t.session = ` + arg(q.Session))
	}
	if q.Agent != "" {
		b.WriteString(` AND t.agent = ` + arg(q.Agent))
	}
	if len(q.Funcs) > 0 && w.from != walkFunc {
		b.WriteString(` AND t.func = ANY(` + arg(q.Funcs) + `)`)
	}
	if len(q.Statuses) > 0 && w.from != walkStatus {
		b.WriteString(` AND t.status = ANY(` + arg(column(q.Statuses, func(s store.Status) string { return string(s) })) + `)`)
	}
	for _, name := range slices.Sorted(maps.Keys(q.Tags)) {
		b.WriteString(` AND (SELECT true FROM perdure.tags h WHERE h.name = ` + arg(name) + ` AND h.value = ` +
			arg(q.Tags[name]) + ` AND h.task = t.key)`)
	}
	before := q.Before
	if before == 0 {
		before = never
	}
	b.WriteString(` AND ` + key + ` < ` + arg(before) + ` AND (t.expires_at = 0 OR t.expires_at > ` +
		fmt.Sprintf(timeOr, arg(given)) + `) ORDER BY ` + key + ` DESC LIMIT ` + arg(q.Limit) + ` + 1) r
		WINDOW w AS (ORDER BY key DESC ROWS UNBOUNDED PRECEDING)) p WHERE before < ` + arg(store.PageBytes))
	return b.String(), args
}
