package sqlitestore

import (
	"errors"
	"os"
	"os/exec"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// visit opens the file in another process, as SQLite's shell would, and closes it: the last one to do so removes the log.
func visit(t *testing.T, path string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), visitedFile+"="+path)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("visitor: %v, %s", err, out)
	}
}

const visitedFile = "PERDURE_TEST_SQLITE_VISITED"

func countTasks(path string) error {
	db, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		return err
	}
	return errors.Join(sqlitex.ExecuteTransient(db, `SELECT count(*) FROM tasks`, nil), db.Close())
}
