package sqlitestore

import (
	"encoding/json"
	"time"

	"github.com/perdure/perdure/store"
)

// Columns of tasks: those that are written once, and those that change, in two parts: what indexes are
// made of, and the rest.
const (
	taskFixed  = `id, func, title, description, tags, session, agent, source, settings, created_at`
	taskPlaced = `status, turn_deadline, worker, due_at, wait, suspect, expires_at, trim_at`
	taskState  = `reason, turn, turn_input_id, turn_steered, turn_entry, turn_attempt, turn_recoveries,
		turn_streak, turn_started_at, turn_overdue, turn_checkpoint, turn_cancel, cancel_reason, turn_error,
		turn_ended, last_turn, last_input_id, entered, queued, nudging, epoch, request, entered_at,
		settled_epoch, last_event, first_event, last_emitted, mark, event_epoch, updated_at, ended_at, version`
	taskColumns = `key, ` + taskFixed + `, ` + taskPlaced + `, ` + taskState
)

// placed is what the indexes of tasks are made of, as last read for one task. An update that leaves it as
// it was need not touch an index.
type placed struct {
	key                    int64
	status                 store.Status
	deadline, due, expires time.Time
	trim                   time.Time
	worker                 string
	wait                   store.Wait
	suspect                bool
}

func place(t *store.Task) placed {
	return placed{
		key: t.Incarnation, status: t.Status, deadline: t.Turn.Deadline, due: t.DueAt, expires: t.ExpiresAt,
		trim: t.TrimAt, worker: t.Worker, wait: t.Wait, suspect: t.Suspect,
	}
}

const sqlTaskByID = `SELECT ` + taskColumns + ` FROM tasks WHERE id = ?`

// TaskByID implements rules.Rows.
func (c *conn) TaskByID(id string) (*store.Task, error) { return c.task(c.stmt(sqlTaskByID).text(id)) }

const sqlTask = `SELECT ` + taskColumns + ` FROM tasks WHERE key = ?`

// Task implements rules.Rows.
func (c *conn) Task(incarnation int64) (*store.Task, error) {
	return c.task(c.stmt(sqlTask).int(incarnation))
}

func (c *conn) task(s *stmt) (*store.Task, error) {
	var t *store.Task
	err := s.each(func() (err error) {
		t, err = c.scanTask(s)
		return err
	})
	if t != nil {
		c.placed = place(t)
	}
	return t, err
}

func (c *conn) tasks(s *stmt) ([]*store.Task, error) {
	var tasks []*store.Task
	err := s.each(func() error {
		t, err := c.scanTask(s)
		tasks = append(tasks, t)
		return err
	})
	return tasks, err
}

func (c *conn) scanTask(s *stmt) (*store.Task, error) {
	t := &store.Task{Incarnation: s.nextInt()}
	if err := c.scanFixed(s, t); err != nil {
		return nil, err
	}
	t.Status, t.Turn.Deadline = store.Status(s.nextText()), s.nextTime()
	t.Worker, t.DueAt = s.nextText(), s.nextTime()
	t.Wait, t.Suspect, t.ExpiresAt = store.Wait(s.nextText()), s.nextBool(), s.nextTime()
	t.TrimAt = s.nextTime()
	return t, scanState(s, t)
}

func (c *conn) scanFixed(s *stmt, t *store.Task) (err error) {
	t.ID, t.Func, t.Title, t.Description = s.nextText(), s.nextText(), s.nextText(), s.nextText()
	if t.Tags, err = parse(c.interned.tags, s.nextText()); err != nil {
		return err
	}
	t.Session, t.Agent = s.nextText(), s.nextText()
	if t.Source, err = c.source(s.nextInt()); err != nil {
		return err
	}
	if t.Settings, err = c.settings(s.nextInt()); err != nil {
		return err
	}
	t.CreatedAt = s.nextTime()
	return nil
}

func scanState(s *stmt, t *store.Task) (err error) {
	t.Reason = s.nextText()
	u := &t.Turn
	u.Number, u.InputID, u.Steered, u.Entry = s.nextInt(), s.nextText(), s.nextBool(), store.EntryMode(s.nextText())
	u.Attempt, u.Recoveries, u.Streak = int(s.nextInt()), int(s.nextInt()), int(s.nextInt())
	u.StartedAt, u.Overdue, u.Checkpoint = s.nextTime(), s.nextBool(), s.nextInt()
	u.Cancel, u.CancelReason = s.nextBool(), s.nextText()
	if u.Error, err = fromJSON[store.TaskError](s.nextText()); err != nil {
		return err
	}
	u.Ended = s.nextBool()
	t.LastTurn, t.LastInputID, t.Entered = s.nextInt(), s.nextText(), s.nextBool()
	t.Queued, t.Nudging = int(s.nextInt()), int(s.nextInt())
	t.Epoch, t.Request, t.EnteredAt = s.nextInt(), s.nextInt(), s.nextTime()
	t.SettledEpoch, t.LastEvent, t.FirstEvent, t.LastEmitted = s.nextInt(), s.nextInt(), s.nextInt(), s.nextInt()
	t.Mark, t.EventEpoch, t.UpdatedAt = s.nextInt(), s.nextInt(), s.nextTime()
	t.EndedAt, t.Version = s.nextTime(), s.nextInt()
	return nil
}

func bindPlaced(s *stmt, t *store.Task) {
	s.text(string(t.Status)).time(t.Turn.Deadline).text(t.Worker).time(t.DueAt)
	s.text(string(t.Wait)).bool(t.Suspect).time(t.ExpiresAt).time(t.TrimAt)
}

func bindState(s *stmt, t *store.Task) error {
	u := &t.Turn
	text, err := jsonText(u.Error)
	s.text(t.Reason)
	s.int(u.Number).text(u.InputID).bool(u.Steered).text(string(u.Entry))
	s.int(int64(u.Attempt)).int(int64(u.Recoveries)).int(int64(u.Streak))
	s.time(u.StartedAt).bool(u.Overdue).int(u.Checkpoint).bool(u.Cancel).text(u.CancelReason).text(text).bool(u.Ended)
	s.int(t.LastTurn).text(t.LastInputID).bool(t.Entered).int(int64(t.Queued)).int(int64(t.Nudging))
	s.int(t.Epoch).int(t.Request).time(t.EnteredAt).int(t.SettledEpoch)
	s.int(t.LastEvent).int(t.FirstEvent).int(t.LastEmitted).int(t.Mark).int(t.EventEpoch)
	s.time(t.UpdatedAt).time(t.EndedAt).int(t.Version)
	return err
}

const sqlInsertTask = `INSERT INTO tasks (key, ` + taskFixed + `, ` + taskPlaced + `, ` + taskState + `)
	VALUES (nullif(?, 0), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,
		?, ?, ?, ?, ?, ?, ?, ?,
		?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`

// InsertTask implements rules.Rows.
func (c *conn) InsertTask(t *store.Task) error {
	source, err := c.sourceID(t.Source)
	if err != nil {
		return err
	}
	settings, err := c.settingsID(t.Settings)
	if err != nil {
		return err
	}
	tags, err := tagsText(t.Tags)
	if err != nil {
		return err
	}
	s := c.stmt(sqlInsertTask)
	s.int(t.Incarnation).text(t.ID).text(t.Func).text(t.Title).text(t.Description).text(tags).text(t.Session).text(t.Agent)
	s.int(source).int(settings).time(t.CreatedAt)
	bindPlaced(s, t)
	if err := bindState(s, t); err != nil {
		return err
	}
	if err := s.exec(); err != nil {
		return err
	}
	t.Incarnation = c.db.LastInsertRowID()
	return c.insertTags(t)
}

func tagsText(tags map[string]string) (string, error) {
	if len(tags) == 0 {
		return "", nil
	}
	text, err := json.Marshal(tags)
	return string(text), err
}

const sqlInsertTag = `INSERT INTO tags (name, value, task) VALUES (?, ?, ?)`

func (c *conn) insertTags(t *store.Task) error {
	for name, value := range t.Tags {
		s := c.stmt(sqlInsertTag).raw(name).raw(value).int(t.Incarnation)
		if err := s.exec(); err != nil {
			return err
		}
	}
	return nil
}

const (
	sqlUpdateTask = `UPDATE tasks SET (` + taskPlaced + `, ` + taskState + `) =
		(?, ?, ?, ?, ?, ?, ?, ?,
		?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		WHERE key = ?`
	sqlUpdateState = `UPDATE tasks SET (` + taskState + `) =
		(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		WHERE key = ?`
)

// UpdateTask implements rules.Rows.
func (c *conn) UpdateTask(t *store.Task) error {
	var s *stmt
	if c.placed == place(t) {
		s = c.stmt(sqlUpdateState)
	} else {
		s = c.stmt(sqlUpdateTask)
		bindPlaced(s, t)
		c.placed = place(t)
	}
	if err := bindState(s, t); err != nil {
		return err
	}
	return s.int(t.Incarnation).exec()
}

const (
	sqlDeleteTags     = `DELETE FROM tags WHERE name = ? AND value = ? AND task = ?`
	sqlDeleteTurns    = `DELETE FROM turns WHERE task = ?`
	sqlDeleteMetadata = `DELETE FROM metadata WHERE task = ?`
	sqlDeleteEvents   = `DELETE FROM events WHERE task = ?`
	sqlDeleteTask     = `DELETE FROM tasks WHERE key = ?`
)

// DeleteTask implements rules.Rows.
func (c *conn) DeleteTask(incarnation int64) error {
	t, err := c.Task(incarnation)
	if err != nil || t == nil {
		return err
	}
	for name, value := range t.Tags {
		s := c.stmt(sqlDeleteTags).raw(name).raw(value).int(incarnation)
		if err := s.exec(); err != nil {
			return err
		}
	}
	for _, sql := range []string{sqlDeleteTurns, sqlDeleteMetadata, sqlDeleteEvents, sqlDeleteTask} {
		if err := c.stmt(sql).int(incarnation).exec(); err != nil {
			return err
		}
	}
	return nil
}

const sqlLeasedTo = `SELECT ` + taskColumns + ` FROM tasks WHERE worker = ? ORDER BY key ` + sqlLimit

// LeasedTo implements rules.Rows.
func (c *conn) LeasedTo(worker string, limit int) ([]*store.Task, error) {
	return c.tasks(c.stmt(sqlLeasedTo).text(worker).int(int64(limit)))
}

const sqlDue = `SELECT ` + taskColumns + ` FROM tasks
	WHERE func = ? AND suspect = ? AND due_at <= ? ORDER BY due_at, key ` + sqlLimit

// Due implements rules.Rows.
func (c *conn) Due(fn string, suspect bool, now time.Time, limit int) ([]*store.Task, error) {
	return c.tasks(c.stmt(sqlDue).text(fn).bool(suspect).time(now).int(int64(limit)))
}

const sqlNextDue = `SELECT due_at FROM tasks
	WHERE func = ? AND suspect = ? AND due_at > ? ORDER BY due_at LIMIT 1`

// NextDue implements rules.Rows.
func (c *conn) NextDue(fn string, now time.Time) (time.Time, error) {
	var first time.Time
	for _, suspect := range []bool{false, true} {
		s := c.stmt(sqlNextDue).text(fn).bool(suspect).time(now)
		err := s.each(func() error {
			if at := s.nextTime(); first.IsZero() || at.Before(first) {
				first = at
			}
			return nil
		})
		if err != nil {
			return time.Time{}, err
		}
	}
	return first, nil
}

const sqlExpired = `SELECT ` + taskColumns + ` FROM tasks
	WHERE expires_at <= ? ORDER BY expires_at, key ` + sqlLimit

// Expired implements rules.Rows.
func (c *conn) Expired(now time.Time, limit int) ([]*store.Task, error) {
	return c.tasks(c.stmt(sqlExpired).time(now).int(int64(limit)))
}

const sqlOverdue = `SELECT ` + taskColumns + ` FROM tasks
	WHERE wait IN ('retry', 'strict') AND turn_deadline <= ? ORDER BY turn_deadline, key ` + sqlLimit

// Overdue implements rules.Rows.
func (c *conn) Overdue(now time.Time, limit int) ([]*store.Task, error) {
	return c.tasks(c.stmt(sqlOverdue).time(now).int(int64(limit)))
}

const sqlTrimmable = `SELECT ` + taskColumns + ` FROM tasks
	WHERE trim_at <= ? ORDER BY trim_at, key ` + sqlLimit

// Trimmable implements rules.Rows.
func (c *conn) Trimmable(now time.Time, limit int) ([]*store.Task, error) {
	return c.tasks(c.stmt(sqlTrimmable).time(now).int(int64(limit)))
}
