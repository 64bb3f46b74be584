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
	taskPlaced = `status, worker, due_at, place, end_by, suspect, expires_at, trim_at`
	taskState  = `reason, turn, turn_input_id, turn_steered, turn_entry, turn_attempt, turn_recoveries,
		turn_streak, turn_stops, turn_started_at, turn_deadline, turn_overdue, turn_called, turn_checkpoint, turn_cancel,
		cancel_reason, turn_error, turn_ended, last_turn, last_input_id, entered, queued, nudging, epoch, request,
		entered_at, wait, settled_epoch, last_event, first_event, last_emitted, mark, event_epoch, updated_at, ended_at,
		version`
	// stateParams are as many parameters as taskState has columns.
	stateParams = `?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?`
	taskColumns = `key, ` + taskFixed + `, ` + taskPlaced + `, ` + taskState
)

// placed is what the indexes of tasks are made of, as last read for one task. An update that leaves it as
// it was need not touch an index.
type placed struct {
	key                  int64
	status               store.Status
	due, place           int64
	endBy, expires, trim time.Time
	worker               string
	suspect              bool
}

func place(t *store.Task) placed {
	return placed{
		key: t.Incarnation, status: t.Status, due: dueAt(t), place: t.Place, endBy: t.EndBy, expires: t.ExpiresAt,
		trim: t.TrimAt, worker: t.Worker, suspect: t.Suspect,
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
	t.Status, t.Worker = store.Status(s.nextText()), s.nextText()
	scanDue(s, t)
	t.Place, t.EndBy, t.Suspect, t.ExpiresAt, t.TrimAt = s.nextInt(), s.nextTime(), s.nextBool(), s.nextTime(), s.nextTime()
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
	u.Attempt, u.Recoveries, u.Streak, u.Stops = int(s.nextInt()), int(s.nextInt()), int(s.nextInt()), int(s.nextInt())
	u.StartedAt, u.Deadline, u.Overdue, u.Called = s.nextTime(), s.nextTime(), s.nextBool(), s.nextBool()
	u.Checkpoint = s.nextInt()
	u.Cancel, u.CancelReason = s.nextBool(), s.nextText()
	if u.Error, err = fromJSON[store.TaskError](s.nextText()); err != nil {
		return err
	}
	u.Ended = s.nextBool()
	t.LastTurn, t.LastInputID, t.Entered = s.nextInt(), s.nextText(), s.nextBool()
	t.Queued, t.Nudging = int(s.nextInt()), int(s.nextInt())
	t.Epoch, t.Request, t.EnteredAt, t.Wait = s.nextInt(), s.nextInt(), s.nextTime(), store.Wait(s.nextText())
	t.SettledEpoch, t.LastEvent, t.FirstEvent, t.LastEmitted = s.nextInt(), s.nextInt(), s.nextInt(), s.nextInt()
	t.Mark, t.EventEpoch, t.UpdatedAt = s.nextInt(), s.nextInt(), s.nextTime()
	t.EndedAt, t.Version = s.nextTime(), s.nextInt()
	return nil
}

func bindPlaced(s *stmt, t *store.Task) {
	s.text(string(t.Status)).text(t.Worker).number(dueAt(t)).int(t.Place).time(t.EndBy)
	s.bool(t.Suspect).time(t.ExpiresAt).time(t.TrimAt)
}

func bindState(s *stmt, t *store.Task) error {
	u := &t.Turn
	text, err := jsonText(u.Error)
	s.text(t.Reason)
	s.int(u.Number).text(u.InputID).bool(u.Steered).text(string(u.Entry))
	s.int(int64(u.Attempt)).int(int64(u.Recoveries)).int(int64(u.Streak)).int(int64(u.Stops))
	s.time(u.StartedAt).time(u.Deadline).bool(u.Overdue).bool(u.Called).int(u.Checkpoint)
	s.bool(u.Cancel).text(u.CancelReason).text(text).bool(u.Ended)
	s.int(t.LastTurn).text(t.LastInputID).bool(t.Entered).int(int64(t.Queued)).int(int64(t.Nudging))
	s.int(t.Epoch).int(t.Request).time(t.EnteredAt).text(string(t.Wait)).int(t.SettledEpoch)
	s.int(t.LastEvent).int(t.FirstEvent).int(t.LastEmitted).int(t.Mark).int(t.EventEpoch)
	s.time(t.UpdatedAt).time(t.EndedAt).int(t.Version)
	return err
}

const sqlInsertTask = `INSERT INTO tasks (key, ` + taskFixed + `, ` + taskPlaced + `, ` + taskState + `)
	VALUES (nullif(?, 0), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,
		?, ?, ?, ?, ?, ?, ?, ?,
		` + stateParams + `)`

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
		` + stateParams + `)
		WHERE key = ?`
	sqlUpdateState = `UPDATE tasks SET (` + taskState + `) =
		(` + stateParams + `)
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
	sqlTagsOf     = `SELECT tags FROM tasks WHERE key = ?`
	sqlDeleteTags = `DELETE FROM tags WHERE name = ? AND value = ? AND task = ?`
	sqlDeleteTask = `DELETE FROM tasks WHERE key = ?`
)

// DeleteTask implements rules.Rows.
func (c *conn) DeleteTask(incarnation int64) error {
	var tags map[string]string
	s := c.stmt(sqlTagsOf).int(incarnation)
	err := s.each(func() (err error) {
		tags, err = parse(c.interned.tags, s.nextText())
		return err
	})
	if err != nil {
		return err
	}
	for name, value := range tags {
		if err := c.stmt(sqlDeleteTags).raw(name).raw(value).int(incarnation).exec(); err != nil {
			return err
		}
	}
	return c.stmt(sqlDeleteTask).int(incarnation).exec()
}
