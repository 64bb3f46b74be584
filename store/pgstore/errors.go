package pgstore

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/perdure/perdure/store"
)

// errBusy says that a task stayed locked by others.
var errBusy = errors.New("task is locked by others")

// locked reports whether an operation met what others have locked for themselves: a row, or one with the same key that is
// being made; or a table.
func locked(err error) bool {
	answer, ok := errors.AsType[*pgconn.PgError](err)
	return errors.Is(err, errBusy) || ok && answer.Code == pgerrLockTimeout
}

// tableLocked reports whether a batch met a table that somebody has locked: then Postgres names no row. The only rows that
// a batch waits for are those that others are making.
func tableLocked(err error) bool {
	answer, ok := errors.AsType[*pgconn.PgError](err)
	return ok && answer.Code == pgerrLockTimeout && answer.Where == ""
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

// refused reports whether it was the content of a transaction that the database did not take: then one operation is
// at fault, or a few.
func refused(err error) bool {
	answer, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || ofStandby(err) {
		return contended(err)
	}
	switch answer.Code[:2] {
	case "08", "53", "57", "58": // connection, resources, shutdown, system
		return false
	}
	return true
}

// ofContent reports whether it was what a row says that the database did not take: a value that has no place in its
// column, or is too large, or that a check or a trigger does not want.
func ofContent(err error) bool {
	answer, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return false
	}
	return strings.HasPrefix(answer.Code, "22") || strings.HasPrefix(answer.Code, "54") ||
		slices.Contains([]string{pgerrCheck, pgerrRaised}, answer.Code)
}

const (
	pgerrCheck  = "23514"
	pgerrRaised = "P0001" // by a trigger
)

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
	return &store.ContentError{Err: s.explain(err)}
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
