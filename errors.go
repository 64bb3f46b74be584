package perdure

import (
	"errors"
	"fmt"
	"time"

	"github.com/perdure/perdure/internal/engine"
	"github.com/perdure/perdure/store"
)

// Errors of starting and asking. Compare with errors.Is; they come wrapped, and the same through HTTP.
// Unless it says otherwise, trying again is of no use.
var (
	ErrNotFound      = store.ErrNotFound      // no such task or turn
	ErrDeleted       = store.ErrDeleted       // the task was deleted
	ErrInputMismatch = store.ErrInputMismatch // the input ID was accepted before with another input (S2)
	ErrDigestKey     = store.ErrDigestKey     // the key of the stored input's digest is not held
	ErrQueueFull     = store.ErrQueueFull     // MaxPending inputs are waiting (G2); try again later
	ErrUnknownFunc   = store.ErrUnknownFunc   // nobody has declared the func
	ErrStoreInUse    = store.ErrStoreInUse    // another engine works on the store (O5)
	ErrClosed        = store.ErrClosed        // the store has been closed
	ErrTx            = store.ErrTx            // StartOptions.Tx is not a transaction that the store can take part in
	ErrShuttingDown  = engine.ErrShuttingDown // try again elsewhere, or after the restart (H1)
	ErrUnavailable   = engine.ErrUnavailable  // the store or server cannot be reached; try again with the same input ID
	ErrTooLarge      = engine.ErrTooLarge     // over one of Options.Limits (S6), or more than the store holds
	ErrInvalid       = engine.ErrInvalid      // an ID, a label, an option or an input that cannot be accepted, or that the store refuses
)

// Errors inside handlers.
var (
	// ErrLeaseLost is the cause with which ctx ends when the turn may no longer write: the worker could
	// not renew its lease, or the engine has shut down (O4).
	ErrLeaseLost = store.ErrLeaseLost
	// ErrTerminated is the cause with which ctx ends when the task was terminated or deleted, or the
	// turn's deadline ignored (C4). Result returns it too, as an [*OutcomeError].
	ErrTerminated = engine.ErrTerminated
	// ErrInterrupted is matched by the cause with which the interrupt ends, an [*InterruptError].
	ErrInterrupted = engine.ErrInterrupted
	// ErrCancelled is what a handler returns to end its turn cancelled (C3). Result returns it too, as
	// an [*OutcomeError].
	ErrCancelled = engine.ErrCancelled
)

// What Result returns for turns that have no output.
var (
	ErrFailed  = errors.New("turn failed")  // matched by every *TaskError
	ErrRefused = errors.New("turn refused") // its task ended before its turn came, or it was replaced
	ErrParked  = engine.ErrParked           // its task is in quarantine; the turn is still open
)

// ConflictError says that a task's status, or its func, does not allow what was asked.
type ConflictError = store.ConflictError

// PreconditionError says that IfLastInputID (or the version to delete) is not the task's.
type PreconditionError = store.PreconditionError

// InterruptError is the cause of the interrupt's end.
type InterruptError = engine.InterruptError

// PanicError is a panic of your code in a call: of a label function, a marshaller, a codec, a stream handler. Its Stack
// method returns the stack. A panic of a handler fails its turn instead, with a [*TaskError] of type "panic".
type PanicError = engine.PanicError

// LeftError is what Engine.Run returns when handlers had not returned at the end of the shutdown.
type LeftError = engine.LeftError

// TaskError is why a turn failed: the same to its caller, to those who ask later, and in the store (Y3).
// Type is the Go type of the handler's error, or "error", "panic", "misuse", "too_large", "encode" or "unstorable".
// Message and Stack are cut at 64 KiB.
type TaskError struct {
	Type     string `json:"type"`
	Message  string `json:"message"`
	Attempts int    `json:"attempts"`
	Stack    string `json:"stack,omitempty"` // of a panic
}

func (e *TaskError) Error() string { return e.Message }

// Is makes errors.Is(err, ErrFailed) true.
func (e *TaskError) Is(target error) bool { return target == ErrFailed }

// OutcomeError says that a turn ended cancelled, terminated or refused. errors.Is matches it with
// ErrCancelled, ErrTerminated or ErrRefused.
type OutcomeError struct {
	Status Status
	Reason string
}

func (e *OutcomeError) Error() string {
	if e.Reason == "" {
		return "turn " + string(e.Status)
	}
	return fmt.Sprintf("turn %s: %s", e.Status, e.Reason)
}

// Is matches the sentinel of the outcome.
func (e *OutcomeError) Is(target error) bool {
	switch e.Status {
	case Cancelled:
		return target == ErrCancelled
	case Terminated:
		return target == ErrTerminated
	case Refused:
		return target == ErrRefused
	}
	return false
}

// ParkedError says that a task is in quarantine, and why. errors.Is matches it with ErrParked.
type ParkedError struct {
	TaskID string
	Turn   int64 // that is in quarantine; others may wait behind it
	Reason string
}

func (e *ParkedError) Error() string { return fmt.Sprintf("task %s is parked: %s", e.TaskID, e.Reason) }

// Is makes errors.Is(err, ErrParked) true.
func (e *ParkedError) Is(target error) bool { return target == ErrParked }

// Permanent wraps an error so that it is never retried (Y1). Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &engine.PermanentError{Err: err}
}

// RetryAfter wraps an error so that its retry, if the policy has one left, waits for d (Y1). No steer
// ends that wait early. RetryAfter(d, nil) is nil.
func RetryAfter(d time.Duration, err error) error {
	if err == nil {
		return nil
	}
	return &engine.DelayError{Err: err, Delay: max(d, 0)}
}

// invalid returns an ErrInvalid that says what and why.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...)
}
