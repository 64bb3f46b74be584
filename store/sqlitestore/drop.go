package sqlitestore

// dropBytes is how many bytes of payload one operation removes, or one row.
const dropBytes = 8 << 20

// room is what an operation may still take in: so many rows, of so many bytes, or one.
type room struct{ rows, bytes, taken int }

// fits reports whether there is room for a row of a size, and takes that.
func (r *room) fits(bytes int) bool {
	if r.taken >= r.rows || r.taken > 0 && r.bytes < bytes {
		return false
	}
	r.taken++
	r.bytes -= bytes
	return true
}

const (
	sqlDropEvents   = `DELETE FROM events WHERE task = ? AND last <= ?`
	sqlDropTurns    = `DELETE FROM turns WHERE task = ? AND number <= ?`
	sqlDropMetadata = `DELETE FROM metadata WHERE task = ? AND key <= ?`
	sqlTheirEvents  = `SELECT last, length(data) FROM events WHERE task = ? ORDER BY last ` + sqlLimit
	sqlTheirTurns   = `SELECT number, coalesce(length(input), 0) + coalesce(length(output), 0) FROM turns
		WHERE task = ? ORDER BY number ` + sqlLimit
	sqlTheirMetadata = `SELECT key, length(value) FROM metadata WHERE task = ? ORDER BY key ` + sqlLimit
)

// DropRows implements rules.Rows. It looks at keys and lengths only before it removes rows.
func (c *conn) DropRows(incarnation int64, limit int) (dropped int, more bool, err error) {
	r := &room{rows: limit, bytes: dropBytes}
	for _, table := range []struct{ choose, remove string }{
		{sqlTheirEvents, sqlDropEvents}, {sqlTheirTurns, sqlDropTurns}, {sqlTheirMetadata, sqlDropMetadata},
	} {
		chosen := c.stmt(table.choose).int(incarnation).int(int64(limit - r.taken + 1))
		if more, err = c.drop(chosen, table.remove, incarnation, r); more || err != nil {
			return r.taken, more, err
		}
	}
	return r.taken, false, c.stmt(sqlForgetAbandoned).int(incarnation).exec()
}

// drop removes the first rows that a statement chooses, by key and length, and reports whether it has left some.
func (c *conn) drop(chosen *stmt, remove string, incarnation int64, r *room) (more bool, err error) {
	last, any := "", false // a number in text: SQLite compares it as the column's type
	err = chosen.each(func() error {
		key := chosen.nextText()
		if !r.fits(int(chosen.nextInt())) {
			more = true
			return errEnough
		}
		last, any = key, true
		return nil
	})
	if err != nil || !any {
		return more, err
	}
	return more, c.stmt(remove).int(incarnation).raw(last).exec()
}

const sqlTrimmed = `SELECT last, length(data) FROM events WHERE task = ? AND last < ? ORDER BY last ` + sqlLimit

// DropEvents implements rules.Rows. A piece is a row.
func (c *conn) DropEvents(incarnation, below int64, limit int) (dropped int, more bool, err error) {
	r := &room{rows: limit, bytes: dropBytes}
	more, err = c.drop(c.stmt(sqlTrimmed).int(incarnation).int(below).int(int64(limit+1)), sqlDropEvents, incarnation, r)
	return r.taken, more, err
}

const (
	sqlAbandon         = `INSERT OR IGNORE INTO abandoned (task) VALUES (?)`
	sqlAbandoned       = `SELECT task FROM abandoned ORDER BY task ` + sqlLimit
	sqlForgetAbandoned = `DELETE FROM abandoned WHERE task = ?`
)

// Abandon implements rules.Rows.
func (c *conn) Abandon(incarnation int64) error { return c.stmt(sqlAbandon).int(incarnation).exec() }

// Abandoned implements rules.Rows.
func (c *conn) Abandoned(limit int) (tasks []int64, err error) {
	s := c.stmt(sqlAbandoned).int(int64(limit))
	err = s.each(func() error {
		tasks = append(tasks, s.nextInt())
		return nil
	})
	return tasks, err
}
