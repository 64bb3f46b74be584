package sqlitestore

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/perdure/perdure/store"
)

// onWriter runs f on the connection that writes, outside of transactions.
func onWriter(t *testing.T, s *Store, f func(*conn) error) {
	t.Helper()
	err := s.writer.do(&op{ctx: t.Context(), plain: true, run: func(c *conn, _ time.Time) error { return f(c) }})
	if err != nil {
		t.Fatal(err)
	}
}

func onWriterRun(t *testing.T, s *Store, sql string) {
	t.Helper()
	onWriter(t, s, func(c *conn) error { return c.run(sql) })
}

// What makes a store refuse inputs with a bad word.
const (
	refuseByTrigger = `CREATE TRIGGER refuse BEFORE INSERT ON turns WHEN instr(new.input, 'bad')
		BEGIN SELECT raise(ABORT, 'no bad words'); END`
	refuseByRollback = `CREATE TRIGGER refuse BEFORE INSERT ON turns WHEN instr(new.input, 'bad')
		BEGIN SELECT raise(ROLLBACK, 'no bad words'); END`
	refuseByCheck = `CREATE TRIGGER refuse BEFORE INSERT ON turns
		BEGIN INSERT INTO words VALUES (new.input); END`
)

func TestContentThatTheFileRefuses(t *testing.T) {
	for name, refuse := range map[string]func(s *Store){
		"a trigger":                 func(s *Store) { onWriterRun(t, s, refuseByTrigger) },
		"a trigger that rolls back": func(s *Store) { onWriterRun(t, s, refuseByRollback) },
		"a check": func(s *Store) {
			onWriterRun(t, s, `CREATE TABLE words (word TEXT CHECK (NOT instr(word, 'bad')))`)
			onWriterRun(t, s, refuseByCheck)
		},
		"its size": func(s *Store) {
			onWriter(t, s, func(c *conn) error { c.db.Limit(sqlite.LimitLength, 1<<20); return nil })
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := openTemp(t)
			refuse(s)
			refusesBad(t, s)
		})
	}
}

// refusesBad checks that the offers with bad content fail, all at once with others, and only they.
func refusesBad(t *testing.T, s *Store) {
	t.Helper()
	var all sync.WaitGroup
	for i := range 5 {
		bad := offerReq(fmt.Sprint("bad", i))
		bad.Input = []byte(strings.Repeat("bad ", 1<<19))
		all.Go(func() {
			_, err := s.Offer(t.Context(), bad)
			var refused *store.ContentError
			if !errors.As(err, &refused) || !store.Definite(err) {
				t.Errorf("%s: got error %v, want a *store.ContentError", bad.TaskID, err)
			}
		})
		good := offerReq(fmt.Sprint("good", i))
		all.Go(func() {
			if _, err := s.Offer(t.Context(), good); err != nil {
				t.Errorf("%s: %v", good.TaskID, err)
			}
		})
	}
	all.Wait()
	page, err := s.List(t.Context(), store.ListQuery{Limit: 100})
	if err != nil || len(page.Tasks) != 5 {
		t.Errorf("got %d tasks, %v; want the 5 good ones", len(page.Tasks), err)
	}
}

// An error that looks like one of the content is one of the file when nothing else can be written either.
func TestContentIsNotBlamedForWhatIsWrongWithTheFile(t *testing.T) {
	s := openTemp(t)
	onWriterRun(t, s, refuseByTrigger)
	onWriterRun(t, s, `CREATE TRIGGER still BEFORE UPDATE ON line BEGIN SELECT raise(ABORT, 'no place goes on'); END`)
	req := offerReq("t")
	req.Input = []byte(`"bad"`)
	if _, err := s.Offer(t.Context(), req); err == nil || store.Definite(err) {
		t.Errorf("got error %v, want one that leaves the result unknown", err)
	}
}

func TestConstraintOfOurOwnIsNotTheContents(t *testing.T) {
	s := openTemp(t)
	onWriterRun(t, s, `CREATE UNIQUE INDEX one ON turns (deliver)`)
	mustOffer(t, s, "first")
	if _, err := s.Offer(t.Context(), offerReq("second")); err == nil || store.Definite(err) {
		t.Errorf("got error %v, want one that leaves the result unknown", err)
	}
}

func TestBusyFileLeavesTheResultUnknown(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := openAt(t, path, &Options{BusyTimeout: time.Millisecond})
	other, err := connect(path, (*Options)(nil).withDefaults(), false, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer other.close()
	if err := other.run(sqlBegin); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 10 {
		all.Go(func() {
			if _, err := s.Offer(t.Context(), offerReq(fmt.Sprint("t", i))); err == nil || store.Definite(err) {
				t.Errorf("got error %v, want one that leaves the result unknown", err)
			}
		})
	}
	all.Wait()
	if err := other.run(sqlRollback); err != nil {
		t.Fatal(err)
	}
	mustOffer(t, s, "t1")
}

func TestCommitsAreSyncedUnlessToldOtherwise(t *testing.T) {
	for _, c := range []struct {
		opts *Options
		want int64
	}{{nil, 2}, {&Options{}, 2}, {&Options{UnsafeNoSync: true}, 1}} { // FULL, FULL, NORMAL
		s := openAt(t, filepath.Join(t.TempDir(), "store.db"), c.opts)
		onWriter(t, s, func(c *conn) error { return c.exec(sqlBegin) })
		onWriter(t, s, func(c *conn) error { return c.exec(sqlCommit) })
		onWriter(t, s, func(w *conn) error {
			if got, err := w.number("PRAGMA synchronous"); err != nil || got != c.want {
				t.Errorf("with %+v: synchronous is %d, %v; want %d", c.opts, got, err, c.want)
			}
			if mode, err := w.text("PRAGMA journal_mode"); err != nil || mode != "wal" {
				t.Errorf("with %+v: journal mode %s, %v", c.opts, mode, err)
			}
			return nil
		})
	}
}

// text returns the only value of a statement.
func (c *conn) text(sql string) (text string, err error) {
	s := c.once(sql)
	err = s.each(func() error { text = s.nextText(); return nil })
	return text, err
}
