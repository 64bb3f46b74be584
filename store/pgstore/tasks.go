package pgstore

import (
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/perdure/perdure/store"
)

// Columns of tasks: those that are written once, and those that change.
const (
	taskFixed   = `id, func, title, description, tags, session, agent, source, settings, created_at`
	taskChanges = `status, turn_deadline, worker, due_at, wait, suspect, expires_at, trim_at, reason, turn, turn_input_id,
		turn_steered, turn_entry, turn_attempt, turn_recoveries, turn_streak, turn_started_at, turn_overdue,
		turn_checkpoint, turn_cancel, cancel_reason, turn_error, turn_ended, last_turn, last_input_id, entered, queued,
		nudging, epoch, request, entered_at, settled_epoch, last_event, first_event, last_emitted, mark, event_epoch,
		updated_at, ended_at, version`
	taskColumns = `key, ` + taskFixed + `, ` + taskChanges
)

// Statements that lock tasks. SKIP LOCKED is added where locks are not waited for.
const (
	sqlTasksByID  = `SELECT ` + taskColumns + ` FROM perdure.tasks WHERE id = ANY($1) ORDER BY key FOR UPDATE`
	sqlTasksByKey = `SELECT ` + taskColumns + ` FROM perdure.tasks WHERE key = ANY($1) ORDER BY key FOR UPDATE`
)

// scanTask reads the columns of taskColumns.
func (s *Store) scanTask(rows pgx.Rows) (*store.Task, error) {
	t := &store.Task{}
	u := &t.Turn
	var tags, source, settings, failure string
	err := rows.Scan(&t.Incarnation, &t.ID, &t.Func, &t.Title, &t.Description, &tags, &t.Session, &t.Agent, &source,
		&settings, (*instant)(&t.CreatedAt),
		(*string)(&t.Status), (*instant)(&u.Deadline), &t.Worker, (*instant)(&t.DueAt), (*string)(&t.Wait), &t.Suspect,
		(*instant)(&t.ExpiresAt), (*instant)(&t.TrimAt), &t.Reason, &u.Number, &u.InputID,
		&u.Steered, (*string)(&u.Entry), &u.Attempt, &u.Recoveries, &u.Streak, (*instant)(&u.StartedAt), &u.Overdue,
		&u.Checkpoint, &u.Cancel, &u.CancelReason, &failure, &u.Ended, &t.LastTurn, &t.LastInputID, &t.Entered, &t.Queued,
		&t.Nudging, &t.Epoch, &t.Request, (*instant)(&t.EnteredAt), &t.SettledEpoch, &t.LastEvent, &t.FirstEvent,
		&t.LastEmitted, &t.Mark, &t.EventEpoch, (*instant)(&t.UpdatedAt), (*instant)(&t.EndedAt), &t.Version)
	if err != nil {
		return nil, err
	}
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
func (t *tx) Task(incarnation int64) (*store.Task, error) { return t.tasks[incarnation].copied(), nil }

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
	if !task.DueAt.IsZero() {
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

// DeleteTask implements rules.Rows.
func (t *tx) DeleteTask(incarnation int64) error {
	r := t.tasks[incarnation]
	if r.created || r.changed || len(t.changes.events) > 0 {
		if err := t.flush(); err != nil { // what is written afterwards would not be deleted
			return err
		}
	}
	r.gone = true
	t.ids[r.task.ID] = nil
	t.changes.deleted = append(t.changes.deleted, incarnation)
	t.news.changed(r.task)
	return nil
}

const (
	sqlDeleteTurns    = `DELETE FROM perdure.turns WHERE task = ANY($1)`
	sqlDeleteMetadata = `DELETE FROM perdure.metadata WHERE task = ANY($1)`
	sqlDeleteEvents   = `DELETE FROM perdure.events WHERE task = ANY($1)`
	sqlDeleteTags     = `DELETE FROM perdure.tags WHERE task = ANY($1)`
	sqlDeleteTasks    = `DELETE FROM perdure.tasks WHERE key = ANY($1)`
)

const sqlInsertTasks = `INSERT INTO perdure.tasks (` + taskColumns + `) SELECT * FROM unnest($1::bigint[],
		$2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
		$11::bigint[],
		$12::text[], $13::bigint[], $14::text[], $15::bigint[], $16::text[], $17::boolean[], $18::bigint[],
		$19::bigint[], $20::text[], $21::bigint[], $22::text[],
		$23::boolean[], $24::text[], $25::bigint[], $26::bigint[], $27::bigint[], $28::bigint[], $29::boolean[],
		$30::bigint[], $31::boolean[], $32::text[], $33::text[], $34::boolean[], $35::bigint[], $36::text[],
		$37::boolean[], $38::bigint[], $39::bigint[], $40::bigint[], $41::bigint[], $42::bigint[], $43::bigint[],
		$44::bigint[], $45::bigint[], $46::bigint[], $47::bigint[], $48::bigint[], $49::bigint[], $50::bigint[],
		$51::bigint[])`

const sqlUpdateTasks = `UPDATE perdure.tasks t SET (` + taskChanges + `) = (u.status, u.turn_deadline, u.worker, u.due_at,
		u.wait, u.suspect, u.expires_at, u.trim_at, u.reason, u.turn, u.turn_input_id, u.turn_steered, u.turn_entry,
		u.turn_attempt, u.turn_recoveries, u.turn_streak, u.turn_started_at, u.turn_overdue, u.turn_checkpoint,
		u.turn_cancel, u.cancel_reason, u.turn_error, u.turn_ended, u.last_turn, u.last_input_id, u.entered, u.queued,
		u.nudging, u.epoch, u.request, u.entered_at, u.settled_epoch, u.last_event, u.first_event, u.last_emitted,
		u.mark, u.event_epoch, u.updated_at, u.ended_at, u.version)
	FROM unnest($1::bigint[],
		$2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::text[], $7::boolean[], $8::bigint[],
		$9::bigint[], $10::text[], $11::bigint[], $12::text[],
		$13::boolean[], $14::text[], $15::bigint[], $16::bigint[], $17::bigint[], $18::bigint[], $19::boolean[],
		$20::bigint[], $21::boolean[], $22::text[], $23::text[], $24::boolean[], $25::bigint[], $26::text[],
		$27::boolean[], $28::bigint[], $29::bigint[], $30::bigint[], $31::bigint[], $32::bigint[], $33::bigint[],
		$34::bigint[], $35::bigint[], $36::bigint[], $37::bigint[], $38::bigint[], $39::bigint[], $40::bigint[],
		$41::bigint[])
	AS u (key, ` + taskChanges + `) WHERE t.key = u.key`

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
		b.Queue(t.s.sql(sqlInsertTasks), slices.Concat(keyColumn(created), fixed, changes)...)
		t.queueTags(b, created)
	}
	if len(changed) == 0 {
		return nil
	}
	changes, err := changingColumns(changed)
	b.Queue(t.s.sql(sqlUpdateTasks), slices.Concat(keyColumn(changed), changes)...)
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
	failures := make([]string, len(tasks))
	for i, t := range tasks {
		var err error
		if failures[i], err = jsonText(t.Turn.Error); err != nil {
			return nil, err
		}
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
		at(func(t *store.Task) time.Time { return t.DueAt }),
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
		number(func(t *store.Task) int64 { return t.Version }),
	}, nil
}
