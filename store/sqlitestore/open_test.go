package sqlitestore

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/perdure/perdure/store"
)

// refusal returns the error of opening a file that cannot be a store.
func refusal(t *testing.T, path string, opts *Options) string {
	t.Helper()
	s, err := Open(t.Context(), path, opts)
	if err == nil {
		s.Close()
		t.Fatalf("%s was opened", path)
	}
	if !strings.Contains(err.Error(), path) {
		t.Errorf("error does not name the file: %v", err)
	}
	return err.Error()
}

func wantError(t *testing.T, got, want string) {
	t.Helper()
	if !strings.Contains(got, want) {
		t.Errorf("got error %q, want one with %q", got, want)
	}
}

func script(t *testing.T, path, sql string) {
	t.Helper()
	db, err := sqlite.OpenConn(path, sqlite.OpenReadWrite|sqlite.OpenCreate)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := sqlitex.ExecuteScript(db, sql, nil); err != nil {
		t.Fatal(err)
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "notes.txt")
	if err := os.WriteFile(text, []byte(strings.Repeat("not a database\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	wantError(t, refusal(t, text, nil), "not a SQLite database")
	wantError(t, refusal(t, dir, nil), "it is a directory")
	wantError(t, refusal(t, "", nil), "a file is needed")
	wantError(t, refusal(t, ":memory:", nil), "a file is needed")
	wantError(t, refusal(t, filepath.Join(dir, "none", "a.db"), nil), "its folder")
	wantError(t, refusal(t, filepath.Join(text, "a.db"), nil), "not a directory")
	wantError(t, refusal(t, filepath.Join(dir, "none.db"), &Options{ReadOnly: true}), "no such file")
}

func TestOpenRefusesOtherApplications(t *testing.T) {
	dir := t.TempDir()
	tables, header := filepath.Join(dir, "tables.db"), filepath.Join(dir, "header.db")
	script(t, tables, `CREATE TABLE notes (text TEXT);`)
	script(t, header, `PRAGMA application_id = 42;`)
	wantError(t, refusal(t, tables, nil), "another application")
	wantError(t, refusal(t, header, nil), "another application")
	info, err := os.ReadDir(dir)
	if err != nil || len(info) != 2 {
		t.Errorf("opening left %d files behind (%v), want 2", len(info), err)
	}
}

func TestOpenRefusesNewerSchema(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	openAt(t, path, nil).Close()
	script(t, path, `PRAGMA user_version = 99;`)
	wantError(t, refusal(t, path, nil), "schema version 99 is newer than 2")
	wantError(t, refusal(t, path, &Options{ReadOnly: true}), "schema version 99 is newer than 2")
}

// TestOlderSchemaIsMigrated goes from each made-up version to the newest, keeping what is there.
func TestOlderSchemaIsMigrated(t *testing.T) {
	steps, err := migrations()
	if err != nil {
		t.Fatal(err)
	}
	steps = append(steps, `CREATE TABLE next (a INTEGER);`, `ALTER TABLE next ADD COLUMN b INTEGER; INSERT INTO next VALUES (1, 2);`)
	for have := range len(steps) {
		path := filepath.Join(t.TempDir(), "store.db")
		db, err := connect(path, (*Options)(nil).withDefaults(), false, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := migrate(db, steps[:have]); err != nil {
			t.Fatal(err)
		}
		if err := migrate(db, steps); err != nil {
			t.Fatalf("from version %d: %v", have, err)
		}
		if n, err := db.number(`SELECT sum(b) FROM next`); err != nil || n != 2 {
			t.Errorf("from version %d: got %d, %v", have, n, err)
		}
		if version, err := identify(db); err != nil || version != len(steps) {
			t.Errorf("from version %d: version %d, %v", have, version, err)
		}
		db.close()
	}
}

func TestFailedMigrationLeavesTheOldState(t *testing.T) {
	db, err := connect(filepath.Join(t.TempDir(), "store.db"), (*Options)(nil).withDefaults(), false, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.close()
	steps, err := migrations()
	if err != nil {
		t.Fatal(err)
	}
	if err := migrate(db, append(steps, `CREATE TABLE next (a); nonsense;`)); err == nil {
		t.Fatal("migrated")
	}
	if n, err := db.number(`SELECT count(*) FROM sqlite_schema`); err != nil || n != 0 {
		t.Errorf("%d tables are left, %v", n, err)
	}
}

func TestReadOnlyReads(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := openAt(t, path, nil)
	mustOffer(t, s, "one")
	r := openAt(t, path, &Options{ReadOnly: true})
	if _, err := r.Get(t.Context(), "one"); err != nil {
		t.Error(err)
	}
	mustOffer(t, s, "two")
	if tasks, err := r.List(t.Context(), store.ListQuery{Limit: 9}); err != nil || len(tasks.Tasks) != 2 {
		t.Errorf("got %v, %v; want 2 tasks", tasks, err)
	}
	if _, err := r.Offer(t.Context(), offerReq("three")); err == nil || !strings.Contains(err.Error(), "reading only") {
		t.Errorf("Offer: %v", err)
	}
}

func TestSymbolicLinkIsTheSameStore(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "store.db"), filepath.Join(dir, "link.db")
	s := openAt(t, path, nil)
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	unlock, err := s.Lock()
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if _, err := openAt(t, link, nil).Lock(); err == nil || !strings.Contains(err.Error(), fmt.Sprint(store.ErrStoreInUse)) {
		t.Errorf("Lock by another name: %v", err)
	}
}

// SQLite throws away a log whose database is not there.
func TestOpenThrowsAwayNoLog(t *testing.T) {
	for state, harm := range map[string]func(string) error{
		"missing": os.Remove,
		"empty":   func(path string) error { return os.Truncate(path, 0) },
	} {
		path := newPlace(t)
		s := openAt(t, path, nil)
		mustOffer(t, s, "t")
		copied := filepath.Join(t.TempDir(), "tasks.db") // as after a crash
		for _, suffix := range []string{"", suffixLog} {
			data, err := os.ReadFile(path + suffix)
			if err == nil {
				err = os.WriteFile(copied+suffix, data, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Rename(copied, copied+".aside"); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(copied, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := harm(copied); err != nil {
			t.Fatal(err)
		}
		for _, opts := range []*Options{nil, {ReadOnly: true}} {
			wantError(t, refusal(t, copied, opts), "it is "+state+", but its log")
		}
		if err := os.Rename(copied+".aside", copied); err != nil {
			t.Fatal(err)
		}
		back := openAt(t, copied, nil)
		if _, err := back.Get(t.Context(), "t"); err != nil {
			t.Errorf("%s: with the database put back: %v", state, err)
		}
	}
}
