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
func (s *Store) List(ctx context.Context, q store.ListQuery) ([]*store.Task, error) {
	var page []*store.Task
	ask := func(r *reading) {
		for _, w := range walks(q) {
			sql, args := w.statement(q, r.given())
			r.query(sql, func(rows pgx.Rows) error {
				t, err := s.scanTask(rows)
				page = append(page, t)
				return err
			}, args...)
		}
	}
	found, err := read(ctx, s, ask, func(*reading) ([]*store.Task, error) {
		slices.SortFunc(page, func(a, b *store.Task) int { return cmp.Compare(b.Incarnation, a.Incarnation) })
		return page[:min(q.Limit, len(page))], nil
	})
	if err == store.ErrNotFound {
		return nil, nil
	}
	return found, err
}

// listColumns are taskColumns where tags are in the same statement.
const listColumns = `t.key, t.id, t.func, t.title, t.description, t.tags, t.session, t.agent, t.source, t.settings, t.created_at,
	t.status, t.turn_deadline, t.worker, t.due_at, t.wait, t.suspect, t.expires_at, t.trim_at, t.reason, t.turn,
	t.turn_input_id, t.turn_steered, t.turn_entry, t.turn_attempt, t.turn_recoveries, t.turn_streak,
	t.turn_started_at, t.turn_overdue, t.turn_checkpoint, t.turn_cancel, t.cancel_reason, t.turn_error,
	t.turn_ended, t.last_turn, t.last_input_id, t.entered, t.queued, t.nudging, t.epoch, t.request, t.entered_at,
	t.settled_epoch, t.last_event, t.first_event, t.last_emitted, t.mark, t.event_epoch, t.updated_at, t.ended_at,
	t.version`

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
	b.WriteString(`SELECT ` + listColumns + ` FROM ` + from)
	if q.Session != "" {
		b.WriteString(` AND t.session = ` + arg(q.Session))
	}
	if q.Agent != "" {
		b.WriteString(` AND t.agent = ` + arg(q.Agent))
	}
	if len(q.Funcs) > 0 {
		b.WriteString(` AND t.func = ANY(` + arg(q.Funcs) + `)`)
	}
	if len(q.Statuses) > 0 {
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
		fmt.Sprintf(timeOr, arg(given)) + `) ORDER BY ` + key + ` DESC LIMIT ` + arg(q.Limit))
	return b.String(), args
}
