package sqlitestore

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

func TestViewReadsAndWritesNothing(t *testing.T) {
	s := openTemp(t)
	mustOffer(t, s, "one")
	if err := s.View(t.Context(), countOf(1)); err != nil {
		t.Error(err)
	}
	err := s.View(t.Context(), func(db *sqlite.Conn) error {
		return sqlitex.ExecuteTransient(db, `DELETE FROM tasks`, nil)
	})
	if err == nil {
		t.Error("a view has written")
	}
	if err := s.View(t.Context(), func(db *sqlite.Conn) error { return sqlitex.ExecuteTransient(db, `BEGIN`, nil) }); err != nil {
		t.Error(err)
	}
	mustOffer(t, s, "two")
	for range 5 { // every connection
		if err := s.View(t.Context(), countOf(2)); err != nil {
			t.Error(err)
		}
	}
}

// countOf checks the number of tasks.
func countOf(want int) func(*sqlite.Conn) error {
	return func(db *sqlite.Conn) error {
		got, err := sqlitex.ResultInt(db.Prep(`SELECT count(*) FROM tasks`))
		if err == nil && got != want {
			err = fmt.Errorf("got %d tasks, want %d", got, want)
		}
		return err
	}
}

func TestViewEndsWithItsContext(t *testing.T) {
	s := openTemp(t)
	ctx, cancel := context.WithCancel(t.Context())
	err := s.View(ctx, func(db *sqlite.Conn) error {
		cancel()
		return sqlitex.ExecuteTransient(db, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n`, nil)
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("View: %v", err)
	}
}

func TestViewMakesACopy(t *testing.T) {
	s := openTemp(t)
	mustOffer(t, s, "one")
	backup := filepath.Join(t.TempDir(), "backup.db")
	if err := s.View(t.Context(), copyTo(backup)); err != nil {
		t.Fatal(err)
	}
	if err := openAt(t, backup, &Options{ReadOnly: true}).View(t.Context(), countOf(1)); err != nil {
		t.Error(err)
	}
}

func copyTo(path string) func(*sqlite.Conn) error {
	return func(db *sqlite.Conn) error {
		return sqlitex.ExecuteTransient(db, `VACUUM INTO ?`, &sqlitex.ExecOptions{Args: []any{path}})
	}
}

// A program that looks into its own file, and makes a copy of it, does so through the store.
func ExampleStore_View() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	st, err := Open(ctx, filepath.Join(dir, "tasks.db"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer st.Close()
	err = st.View(ctx, func(db *sqlite.Conn) error {
		n, err := sqlitex.ResultInt(db.Prep(`SELECT count(*) FROM tasks`))
		if err != nil {
			return err
		}
		fmt.Println("tasks:", n)
		return sqlitex.Execute(db, `VACUUM INTO ?`, &sqlitex.ExecOptions{Args: []any{filepath.Join(dir, "backup.db")}})
	})
	if err != nil {
		log.Fatal(err)
	}
	_, err = os.Stat(filepath.Join(dir, "backup.db"))
	fmt.Println("copied:", err == nil)
	// Output:
	// tasks: 0
	// copied: true
}
