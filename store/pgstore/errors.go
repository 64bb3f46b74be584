package pgstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/perdure/perdure/store"
)

// What errors of Postgres mean is decided here, and nowhere else, by their codes: whether another try may be spared them
// (contended), whether some of a batch are at fault for all (refused), whether the content of one operation is refused,
// which it will be again (ofContent), or whether who runs the database can cure it (ofTheDatabase). Else it is not known.

// errBusy says that a task stayed locked by others.
var errBusy = errors.New("task is locked by others")

// locked reports whether an operation met what others have locked for themselves: a row, or one with the same key that is
// being made; or a table.
func locked(err error) bool {
	answer, ok := errors.AsType[*pgconn.PgError](err)
	return errors.Is(err, errBusy) || ok && answer.Code == pgerrLockTimeout
}

// errTable says that all of a batch have met a table that stayed locked.
var errTable = errors.New("a table is locked by somebody else")

// maybeTable reports whether what an operation met may be a table that somebody has locked: then Postgres names no row. Who waits
// for a row behind others is told no name either.
func maybeTable(err error) bool {
	answer, ok := errors.AsType[*pgconn.PgError](err)
	return ok && answer.Code == pgerrLockTimeout && answer.Where == ""
}

// sqlTableLocked looks for locks in the schema, of others or of those who wait for one before us, that let nobody write.
const sqlTableLocked = `SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE l.locktype = 'relation' AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND n.nspname = $1
	AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'))`

// tableLocked reports whether an error is of a table that somebody has locked.
func (s *Store) tableLocked(within context.Context, err error) (table bool) {
	if !maybeTable(err) {
		return false
	}
	conn, err := s.connection(context.Background(), within, s.writes)
	if err != nil {
		return false
	}
	defer conn.Release()
	return conn.QueryRow(within, sqlTableLocked, s.texts.schema).Scan(&table) == nil && table
}

// contended reports whether the database did not apply a transaction because of what others did at the same time.
func contended(err error) bool {
	if _, again := errors.AsType[*unproven](err); again || errors.Is(err, errBusy) {
		return true
	}
	answer, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return false
	}
	switch answer.Code {
	case pgerrUnique, pgerrSerialization, pgerrDeadlock, pgerrLockTimeout, pgerrIdle:
		return true
	}
	return false
}

// Codes of errors that another try may not have.
const (
	pgerrUnique        = "23505" // somebody else has made the same task
	pgerrSerialization = "40001"
	pgerrDeadlock      = "40P01"
	pgerrLockTimeout   = "55P03"
	pgerrIdle          = "25P03" // this process was too slow
)

// tables are those of which others may hold a row that an operation needs, beside that of its task.
var tables = []string{"workers", "mailboxes", "mail", "turns", "events", "metadata", "tags", "requests", "removed", "timeline"}

// whatHeld names what others hold in the way of an operation, of which locked is true: nothing if it is its task. The wait for a
// table has a place in the statement, or skips rows.
func whatHeld(err error, wait patience) string {
	answer, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case !ok:
		return ""
	case answer.Where == "" && answer.Position > 0:
		return "a table"
	case answer.Where == "" && wait.skips:
		return "a table, or a row for which others wait, too,"
	}
	for _, table := range tables {
		if strings.Contains(answer.Where, `"`+table+`"`) {
			return "a row of table " + table
		}
	}
	return ""
}

// refused reports whether it was the content of a transaction that the database did not take: then one operation is
// at fault, or a few. What who runs the database has to cure is the same for all.
func refused(err error) bool {
	answer, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case errors.Is(err, errTable):
		return false
	case !ok || ofStandby(err):
		return contended(err)
	}
	// connection, sessions, who may connect and to what, tables and rights, resources, shutdown, system
	return !oneOf(answer.Code, "08", "26", "28", "3D", "3F", "42", "53", "57", "58")
}

// ofContent reports whether it was what one operation says that the database did not take: a value that has no place in
// its column, or is too large, or that a check or a trigger does not want; a statement that is more than it can read.
func ofContent(err error) bool {
	answer, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (oneOf(answer.Code, "22", "54") || answer.Code == pgerrCheck || answer.Code == pgerrRaised)
}

// tooLarge reports whether an error of ofContent is one of size.
func tooLarge(err error) bool {
	answer, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (oneOf(answer.Code, "54") || answer.Code == pgerrLong)
}

// ofTheDatabase reports whether who runs the database can cure it: tables and rights, resources and quotas, limits of
// time, a table that somebody keeps locked, a database or a standby that is read only, standbys for which commits wait, who may
// connect, the server's disk.
func ofTheDatabase(err error) bool {
	if _, barred := errors.AsType[*unconfirmed](err); barred || errors.Is(err, errStandby) || errors.Is(err, errWaiting) || errors.Is(err, errTable) {
		return true
	}
	answer, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (oneOf(answer.Code, "26", "28", "3D", "3F", "42", "53", "58", "XX") ||
		answer.Code == pgerrCancelled || answer.Code == pgerrReadOnly)
}

// oneOf reports whether a code is of one of some classes.
func oneOf(code string, classes ...string) bool {
	return len(code) == 5 && slices.Contains(classes, code[:2])
}

const (
	pgerrLong      = "22001" // a text is too long for its column
	pgerrCheck     = "23514"
	pgerrRaised    = "P0001" // by a trigger
	pgerrReadOnly  = "25006"
	pgerrCancelled = "57014" // by a limit of time, or by somebody
)

// contentError is an error of ofContent, which the operation met while others succeed.
func (s *Store) contentError(err error) error {
	return &store.ContentError{Err: fmt.Errorf("store %s: %w", s.where(), err), Large: tooLarge(err)}
}

// curable returns an error, named for those who read it, and says whether who runs the database can cure it.
func curable(err, named error) error {
	if ofContent(err) || ofTheDatabase(err) {
		return &store.TroubleError{Err: named}
	}
	return named
}

// judge tells whether an operation was refused, alone in its transaction, for its content: then the like of it with
// another content is not. Else the database takes nothing at present.
func (s *Store) judge(err error) error {
	if !ofContent(err) {
		return err
	}
	probe := &op{ctx: context.Background(), run: probe}
	if s.single(probe.ctx, probe, s.writes, goneAlone) != nil || probe.err != nil {
		return err
	}
	return s.contentError(err)
}

// probeID is the ID of a task that is made and removed by a probe, in one transaction. No caller may use it.
const probeID = "-probe"

// probe writes once what operations write, to all tables of tasks, and removes it.
func probe(t *tx) error {
	task := &store.Task{ID: probeID, Func: probeID, Status: store.Suspended, FirstEvent: 1, CreatedAt: t.now, UpdatedAt: t.now}
	if err := t.InsertTask(task); err != nil {
		return err
	}
	key := task.Incarnation
	turn := &store.Turn{Incarnation: key, Number: 1, InputID: probeID, Status: store.Completed, Input: []byte("0"), Output: []byte("0")}
	event := store.Event{Number: 1, Kind: store.EventMessage, Data: []byte("0"), At: t.now}
	err := errors.Join(t.InsertTurn(turn), t.SetMetadata(key, []store.Change{{Key: probeID, Value: []byte("0")}}),
		t.AppendEvents(key, []store.Event{event}), t.flush(), t.EndTurn(turn), t.UpdateTask(task))
	if err != nil {
		return err
	}
	_, _, err = t.DropRows(key, 3)
	err = errors.Join(err, t.DeleteTask(key))
	t.news = news{} // nobody else has seen it
	return err
}
