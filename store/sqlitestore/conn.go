package sqlitestore

import (
	"errors"
	"sync/atomic"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/perdure/perdure/store"
)

// conn is one connection with its prepared statements. It is used by one goroutine at a time: the
// writer, or whoever took it from the pool.
type conn struct {
	db       *sqlite.Conn
	sole     *atomic.Bool
	stmts    map[string]*stmt
	interned interned
	placed   placed
	worker   *store.Worker // as last read or written; nil when that is unknown
	reached  int64         // how far the store had come with its last commit
	rows     int           // that its statements have returned so far: a measure of the work
}

func newConn(db *sqlite.Conn, sole *atomic.Bool) *conn {
	return &conn{db: db, sole: sole, stmts: map[string]*stmt{}, interned: newInterned()}
}

func (c *conn) close() error { return c.db.Close() }

// sqlLimit is a limit that is bound. SQLite looks at the value of a plain "LIMIT ?" when it plans, and plans
// again each time one is bound; at an expression it does not look.
const sqlLimit = `LIMIT ? + 0`

// stmt returns a statement to bind and run, prepared once for each text. An error appears when it is run.
func (c *conn) stmt(sql string) *stmt {
	s := c.stmts[sql]
	if s == nil {
		prepared, err := c.db.Prepare(sql)
		if err != nil {
			return &stmt{err: err}
		}
		s = &stmt{s: prepared, c: c}
		c.stmts[sql] = s
	}
	s.param = 0
	return s
}

// once returns a statement that is forgotten after its run, for texts that are built.
func (c *conn) once(sql string) *stmt {
	prepared, _, err := c.db.PrepareTransient(sql)
	if err != nil {
		return &stmt{err: err}
	}
	return &stmt{s: prepared, c: c, transient: true}
}

func (c *conn) exec(sql string) error { return c.stmt(sql).exec() }

// stmt is a statement whose parameters are bound, and whose columns are read, one after the other.
type stmt struct {
	s         *sqlite.Stmt
	c         *conn
	param     int
	col       int
	transient bool
	err       error
}

func (s *stmt) int(v int64) *stmt {
	if s.err == nil {
		s.param++
		s.s.BindInt64(s.param, v)
	}
	return s
}

func (s *stmt) null() *stmt {
	if s.err == nil {
		s.param++
		s.s.BindNull(s.param)
	}
	return s
}

func (s *stmt) bool(v bool) *stmt {
	if v {
		return s.int(1)
	}
	return s.int(0)
}

// text binds a string, the empty one as NULL.
func (s *stmt) text(v string) *stmt {
	if v == "" {
		return s.null()
	}
	return s.raw(v)
}

// raw binds a string as it is.
func (s *stmt) raw(v string) *stmt {
	if s.err == nil {
		s.param++
		s.s.BindText(s.param, v)
	}
	return s
}

// bytes binds a blob, nil as NULL.
func (s *stmt) bytes(v []byte) *stmt {
	if v == nil {
		return s.null()
	}
	if s.err == nil {
		s.param++
		s.s.BindBytes(s.param, v)
	}
	return s
}

// number binds a number, 0 as NULL.
func (s *stmt) number(v int64) *stmt {
	if v == 0 {
		return s.null()
	}
	return s.int(v)
}

// time binds microseconds, the zero time as NULL.
func (s *stmt) time(t time.Time) *stmt {
	if t.IsZero() {
		return s.null()
	}
	return s.int(t.UnixMicro())
}

// exec runs a statement that returns no rows.
func (s *stmt) exec() error { return s.each(func() error { return nil }) }

// errEnough ends the reading of rows before their end, without looking at the next.
var errEnough = errors.New("enough")

// each calls scan for every row; scan reads the columns in their order.
func (s *stmt) each(scan func() error) error {
	err := s.step(scan)
	if errors.Is(err, errEnough) {
		err = nil
	}
	return errors.Join(err, s.finish())
}

func (s *stmt) step(scan func() error) error {
	for {
		more, err := s.next()
		if err != nil || !more {
			return err
		}
		if err := scan(); err != nil {
			return err
		}
	}
}

// next goes to the next row, and reports whether there is one. Whoever calls it calls finish in the end.
func (s *stmt) next() (bool, error) {
	if s.err != nil {
		return false, s.err
	}
	more, err := s.s.Step()
	if more {
		s.col = -1
		s.c.rows++
	}
	return more, err
}

func (s *stmt) finish() error {
	if s.err != nil {
		return nil
	}
	if s.transient {
		return s.s.Finalize()
	}
	return s.s.Reset()
}

func (s *stmt) nextInt() int64 {
	s.col++
	return s.s.ColumnInt64(s.col)
}

func (s *stmt) nextBool() bool { return s.nextInt() != 0 }

func (s *stmt) nextText() string {
	s.col++
	return s.s.ColumnText(s.col)
}

func (s *stmt) nextBytes() []byte {
	s.col++
	if s.s.ColumnIsNull(s.col) {
		return nil
	}
	b := make([]byte, s.s.ColumnLen(s.col))
	s.s.ColumnBytes(s.col, b)
	return b
}

func (s *stmt) nextTime() time.Time {
	v := s.nextInt()
	if v == 0 {
		return time.Time{}
	}
	return time.UnixMicro(v).UTC()
}
