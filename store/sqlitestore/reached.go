package sqlitestore

// sqlReached sums numbers that never fall, and rise with most of what is written.
const sqlReached = `SELECT (SELECT place FROM line WHERE id = 1) + (SELECT coalesce(sum(seq), 0) FROM sqlite_sequence)`

// reach returns how far the store has come.
func (c *conn) reach() (now int64, err error) {
	s := c.stmt(sqlReached)
	err = s.each(func() error { now = s.nextInt(); return nil })
	return now, err
}

// notBefore notices that what SQLite calls a restore has put a moment of the past into the file: the store has come further
// with what this connection has committed.
func (n *names) notBefore(c *conn) error {
	now, err := c.reach()
	if err != nil {
		return err
	}
	if now < c.reached {
		return n.lose(&lostError{n.files[0].name, "what is in it was there before; a backup was restored into it"})
	}
	return nil
}
