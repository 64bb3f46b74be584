package store

import (
	"errors"
	"fmt"
)

// Answers of every store. Any error that is no answer (see Definite) means that the result is unknown: repeat the
// operation, unless the error is ErrLost.
var (
	ErrNotFound      = errors.New("no such task or turn")
	ErrDeleted       = errors.New("task deleted")
	ErrLeaseLost     = errors.New("lease lost")
	ErrWorkerDead    = errors.New("worker lapsed")
	ErrInputMismatch = errors.New("input ID already accepted with a different input")
	ErrDigestKey     = errors.New("key of the stored input digest is not held")
	ErrQueueFull     = errors.New("queue of waiting inputs is full")
	ErrUnknownFunc   = errors.New("unknown func")
	ErrStoreInUse    = errors.New("store is in use by another engine")
	ErrClosed        = errors.New("store is closed")
	ErrTx            = errors.New("not a transaction that the store can take part in")
)

// ErrLost says that the store is over for good: no operation of this process will succeed any more, whatever is done to
// the store. The result of the operation is unknown; to repeat it is of no use before the process has restarted. What
// has ever failed with it goes on to do so.
var ErrLost = errors.New("store is lost")

// ConflictError says that a task's status (or its func) does not allow what was asked.
type ConflictError struct {
	TaskID string
	Status Status
	Func   string // the task's func, when it is not the one that was asked for

	RequestID string // when it was used for another operation on the task
}

func (e *ConflictError) Error() string {
	switch {
	case e.RequestID != "":
		return fmt.Sprintf("request ID %s was another operation's on task %s", e.RequestID, e.TaskID)
	case e.Func != "":
		return fmt.Sprintf("task %s belongs to func %s", e.TaskID, e.Func)
	}
	return fmt.Sprintf("task %s is %s", e.TaskID, e.Status)
}

// PreconditionError says that IfLastInputID, or the version to delete, was not the task's.
type PreconditionError struct {
	TaskID string
	Actual string
}

func (e *PreconditionError) Error() string {
	return fmt.Sprintf("task %s: precondition failed: actual value is %q", e.TaskID, e.Actual)
}

// ContentError says that the store will never take what it was given, be it a value to keep or one to look for: the
// content itself is refused, alone, while other operations succeed. Nothing was applied.
type ContentError struct {
	Err   error
	Large bool // it is too large, or too much
}

func (e *ContentError) Error() string { return fmt.Sprintf("the store refuses the content: %v", e.Err) }
func (e *ContentError) Unwrap() error { return e.Err }

// LockedError says that an operation was not applied, because a transaction of somebody else holds what it is about, and
// did so for as long as the store waits. Repeat it when that has ended.
type LockedError struct {
	TaskID      string
	Incarnation int64 // when the task's ID is not known

	// What is held, such as "a row of table workers", if it is not the task itself.
	What string
}

func (e *LockedError) Error() string {
	task := "task " + e.TaskID
	if e.TaskID == "" {
		task = fmt.Sprintf("the task with incarnation %d", e.Incarnation)
	}
	if e.What != "" {
		return fmt.Sprintf("%s, which an operation on %s needs, is held by a transaction of somebody else", e.What, task)
	}
	return task + " is held by a transaction of somebody else"
}

// TroubleError says why the store does not do at present what it should: its disk is full, it takes no writes, it ran out
// of something, a right or a table is missing, a limit of time is too short. Who runs it can cure that. The result is
// unknown; the operation may be repeated.
type TroubleError struct{ Err error }

func (e *TroubleError) Error() string { return e.Err.Error() }
func (e *TroubleError) Unwrap() error { return e.Err }

// Definite reports whether err is an answer of the store: the operation was not applied and repeating
// it is of no use. Any other error leaves the result unknown, ErrLost too.
func Definite(err error) bool {
	for _, e := range []error{ErrNotFound, ErrDeleted, ErrLeaseLost, ErrWorkerDead, ErrInputMismatch,
		ErrDigestKey, ErrQueueFull, ErrUnknownFunc, ErrStoreInUse, ErrClosed, ErrTx} {
		if errors.Is(err, e) {
			return true
		}
	}
	var conflict *ConflictError
	var precondition *PreconditionError
	var content *ContentError
	return errors.As(err, &conflict) || errors.As(err, &precondition) || errors.As(err, &content)
}
