package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/perdurehttp"
)

// Exit codes.
const (
	exitOK       = 0
	exitFailed   = 1
	exitUsage    = 2
	exitNotFound = 3
	exitConflict = 4
)

// usageError is something that the user has to write differently.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usage(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// message returns an error as one line, without control characters. It names the task.
func message(err error) string {
	if errors.Is(err, context.Canceled) {
		return "interrupted"
	}
	text := err.Error()
	if p, ok := errors.AsType[*perdurehttp.Problem](err); ok && !strings.Contains(text, p.TaskID) {
		text = "task " + p.TaskID + ": " + text
	}
	return strings.Join(strings.Fields(printable(text)), " ")
}

// exitCode is the table error ↔ exit code.
func exitCode(err error) int {
	if _, ok := errors.AsType[*usageError](err); ok {
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
