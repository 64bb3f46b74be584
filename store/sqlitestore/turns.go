package sqlitestore

import (
	"github.com/perdure/perdure/store"
)

// Columns of turns. What is written at the end of a turn comes before the payloads, which may be large.
const (
	turnFixed   = `task, number, input_id, deliver, digest_key, digest, accepted_at`
	turnEnd     = `status, steered, superseded, entry, attempt, recoveries, epoch, end_event, started_at, ended_at, reason, error`
	turnColumns = turnFixed + `, ` + turnEnd
)

// failure is what the column error holds: why a turn has failed, and what its handler returned when it wrapped up. Both
// stand before the payloads, which are not read for them; a column of its own would come after.
type failure struct {
	*store.TaskError
	Detail string `json:"detail,omitempty"`
}

func failureText(t *store.Turn) (string, error) {
	if t.Error == nil && t.Detail == "" {
		return "", nil
	}
	return jsonText(&failure{t.Error, t.Detail})
}

func scanFailure(text string, t *store.Turn) error {
	f, err := fromJSON[failure](text)
	if f != nil {
		t.Error, t.Detail = f.TaskError, f.Detail
	}
	return err
}

// payload says which payloads follow the columns of a turn.
type payload struct{ output, input bool }

func scanTurn(s *stmt, has payload) (*store.Turn, error) {
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
	err := scanFailure(s.nextText(), t)
	if has.output {
		t.Output = s.nextBytes()
	}
	if has.input {
		t.Input = s.nextBytes()
	}
	return t, err
}

func turns(s *stmt, has payload) ([]*store.Turn, error) {
	var page []*store.Turn
	err := s.each(func() error {
		t, err := scanTurn(s, has)
		page = append(page, t)
		return err
	})
	return page, err
}

func turn(s *stmt, has payload) (*store.Turn, error) {
	page, err := turns(s, has)
	if err != nil || len(page) == 0 {
		return nil, err
	}
	return page[0], nil
}

const sqlTurn = `SELECT ` + turnColumns + `, input FROM turns WHERE task = ? AND number = ?`

// Turn implements rules.Rows. The turn comes without its output, which no rule reads.
func (c *conn) Turn(incarnation, number int64) (*store.Turn, error) {
	return turn(c.stmt(sqlTurn).int(incarnation).int(number), payload{input: true})
}

const sqlTurnByInput = `SELECT ` + turnColumns + ` FROM turns WHERE task = ? AND input_id = ?`

// TurnByInput implements rules.Rows. The turn comes without its payloads, which no rule reads.
func (c *conn) TurnByInput(incarnation int64, inputID string) (*store.Turn, error) {
	return turn(c.stmt(sqlTurnByInput).int(incarnation).raw(inputID), payload{})
}

const sqlQueued = `SELECT ` + turnColumns + ` FROM turns
	WHERE task = ? AND number > ? AND status IS NULL ORDER BY number ` + sqlLimit

// Queued implements rules.Rows.
func (c *conn) Queued(incarnation, after int64, limit int) ([]*store.Turn, error) {
	return turns(c.stmt(sqlQueued).int(incarnation).int(after).int(int64(limit)), payload{})
}

const sqlLastEntered = `SELECT ` + turnColumns + `, output, input FROM turns
	WHERE task = ? AND number < ? AND started_at IS NOT NULL ORDER BY number DESC LIMIT 1`

// LastEntered implements rules.Rows.
func (c *conn) LastEntered(incarnation, before int64) (*store.Turn, error) {
	return turn(c.stmt(sqlLastEntered).int(incarnation).int(before), payload{true, true})
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
	text, err := failureText(t)
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
	sqlUnsetMetadata = `DELETE FROM metadata WHERE task = ? AND key = ?`
)

// SetMetadata implements rules.Rows.
func (c *conn) SetMetadata(incarnation int64, changes []store.Change) error {
	for _, change := range changes {
		s := c.stmt(sqlUnsetMetadata).int(incarnation).raw(change.Key)
		if change.Value != nil {
			s = c.stmt(sqlSetMetadata).int(incarnation).raw(change.Key).bytes(change.Value)
		}
		if err := s.exec(); err != nil {
			return err
		}
	}
	return nil
}
