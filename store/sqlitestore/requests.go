package sqlitestore

import (
	"time"

	"github.com/perdure/perdure/store/rules"
)

const sqlRequest = `SELECT op, answer, at FROM requests WHERE task = ? AND id = ?`

// Request implements rules.Rows.
func (c *conn) Request(task, id string) (*rules.Request, error) {
	var r *rules.Request
	s := c.stmt(sqlRequest).raw(task).raw(id)
	err := s.each(func() error {
		r = &rules.Request{Task: task, ID: id, Op: s.nextText(), Answer: []byte(s.nextText()), At: s.nextTime()}
		return nil
	})
	return r, err
}

const sqlRemember = `INSERT INTO requests (task, id, op, answer, at) VALUES (?, ?, ?, ?, ?)
	ON CONFLICT (task, id) DO UPDATE SET op = excluded.op, answer = excluded.answer, at = excluded.at`

// Remember implements rules.Rows.
func (c *conn) Remember(r *rules.Request) error {
	return c.stmt(sqlRemember).raw(r.Task).raw(r.ID).raw(r.Op).raw(string(r.Answer)).time(r.At).exec()
}

const sqlForget = `DELETE FROM requests WHERE key IN
	(SELECT key FROM requests WHERE at <= ? ORDER BY at ` + sqlLimit + `)`

// Forget implements rules.Rows.
func (c *conn) Forget(before time.Time, limit int) (more bool, err error) {
	err = c.stmt(sqlForget).time(before).int(int64(limit)).exec()
	return c.db.Changes() == limit, err
}
