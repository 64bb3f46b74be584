package sqlitestore

import (
	"github.com/perdure/perdure/store"
)

// Columns of turns. What is written at the end of a turn comes before the payloads, which may be large.
const (
	turnFixed   = `task, number, input_id, deliver, digest_key, digest, accepted_at`
	turnEnd     = `status, steered, superseded, entry, attempt, recoveries, epoch, end_event, started_at, ended_at, reason, error`
	turnColumns = turnFixed + `, ` + turnEnd + `, output`
)

func scanTurn(s *stmt, payload bool) (*store.Turn, error) {
	t := &store.Turn{Incarnation: s.nextInt(), Number: s.nextInt(), InputID: s.nextText()}
	t.Deliver = store.Deliver(s.nextText())
	t.Digest = store.Digest{Key: s.nextText(), Sum: s.nextText()}
	t.AcceptedAt = s.nextTime()
	t.Status, t.Steered, t.Superseded = store.Status(s.nextText()), s.nextBool(), s.nextBool()
	if t.Status == "" {
		t.Status = store.TurnQueued
	}
	t.Entry, t.Attempt, t.Recoveries = store.EntryMode(s.nextText()), int(s.nextInt()), int(s.nextInt())
	t.Epoch, t.EndEvent, t.StartedAt, t.EndedAt = s.nextInt(), s.nextInt(), s.nextTime(), s.nextTime()
	t.Reason = s.nextText()
	var err error
	t.Error, err = fromJSON[store.TaskError](s.nextText())
	t.Output = s.nextBytes()
	if payload {
		t.Input = s.nextBytes()
	}
	return t, err
}

func turns(s *stmt, payload bool) ([]*store.Turn, error) {
	var page []*store.Turn
	err := s.each(func() error {
		t, err := scanTurn(s, payload)
		page = append(page, t)
		return err
	})
	return page, err
}

func turn(s *stmt, payload bool) (*store.Turn, error) {
	page, err := turns(s, payload)
	if err != nil || len(page) == 0 {
		return nil, err
	}
	return page[0], nil
}

const sqlTurn = `SELECT ` + turnColumns + `, input FROM turns WHERE task = ? AND number = ?`

// Turn implements rules.Rows.
func (c *conn) Turn(incarnation, number int64) (*store.Turn, error) {
	return turn(c.stmt(sqlTurn).int(incarnation).int(number), true)
}

const sqlTurnByInput = `SELECT ` + turnColumns + ` FROM turns WHERE task = ? AND input_id = ?`

// TurnByInput implements rules.Rows. The turn comes without its input, which no rule reads.
func (c *conn) TurnByInput(incarnation int64, inputID string) (*store.Turn, error) {
	return turn(c.stmt(sqlTurnByInput).int(incarnation).raw(inputID), false)
}

const sqlQueued = `SELECT ` + turnColumns + ` FROM turns
	WHERE task = ? AND number > ? AND status IS NULL ORDER BY number ` + sqlLimit

// Queued implements rules.Rows.
func (c *conn) Queued(incarnation, after int64, limit int) ([]*store.Turn, error) {
	return turns(c.stmt(sqlQueued).int(incarnation).int(after).int(int64(limit)), false)
}

const sqlLastEntered = `SELECT ` + turnColumns + `, input FROM turns
	WHERE task = ? AND number < ? AND started_at IS NOT NULL ORDER BY number DESC LIMIT 1`

// LastEntered implements rules.Rows.
func (c *conn) LastEntered(incarnation, before int64) (*store.Turn, error) {
	return turn(c.stmt(sqlLastEntered).int(incarnation).int(before), true)
}

const sqlInsertTurn = `INSERT INTO turns (` + turnFixed + `, input) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`

// InsertTurn implements rules.Rows.
func (c *conn) InsertTurn(t *store.Turn) error {
	s := c.stmt(sqlInsertTurn).int(t.Incarnation).int(t.Number).raw(t.InputID).raw(string(t.Deliver))
	return s.text(t.Digest.Key).text(t.Digest.Sum).time(t.AcceptedAt).bytes(t.Input).exec()
}

const sqlEndTurn = `UPDATE turns SET (` + turnEnd + `, output) = (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
	WHERE task = ? AND number = ?`

// EndTurn implements rules.Rows.
func (c *conn) EndTurn(t *store.Turn) error {
	text, err := jsonText(t.Error)
	if err != nil {
		return err
	}
	s := c.stmt(sqlEndTurn).raw(string(t.Status)).bool(t.Steered).bool(t.Superseded).text(string(t.Entry))
	s.int(int64(t.Attempt)).int(int64(t.Recoveries)).int(t.Epoch).int(t.EndEvent).time(t.StartedAt).time(t.EndedAt)
	return s.text(t.Reason).text(text).bytes(t.Output).int(t.Incarnation).int(t.Number).exec()
}

const sqlPruneTurns = `DELETE FROM turns WHERE task = ? AND number <= ? RETURNING end_event`

// PruneTurns implements rules.Rows.
func (c *conn) PruneTurns(incarnation, upTo int64) (lastEvent int64, err error) {
	s := c.stmt(sqlPruneTurns).int(incarnation).int(upTo)
	err = s.each(func() error {
		lastEvent = max(lastEvent, s.nextInt())
		return nil
	})
	return lastEvent, err
}

const sqlMetadata = `SELECT key, value FROM metadata WHERE task = ?`

// Metadata implements rules.Rows.
func (c *conn) Metadata(incarnation int64) (map[string][]byte, error) {
	m := map[string][]byte{}
	s := c.stmt(sqlMetadata).int(incarnation)
	err := s.each(func() error {
		key := s.nextText()
		m[key] = s.nextBytes()
		return nil
	})
	return m, err
}

const (
	sqlSetMetadata = `INSERT INTO metadata (task, key, value) VALUES (?, ?, ?)
		ON CONFLICT (task, key) DO UPDATE SET value = excluded.value`
	sqlDropMetadata = `DELETE FROM metadata WHERE task = ? AND key = ?`
)

// SetMetadata implements rules.Rows.
func (c *conn) SetMetadata(incarnation int64, changes []store.Change) error {
	for _, change := range changes {
		s := c.stmt(sqlDropMetadata).int(incarnation).raw(change.Key)
		if change.Value != nil {
			s = c.stmt(sqlSetMetadata).int(incarnation).raw(change.Key).bytes(change.Value)
		}
		if err := s.exec(); err != nil {
			return err
		}
	}
	return nil
}
