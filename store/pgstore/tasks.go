package pgstore

import (
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/perdure/perdure/store"
)

// Columns of tasks: those that are written once, and those that change. Beside them line_version is written, which is
// version again: see unseen.
const (
	taskFixed   = `id, func, title, description, tags, session, agent, source, settings, created_at`
	taskChanges = `status, turn_deadline, worker, due_at, wait, suspect, expires_at, trim_at, reason, turn, turn_input_id,
		turn_steered, turn_entry, turn_attempt, turn_recoveries, turn_streak, turn_started_at, turn_overdue,
		turn_checkpoint, turn_cancel, cancel_reason, turn_error, turn_ended, last_turn, last_input_id, entered, queued,
		nudging, epoch, request, entered_at, settled_epoch, last_event, first_event, last_emitted, mark, event_epoch,
		updated_at, ended_at, place, end_by, turn_stops, turn_called, version`
	taskColumns = `key, ` + taskFixed + `, ` + taskChanges
	taskRead    = taskColumns + `, line_version`
)

// Statements that lock tasks. SKIP LOCKED is added where locks are not waited for.
const (
	sqlTasksByID  = `SELECT ` + taskRead + ` FROM perdure.tasks WHERE id = ANY($1) ORDER BY key FOR UPDATE`
	sqlTasksByKey = `SELECT ` + taskRead + ` FROM perdure.tasks WHERE key = ANY($1) ORDER BY key FOR UPDATE`
)

// scanTask reads the columns of taskRead, and more if there is.
func (s *Store) scanTask(rows pgx.Rows, more ...any) (*store.Task, error) {
	t := &store.Task{}
	u := &t.Turn
	var tags, source, settings, failure string
	var due, seen int64
	into := []any{&t.Incarnation, &t.ID, &t.Func, &t.Title, &t.Description, &tags, &t.Session, &t.Agent, &source,
		&settings, (*instant)(&t.CreatedAt),
		(*string)(&t.Status), (*instant)(&u.Deadline), &t.Worker, &due, (*string)(&t.Wait), &t.Suspect,
		(*instant)(&t.ExpiresAt), (*instant)(&t.TrimAt), &t.Reason, &u.Number, &u.InputID,
		&u.Steered, (*string)(&u.Entry), &u.Attempt, &u.Recoveries, &u.Streak, (*instant)(&u.StartedAt), &u.Overdue,
		&u.Checkpoint, &u.Cancel, &u.CancelReason, &failure, &u.Ended, &t.LastTurn, &t.LastInputID, &t.Entered, &t.Queued,
		&t.Nudging, &t.Epoch, &t.Request, (*instant)(&t.EnteredAt), &t.SettledEpoch, &t.LastEvent, &t.FirstEvent,
		&t.LastEmitted, &t.Mark, &t.EventEpoch, (*instant)(&t.UpdatedAt), (*instant)(&t.EndedAt),
		&t.Place, (*instant)(&t.EndBy), &u.Stops, &u.Called, &t.Version, &seen}
	if err := rows.Scan(append(into, more...)...); err != nil {
		return nil, err
	}
	if setDue(t, due); seen != t.Version {
		unseen(t)
	}
	var err error
	if t.Source, err = s.shared.sources.parse(source); err != nil {
		return nil, err
	}
	if t.Settings, err = s.shared.settings.parse(settings); err != nil {
		return nil, err
	}
	labels, err := s.shared.tags.parse(tags)
	if err != nil {
		return nil, err
	}
	if labels != nil {
		t.Tags = *labels
	}
	u.Error, err = fromJSON[store.TaskError](failure)
	return t, err
}

// scanLocked reads a task that has been locked.
func (t *tx) scanLocked(rows pgx.Rows) error {
	task, err := t.s.scanTask(rows)
	if err == nil {
		t.hold(task)
	}
	return err
}

// hold keeps a locked task, unless it is known already: then what is known is newer.
func (t *tx) hold(task *store.Task) *taskRow {
	if r := t.tasks[task.Incarnation]; r != nil {
		return r
	}
	r := newTaskRow(task, false)
	t.tasks[task.Incarnation], t.ids[task.ID] = r, r
	return r
}

// copied returns a task to a rule, which may change it.
func (r *taskRow) copied() *store.Task {
	if r == nil || r.gone {
		return nil
	}
	c := *r.task
	return &c
}

// TaskByID implements rules.Rows.
func (t *tx) TaskByID(id string) (*store.Task, error) {
	r, ok := t.ids[id]
	if !ok {
		if err := t.query(sqlTasksByID, t.scanLocked, []string{id}); err != nil {
			return nil, err
		}
		r = t.ids[id]
		t.ids[id] = r
	}
	return r.copied(), nil
}

// Task implements rules.Rows.
func (t *tx) Task(incarnation int64) (*store.Task, error) {
	r, known := t.tasks[incarnation]
	if !known {
		t.tasks[incarnation] = nil
		if err := t.query(sqlTasksByKey, t.scanLocked, []int64{incarnation}); err != nil {
			return nil, err
		}
		r = t.tasks[incarnation]
	}
	return r.copied(), nil
}

// InsertTask implements rules.Rows.
func (t *tx) InsertTask(task *store.Task) error {
	key, err := t.incarnation(task)
	if err != nil {
		return err
	}
	task.Incarnation = key
	c := *task
	r := newTaskRow(&c, true)
	t.tasks[key], t.ids[task.ID] = r, r
	t.changes.tasks = append(t.changes.tasks, r)
	if task.Due {
		t.news.changed(task)
	}
	return nil
}

const (
	sqlNextIncarnation = `SELECT nextval('perdure.incarnations')`
	sqlKeepIncarnation = `SELECT setval('perdure.incarnations', $1) FROM perdure.incarnations WHERE last_value < $1`
)

// incarnation returns the incarnation of a task that is inserted.
func (t *tx) incarnation(task *store.Task) (key int64, err error) {
	key, given := t.keys[task.ID]
	delete(t.keys, task.ID)
	switch {
	case task.Incarnation != 0:
		err = t.query(sqlKeepIncarnation, func(pgx.Rows) error { return nil }, task.Incarnation)
		return task.Incarnation, err
	case !given:
		err = t.query(sqlNextIncarnation, func(rows pgx.Rows) error { return rows.Scan(&key) })
	}
	return key, err
}

// UpdateTask implements rules.Rows.
func (t *tx) UpdateTask(task *store.Task) error {
	r := t.tasks[task.Incarnation]
	c := *task
	c.Metadata = nil
	r.task = &c
	if !r.created && !r.changed {
		r.changed = true
		t.changes.tasks = append(t.changes.tasks, r)
	}
	t.news.changed(r.task)
	return nil
}

// DeleteTask implements rules.Rows. What has not been written yet of the task, never is.
func (t *tx) DeleteTask(incarnation int64) error {
	r := t.tasks[incarnation]
	if r == nil {
		return nil
	}
	r.gone = true
	t.ids[r.task.ID] = nil
	t.changes.deleted = append(t.changes.deleted, incarnation)
	t.news.changed(r.task)
	return nil
}

// gone reports whether a task has been deleted: nobody reads what would be written of it.
func (t *tx) gone(incarnation int64) bool {
	return t.tasks[incarnation] == nil || t.tasks[incarnation].gone
}

const (
	sqlDeleteTags  = `DELETE FROM perdure.tags WHERE task = ANY($1)`
	sqlDeleteTasks = `DELETE FROM perdure.tasks WHERE key = ANY($1)`
)

// What rows are written with are arrays, one for each column. Those of texts are a table u, numbered by n; those of numbers
// and flags, in which an element is found by its number at once, are not made a table of, which costs more than all else
// where there are many. Numbers of parameters are those of taskChanges.
const (
	changedTexts  = `$1::text[], $3::text[], $5::text[], $9::text[], $11::text[], $13::text[], $21::text[], $22::text[], $25::text[]`
	changedNames  = `status, worker, wait, reason, turn_input_id, turn_entry, cancel_reason, turn_error, last_input_id`
	changedValues = `u.status, ($2::bigint[])[n], u.worker, ($4::bigint[])[n], u.wait, ($6::boolean[])[n], ($7::bigint[])[n],
		($8::bigint[])[n], u.reason, ($10::bigint[])[n], u.turn_input_id, ($12::boolean[])[n], u.turn_entry,
		($14::bigint[])[n], ($15::bigint[])[n], ($16::bigint[])[n], ($17::bigint[])[n], ($18::boolean[])[n],
		($19::bigint[])[n], ($20::boolean[])[n], u.cancel_reason, u.turn_error, ($23::boolean[])[n], ($24::bigint[])[n],
		u.last_input_id, ($26::boolean[])[n], ($27::bigint[])[n], ($28::bigint[])[n], ($29::bigint[])[n],
		($30::bigint[])[n], ($31::bigint[])[n], ($32::bigint[])[n], ($33::bigint[])[n], ($34::bigint[])[n],
		($35::bigint[])[n], ($36::bigint[])[n], ($37::bigint[])[n], ($38::bigint[])[n], ($39::bigint[])[n],
		($40::bigint[])[n], ($41::bigint[])[n], ($42::bigint[])[n], ($43::boolean[])[n], ($44::bigint[])[n]`
	changedVersion = `($44::bigint[])[n]`

	sqlInsertTasks = `INSERT INTO perdure.tasks (` + taskChanges + `, line_version, key, ` + taskFixed + `)
		SELECT ` + changedValues + `, ` + changedVersion + `, ($45::bigint[])[n],
			u.id, u.func, u.title, u.description, u.tags, u.session, u.agent, u.source, u.settings, ($55::bigint[])[n]
		FROM unnest(` + changedTexts + `, $46::text[], $47::text[], $48::text[], $49::text[], $50::text[], $51::text[],
			$52::text[], $53::text[], $54::text[]) WITH ORDINALITY
		AS u (` + changedNames + `, id, func, title, description, tags, session, agent, source, settings, n)`
	sqlUpdateTasks = `UPDATE perdure.tasks t SET (` + taskChanges + `, line_version) = (` + changedValues + `, ` + changedVersion + `)
		FROM unnest(` + changedTexts + `) WITH ORDINALITY AS u (` + changedNames + `, n) WHERE t.key = ($45::bigint[])[n]`
)

// queueTasks adds the statements that write tasks.
func (t *tx) queueTasks(b *pgx.Batch, rows []*taskRow) error {
	var created, changed []*store.Task
	for _, r := range rows {
		switch {
		case r.gone:
		case r.created:
			created = append(created, r.task)
		default:
			changed = append(changed, r.task)
		}
		r.created, r.changed = false, false
	}
	if len(created) > 0 {
		fixed, err := t.fixedColumns(created)
		if err != nil {
			return err
		}
		changes, err := changingColumns(created)
		if err != nil {
			return err
		}
		b.Queue(t.s.sql(sqlInsertTasks), slices.Concat(changes, keyColumn(created), fixed)...)
		t.queueTags(b, created)
	}
	if len(changed) == 0 {
		return nil
	}
	changes, err := changingColumns(changed)
	b.Queue(t.s.sql(sqlUpdateTasks), slices.Concat(changes, keyColumn(changed))...)
	return err
}

const sqlInsertTags = `INSERT INTO perdure.tags (name, value, task) SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[])`

func (t *tx) queueTags(b *pgx.Batch, created []*store.Task) {
	var names, values []string
	var tasks []int64
	for _, task := range created {
		for name, value := range task.Tags {
			names, values, tasks = append(names, name), append(values, value), append(tasks, task.Incarnation)
		}
	}
	if len(names) > 0 {
		b.Queue(t.s.sql(sqlInsertTags), names, values, tasks)
	}
}

func keyColumn(tasks []*store.Task) []any {
	return []any{column(tasks, func(t *store.Task) int64 { return t.Incarnation })}
}

func (t *tx) fixedColumns(tasks []*store.Task) ([]any, error) {
	tags, sources, settings := make([]string, len(tasks)), make([]string, len(tasks)), make([]string, len(tasks))
	for i, task := range tasks {
		var err error
		if len(task.Tags) > 0 {
			if tags[i], err = jsonText(&task.Tags); err != nil {
				return nil, err
			}
		}
		if sources[i], err = t.s.shared.sources.text(task.Source); err != nil {
			return nil, err
		}
		if settings[i], err = t.s.shared.settings.text(task.Settings); err != nil {
			return nil, err
		}
	}
	text := func(value func(*store.Task) string) []string { return column(tasks, value) }
	return []any{
		text(func(t *store.Task) string { return t.ID }),
		text(func(t *store.Task) string { return t.Func }),
		text(func(t *store.Task) string { return t.Title }),
		text(func(t *store.Task) string { return t.Description }),
		tags,
		text(func(t *store.Task) string { return t.Session }),
		text(func(t *store.Task) string { return t.Agent }),
		sources,
		settings,
		column(tasks, func(t *store.Task) int64 { return micros(t.CreatedAt) }),
	}, nil
}

// changingColumns are the values of taskChanges.
func changingColumns(tasks []*store.Task) ([]any, error) {
	failures, err := failureColumn(tasks, func(t *store.Task) *store.TaskError { return t.Turn.Error })
	if err != nil {
		return nil, err
	}
	text := func(value func(*store.Task) string) []string { return column(tasks, value) }
	number := func(value func(*store.Task) int64) []int64 { return column(tasks, value) }
	flag := func(value func(*store.Task) bool) []bool { return column(tasks, value) }
	at := func(value func(*store.Task) time.Time) []int64 {
		return column(tasks, func(t *store.Task) int64 { return micros(value(t)) })
	}
	return []any{
		text(func(t *store.Task) string { return string(t.Status) }),
		at(func(t *store.Task) time.Time { return t.Turn.Deadline }),
		text(func(t *store.Task) string { return t.Worker }),
		number(dueAt),
		text(func(t *store.Task) string { return string(t.Wait) }),
		flag(func(t *store.Task) bool { return t.Suspect }),
		at(func(t *store.Task) time.Time { return t.ExpiresAt }),
		at(func(t *store.Task) time.Time { return t.TrimAt }),
		text(func(t *store.Task) string { return t.Reason }),
		number(func(t *store.Task) int64 { return t.Turn.Number }),
		text(func(t *store.Task) string { return t.Turn.InputID }),
		flag(func(t *store.Task) bool { return t.Turn.Steered }),
		text(func(t *store.Task) string { return string(t.Turn.Entry) }),
		number(func(t *store.Task) int64 { return int64(t.Turn.Attempt) }),
		number(func(t *store.Task) int64 { return int64(t.Turn.Recoveries) }),
		number(func(t *store.Task) int64 { return int64(t.Turn.Streak) }),
		at(func(t *store.Task) time.Time { return t.Turn.StartedAt }),
		flag(func(t *store.Task) bool { return t.Turn.Overdue }),
		number(func(t *store.Task) int64 { return t.Turn.Checkpoint }),
		flag(func(t *store.Task) bool { return t.Turn.Cancel }),
		text(func(t *store.Task) string { return t.Turn.CancelReason }),
		failures,
		flag(func(t *store.Task) bool { return t.Turn.Ended }),
		number(func(t *store.Task) int64 { return t.LastTurn }),
		text(func(t *store.Task) string { return t.LastInputID }),
		flag(func(t *store.Task) bool { return t.Entered }),
		number(func(t *store.Task) int64 { return int64(t.Queued) }),
		number(func(t *store.Task) int64 { return int64(t.Nudging) }),
		number(func(t *store.Task) int64 { return t.Epoch }),
		number(func(t *store.Task) int64 { return t.Request }),
		at(func(t *store.Task) time.Time { return t.EnteredAt }),
		number(func(t *store.Task) int64 { return t.SettledEpoch }),
		number(func(t *store.Task) int64 { return t.LastEvent }),
		number(func(t *store.Task) int64 { return t.FirstEvent }),
		number(func(t *store.Task) int64 { return t.LastEmitted }),
		number(func(t *store.Task) int64 { return t.Mark }),
		number(func(t *store.Task) int64 { return t.EventEpoch }),
		at(func(t *store.Task) time.Time { return t.UpdatedAt }),
		at(func(t *store.Task) time.Time { return t.EndedAt }),
		number(func(t *store.Task) int64 { return t.Place }),
		at(func(t *store.Task) time.Time { return t.EndBy }),
		number(func(t *store.Task) int64 { return int64(t.Turn.Stops) }),
		flag(func(t *store.Task) bool { return t.Turn.Called }),
		number(func(t *store.Task) int64 { return t.Version }),
	}, nil
}
