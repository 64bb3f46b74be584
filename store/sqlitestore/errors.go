package sqlitestore

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/perdure/perdure/store"
)

// What SQLite's errors mean is decided here, and nowhere else: whether the content of one operation is refused, which
// it will be again; whether who runs the store can cure it; else it is not known, as when others hold the file's lock.

// ofContent reports whether it was what one operation says that SQLite did not take.
func ofContent(err error) bool {
	code := sqlite.ErrCode(err)
	return slices.Contains([]sqlite.ResultCode{sqlite.ResultConstraintCheck, sqlite.ResultConstraintTrigger,
		resultConstraintDatatype, sqlite.ResultRange}, code) || tooLarge(err)
}

// resultConstraintDatatype says that a value is not of the type of its column.
const resultConstraintDatatype = sqlite.ResultConstraint | 12<<8

// tooLarge reports whether it was its size: of a value, or of a statement that was built of what is asked for.
func tooLarge(err error) bool {
	code := sqlite.ErrCode(err)
	return code == sqlite.ResultTooBig || code == sqlite.ResultError && err != nil && containsAny(err.Error(),
		"Expression tree is too large", "too many SQL variables", "parser stack overflow")
}

// ofTheFile reports whether who runs the store can cure it: room, rights, the file, its schema.
func ofTheFile(err error) bool {
	code := sqlite.ErrCode(err)
	return slices.Contains([]sqlite.ResultCode{sqlite.ResultFull, sqlite.ResultReadOnly, sqlite.ResultIOErr, sqlite.ResultCorrupt,
		sqlite.ResultCantOpen, sqlite.ResultPerm, sqlite.ResultAuth, sqlite.ResultNotADB, sqlite.ResultNoMem, sqlite.ResultNoLFS,
		sqlite.ResultConstraint}, code.ToPrimary()) ||
		code == sqlite.ResultError && err != nil && containsAny(err.Error(), "no such table", "no such column", "has no column named")
}

func containsAny(text string, parts ...string) bool {
	return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(text, part) })
}

// contentError is an error of ofContent, which the operation met while others succeed.
func contentError(err error) error { return &store.ContentError{Err: err, Large: tooLarge(err)} }

// judge tells what is wrong with the content of an operation, met alone, from what is wrong with the file: then no
// write succeeds.
func (w *writer) judge(err error) error {
	if ofContent(err) && w.probe() == nil {
		return contentError(err)
	}
	return err
}

const sqlProbe = `UPDATE line SET place = place WHERE id = 1`

// probe writes something that changes nothing.
func (w *writer) probe() error {
	return w.together([]*op{{run: func(c *conn, _ time.Time) error { return c.exec(sqlProbe) }}})
}

// explain names the file in an error that is not an answer of the store, and says whether it can be cured.
func (s *Store) explain(err error) error {
	if store.Definite(err) || err == context.Canceled || err == context.DeadlineExceeded {
		return err
	}
	named := fmt.Errorf("store %s: %w", s.path, err)
	if ofContent(err) || ofTheFile(err) {
		return &store.TroubleError{Err: named}
	}
	return named
}

// explainRead is explain for reads, which write nothing: what one cannot look for it is refused.
func (s *Store) explainRead(err error) error {
	if ofContent(err) {
		return contentError(err)
	}
	return s.explain(err)
}
