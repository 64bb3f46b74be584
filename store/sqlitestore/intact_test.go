//go:build linux

package sqlitestore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/perdure/perdure/store"
)

// harms are things that other programs do to the content of files, which keep their names. Each gets a store whose log
// and database have been written to, and the content of both when they had been written to less.
var harms = map[string]func(path string, before map[string][]byte) error{
	"the log cut to nothing": func(path string, _ map[string][]byte) error { return os.Truncate(path+suffixLog, 0) },
	"the log cut to its head": func(path string, _ map[string][]byte) error {
		return os.Truncate(path+suffixLog, bytesOfLogHead)
	},
	"the log cut by a frame": func(path string, _ map[string][]byte) error {
		return cut(path+suffixLog, bytesOfFrameHead+4096)
	},
	"the log written over by zeros": func(path string, _ map[string][]byte) error {
		info, err := os.Stat(path + suffixLog)
		return errors.Join(err, os.WriteFile(path+suffixLog, make([]byte, info.Size()), 0o600))
	},
	"the log written over by that of before": func(path string, before map[string][]byte) error {
		return os.WriteFile(path+suffixLog, before[suffixLog], 0o600)
	},
	"the database cut to nothing": func(path string, _ map[string][]byte) error { return os.Truncate(path, 0) },
	"the database cut by a byte":  func(path string, _ map[string][]byte) error { return cut(path, 1) },
	"the head of the database written over": func(path string, _ map[string][]byte) error {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteAt([]byte("another's"), 20)
		later := time.Now().Add(time.Second) // than what was written in the same tick of the clock
		return errors.Join(err, f.Close(), os.Chtimes(path, later, later))
	},
	"the database written over by that of before": func(path string, before map[string][]byte) error {
		return os.WriteFile(path, before[""], 0o600)
	},
}

// cut makes a file shorter.
func cut(name string, by int64) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	return os.Truncate(name, info.Size()-by)
}

// openHarmless opens a store that has what harms want.
func openHarmless(t *testing.T, path string) (s *Store, logs fmt.Stringer, before map[string][]byte) {
	t.Helper()
	s, logs = openLogged(t, path)
	before = map[string][]byte{}
	read := func(suffix string) {
		b, err := os.ReadFile(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		before[suffix] = b
	}
	script(t, path, `PRAGMA wal_checkpoint(TRUNCATE);`)
	read("")
	for i := range 50 {
		mustOffer(t, s, fmt.Sprint("long before ", i))
	}
	script(t, path, `PRAGMA wal_checkpoint(TRUNCATE);`)
	mustOffer(t, s, "shortly before")
	read(suffixLog)
	mustOffer(t, s, "before")
	return s, logs, before
}

func TestNothingIsAcknowledgedWhenTheContentIsHarmed(t *testing.T) {
	for how, do := range harms {
		t.Run(how, func(t *testing.T) {
			path := newPlace(t)
			s, logs, before := openHarmless(t, path)
			if err := do(path, before); err != nil {
				t.Fatal(err)
			}
			wantNothingAcknowledged(t, s, logs)
		})
	}
}

func TestALogThatIsCutByAByteIsNoticed(t *testing.T) {
	path := newPlace(t)
	s, logs, _ := openHarmless(t, path)
	if err := cut(path+suffixLog, 1); err != nil {
		t.Fatal(err)
	}
	wantNothingAcknowledged(t, s, logs)
}

// TestAHarmDuringACommitIsNoticedBeforeItsAnswers: what is written after it makes the file as long as it was, and longer.
func TestAHarmDuringACommitIsNoticedBeforeItsAnswers(t *testing.T) {
	for how, do := range harms {
		t.Run(how, func(t *testing.T) {
			path := newPlace(t)
			s, _, before := openHarmless(t, path)
			err := s.writer.do(&op{ctx: t.Context(), run: func(c *conn, _ time.Time) error {
				return errors.Join(do(path, before), c.AddMail(store.Mail{Worker: "w", TaskID: "t", Kind: store.MailCancel}))
			}})
			wantLost(t, "the commit", err)
		})
	}
}

func TestARestoreIsNoticed(t *testing.T) {
	for name, ask := range map[string]func(*testing.T, *Store){
		"at rest": func(t *testing.T, s *Store) {
			_, err := s.version(t.Context())
			wantLost(t, "the number of the commits", err)
		},
		"by a write that comes as far": func(t *testing.T, s *Store) {
			_, err := s.Offer(t.Context(), offerReq("after"))
			wantLost(t, "an offer", err)
		},
	} {
		t.Run(name, func(t *testing.T) { testRestore(t, ask) })
	}
}

func testRestore(t *testing.T, ask func(*testing.T, *Store)) {
	path := newPlace(t)
	s, logs := openLogged(t, path)
	mustOffer(t, s, "before")
	if err := s.View(t.Context(), func(db *sqlite.Conn) error {
		return sqlitex.ExecuteTransient(db, `VACUUM INTO ?`, &sqlitex.ExecOptions{Args: []any{path + ".backup"}})
	}); err != nil {
		t.Fatal(err)
	}
	mustOffer(t, s, "lost")
	copyInto(t, path, path+".backup")
	ask(t, s)
	wantNothingAcknowledged(t, s, logs)
}

// copyInto writes a backup into a file that is open, as SQLite's shell does when it restores.
func copyInto(t *testing.T, path, backup string) {
	t.Helper()
	from, err := sqlite.OpenConn(backup, sqlite.OpenReadOnly)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	b, err := sqlite.NewBackup(to, "main", from, "main")
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.Step(-1)
	if err = errors.Join(err, b.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestWhatOthersMayDoIsNoHarm has others do all that SQLite lets them do, while the store is written to and read.
func TestWhatOthersMayDoIsNoHarm(t *testing.T) {
	path := newPlace(t)
	s := openAt(t, path, &Options{BusyTimeout: 10 * time.Minute}) // a VACUUM may take long
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				id := fmt.Sprint(g, "-", i)
				if _, err := s.Offer(t.Context(), offerReq(id)); err != nil {
					t.Error(err)
					return
				}
				if _, err := s.Get(t.Context(), id); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range 5 {
		visitAndWrite(t, path, i)
	}
	cancel()
	all.Wait()
	if err := errors.Join(s.names.look(), s.Close()); err != nil {
		t.Error(err)
	}
}

// visitAndWrite does to a file what others may do.
func visitAndWrite(t *testing.T, path string, round int) {
	t.Helper()
	db, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	now := time.Now()
	for _, sql := range []string{
		`CREATE TABLE visited (text BLOB)`, `PRAGMA wal_checkpoint(PASSIVE)`, `INSERT INTO visited VALUES (randomblob(1000000))`,
		`PRAGMA wal_checkpoint(RESTART)`, `PRAGMA wal_checkpoint(FULL)`, `DROP TABLE visited`, `VACUUM`, `PRAGMA wal_checkpoint(TRUNCATE)`,
		fmt.Sprintf(`VACUUM INTO '%s'`, filepath.Join(filepath.Dir(path), fmt.Sprint("backup", round))),
	} {
		if err := sqlitex.ExecuteTransient(db, sql, nil); err != nil && sqlite.ErrCode(err).ToPrimary() != sqlite.ResultBusy && sqlite.ErrCode(err).ToPrimary() != sqlite.ResultLocked {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	if err := os.Chtimes(path, now, now); err != nil {
		t.Fatal(err)
	}
	visit(t, path)
}

// BenchmarkLookAfterACommit looks at a log that has got a frame since it was looked at.
func BenchmarkLookAfterACommit(b *testing.B) {
	s := benchStore(b)
	e, err := s.anchor.extent()
	if err != nil {
		b.Fatal(err)
	}
	benchLease(b, s, "t")
	before := &written{extent: e}
	for b.Loop() {
		s.anchor.last.Store(before)
		if err := s.names.look(); err != nil {
			b.Fatal(err)
		}
	}
}
