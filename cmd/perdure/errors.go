package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/stores"
	"github.com/perdure/perdure/perdurehttp"
)

// Exit codes, as [exitCodesHelp] tells them.
const (
	exitOK       = 0
	exitFailed   = 1
	exitUsage    = 2
	exitNotFound = 3
	exitConflict = 4
)

const exitCodesHelp = `  0  done. "wait", "tail" and "start --wait" or "--follow": the turn (or task) has completed or suspended.
     "serve": it was asked to end and has drained, or it was asked before it was ready
  1  failed. The turn has failed, was cancelled or terminated, or its task is parked; a --timeout is over;
     Ctrl-C; no server answers or it is unavailable; the store cannot be opened or is in use; "doctor" has
     found something wrong. "serve": a handler had not returned when it ended, or a second signal came
  2  wrong usage: a flag, an argument, a setting, a file or an input that is not valid or too large, here or by
     the server's word. Nothing was done. (A panic of the program itself, which is a bug, also ends with 2)
  3  not found: the task, the turn or the func, or the task was deleted
  4  conflict: the task's state does not allow it, its input ID has another input, its queue is full, or
     --if-last does not hold

A process that a signal has killed has no exit code; shells show 128 and the signal's number: 130 for
SIGINT, 137 for SIGKILL, 141 for SIGPIPE. Commands whose reader has gone ("perdure ls | head") end by
SIGPIPE. "serve" does not: it goes on without its log.`

// usageError is something that the user has to write differently. Its text repeats what was written, but no password.
type usageError struct{ err error }

func (e *usageError) Error() string { return stores.Redact(e.err.Error()) }
func (e *usageError) Unwrap() error { return e.err }

func usage(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// message returns an error as one line, escaped. It names the task.
func message(err error) string {
	if errors.Is(err, context.Canceled) {
		return "interrupted"
	}
	text := err.Error()
	if p, ok := errors.AsType[*perdurehttp.Problem](err); ok && !strings.Contains(text, p.TaskID) {
		text = "task " + p.TaskID + ": " + text
	}
	return strings.Join(strings.Fields(escape(stores.Redact(text))), " ")
}

// exitCode is the table error ↔ exit code.
func exitCode(err error) int {
	if _, ok := errors.AsType[*usageError](err); ok || stores.Malformed(err) {
		return exitUsage
	}
	if _, ok := errors.AsType[*perdure.ConflictError](err); ok {
		return exitConflict
	}
	if _, ok := errors.AsType[*perdure.PreconditionError](err); ok {
		return exitConflict
	}
	for _, row := range [...]struct {
		err  error
		code int
	}{
		{perdure.ErrNotFound, exitNotFound}, {perdure.ErrDeleted, exitNotFound}, {perdure.ErrUnknownFunc, exitNotFound},
		{perdure.ErrInputMismatch, exitConflict}, {perdure.ErrQueueFull, exitConflict},
		{perdure.ErrInvalid, exitUsage}, {perdure.ErrTooLarge, exitUsage},
	} {
		if errors.Is(err, row.err) {
			return row.code
		}
	}
	return exitFailed
}
