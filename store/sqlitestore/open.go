package sqlitestore

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// Identity of our files, in the header of the database.
const applicationID = 0x50524452 // "PRDR"

// minSQLite is the first version without a bug that could damage a file when its log is reset.
const minSQLite = 3_051_003

// check looks at the file before SQLite does, for errors that say what is wrong. It does not open it:
// closing a file would drop the locks that other connections of this process hold.
func check(path string, opts Options) error {
	if path == "" || path == ":memory:" {
		return errors.New("a file is needed: package memstore keeps tasks in memory")
	}
	if name, on := groundOf(path, opts.filesystem); on == network && !opts.AllowNetworkFS {
		return errNetwork(name)
	}
	info, err := os.Stat(path)
	if err := checkLog(path, info); err != nil {
		return err
	}
	switch {
	case err == nil && info.IsDir():
		return errors.New("it is a directory")
	case err == nil:
		return checkLinks(path)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case opts.ReadOnly:
		return errors.New("there is no such file")
	}
	parent := filepath.Dir(path)
	if info, err = os.Stat(parent); err != nil {
		return fmt.Errorf("its folder: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory", parent)
	}
	return nil
}

// checkLog refuses a log without its database, of which info is nil or says that it is empty: SQLite would throw away what
// is in the log.
func checkLog(path string, info fs.FileInfo) error {
	log, err := os.Stat(path + suffixLog)
	if err != nil || log.Size() == 0 || info != nil && (info.IsDir() || info.Size() > 0) {
		return nil
	}
	state := "missing"
	if info != nil {
		state = "empty"
	}
	return fmt.Errorf("it is %s, but its log %s is not, in which there may be acknowledged work that would be thrown away: "+
		"put the database back to which the log belongs; to begin a new one, move the log away", state, path+suffixLog)
}

// checkLinks refuses a file that has more than one name: SQLite's log and locks belong to a name.
func checkLinks(path string) error {
	_, is, err := identifyFile(path)
	if err == nil && is.links > 1 {
		return fmt.Errorf("it has %d names (hard links), and its %s belongs to one of them: who opens another misses what is in that; "+
			"remove the others (find DIR -samefile FILE), or make a copy", is.links, suffixLog)
	}
	return err
}

// connect opens one connection. Nothing is read from the file yet.
func connect(path string, opts Options, readOnly bool, sole *atomic.Bool) (*conn, error) {
	flags := sqlite.OpenReadWrite | sqlite.OpenCreate
	if readOnly {
		flags = sqlite.OpenReadOnly
	}
	db, err := sqlite.OpenConn(path, flags)
	if err != nil {
		return nil, cause(path, err)
	}
	db.SetBusyTimeout(opts.BusyTimeout)
	c := newConn(db, sole)
	for _, pragma := range pragmas(opts, readOnly) {
		if err := c.run(pragma); err != nil {
			c.close()
			return nil, cause(path, err)
		}
	}
	return c, nil
}

func pragmas(opts Options, readOnly bool) []string {
	if readOnly {
		return []string{"PRAGMA cache_size = -2000"}
	}
	sync := "PRAGMA synchronous = FULL"
	if opts.UnsafeNoSync {
		sync = "PRAGMA synchronous = NORMAL"
	}
	return []string{
		sync,
		"PRAGMA foreign_keys = OFF",
		"PRAGMA temp_store = MEMORY",
		"PRAGMA cache_size = -24000",           // KiB
		"PRAGMA wal_autocheckpoint = 4000",     // pages
		"PRAGMA journal_size_limit = 67108864", // bytes
	}
}

// run runs a statement that is not worth keeping, and drops its rows.
func (c *conn) run(sql string) error { return c.once(sql).exec() }

func (c *conn) number(sql string) (n int64, err error) {
	s := c.once(sql)
	err = s.each(func() error { n = s.nextInt(); return nil })
	return n, err
}

// prepare makes sure that the file is ours and of the current schema.
func prepare(c *conn, path string, opts Options) error {
	if sqlite.VersionNumber < minSQLite {
		return fmt.Errorf("SQLite %s is too old", sqlite.Version)
	}
	steps, err := migrations()
	if err != nil {
		return err
	}
	version, err := identify(c)
	if err != nil {
		return cause(path, err)
	}
	if err := suits(version, len(steps), opts.ReadOnly); err != nil || opts.ReadOnly {
		return err
	}
	if err := c.run("PRAGMA journal_mode = WAL"); err != nil {
		return cause(path, err)
	}
	return cause(path, migrate(c, steps))
}

// identify returns the schema version of the file, 0 of an empty one.
func identify(c *conn) (int, error) {
	application, err := c.number("PRAGMA application_id")
	if err != nil {
		return 0, err
	}
	tables, err := c.number("SELECT count(*) FROM sqlite_schema")
	if err != nil {
		return 0, err
	}
	if application != applicationID && (application != 0 || tables > 0) {
		return 0, errors.New("it is a database of another application")
	}
	version, err := c.number("PRAGMA user_version")
	return int(version), err
}

func suits(version, ours int, readOnly bool) error {
	switch {
	case version > ours:
		return fmt.Errorf("its schema version %d is newer than %d, the newest that this program knows", version, ours)
	case version < ours && readOnly:
		return fmt.Errorf("its schema version %d is older than %d: open it for writing once to migrate it", version, ours)
	}
	return nil
}

//go:embed migrations/*.sql
var migrationFiles embed.FS

// migrations returns the steps from one schema version to the next; the first makes version 1.
func migrations() ([]string, error) {
	names, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	var steps []string
	for _, name := range names {
		text, err := migrationFiles.ReadFile(name)
		if err != nil {
			return nil, err
		}
		steps = append(steps, string(text))
	}
	return steps, nil
}

// migrate brings the file to the schema version that the steps lead to, in one transaction.
func migrate(c *conn, steps []string) error {
	if err := c.run(sqlBegin); err != nil {
		return err
	}
	if err := migrateIn(c, steps); err != nil {
		return errors.Join(err, c.run(sqlRollback))
	}
	return c.run(sqlCommit)
}

func migrateIn(c *conn, steps []string) error {
	version, err := identify(c)
	if err != nil {
		return err
	}
	if err := suits(version, len(steps), false); err != nil || version == len(steps) {
		return err
	}
	for _, step := range steps[version:] {
		if err := sqlitex.ExecuteScript(c.db, step, nil); err != nil {
			return fmt.Errorf("migrate from schema version %d: %w", version, err)
		}
	}
	if err := c.run(fmt.Sprintf("PRAGMA application_id = %d", applicationID)); err != nil {
		return err
	}
	return c.run(fmt.Sprintf("PRAGMA user_version = %d", len(steps)))
}

// cause says in plain words what SQLite's error means for the file.
func cause(path string, err error) error { return causeOf(path, err, lackAt) }

// causeOf is cause with what tells what keeps SQLite from writing.
func causeOf(path string, err error, lackAt func(string) string) error {
	if err == nil {
		return nil
	}
	code := sqlite.ErrCode(err).ToPrimary()
	switch code {
	case sqlite.ResultNotADB:
		return fmt.Errorf("it is not a SQLite database: %w", err)
	case sqlite.ResultCantOpen, sqlite.ResultPerm, sqlite.ResultReadOnly, sqlite.ResultAuth, sqlite.ResultIOErr, sqlite.ResultFull:
	default:
		return err
	}
	if lack := lackAt(path); lack != "" {
		return fmt.Errorf("%s: %w", lack, err)
	}
	switch code {
	case sqlite.ResultIOErr:
		return err
	case sqlite.ResultFull:
		return fmt.Errorf("its disk has no room, or this user's quota is used up: %w", err)
	}
	return fmt.Errorf("it cannot be read and written by this user%s: %w", mode(path), err)
}

func mode(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	return fmt.Sprintf(" (mode %s)", info.Mode())
}
