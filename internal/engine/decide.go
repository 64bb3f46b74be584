package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"time"

	"github.com/perdure/perdure/store"
)

// ExitKind says how a handler left.
type ExitKind int

// Ways to leave a handler (rule T3).
const (
	ExitReturn  ExitKind = iota // a value, or Err
	ExitSuspend                 // Suspend
	ExitFinish                  // Finish
	ExitRelease                 // Release
	ExitPark                    // the turn cannot be entered: its input does not decode
	ExitFail                    // like Err, and never retried: the handler broke a rule
)

// Exit is what a handler left behind.
type Exit struct {
	Kind    ExitKind
	Output  []byte
	Err     error
	Foreign bool // Err is, or wraps, how another task ended
	Reason  string
	Type    string // ExitFail: the error's type; empty: misuse
}

// Types of task errors that are the framework's own.
const (
	typePanic      = "panic"
	typeTooLarge   = "too_large"
	typeEncode     = "encode"
	typeMisuse     = "misuse"
	typeUnstorable = "unstorable"
)

// PermanentError wraps an error that is never retried; DelayError one that is retried after Delay.
type (
	PermanentError struct{ Err error }
	DelayError     struct {
		Err   error
		Delay time.Duration
	}
)

func (e *PermanentError) Error() string { return e.Err.Error() }
func (e *PermanentError) Unwrap() error { return e.Err }
func (e *DelayError) Error() string     { return e.Err.Error() }
func (e *DelayError) Unwrap() error     { return e.Err }

// report is what a handler left behind in the engine's own words: no code of the user's is needed any more to read it.
type report struct {
	kind    ExitKind
	output  []byte // encoded
	reason  string
	failure *failure // nil: a value
}

// failure is an error that a handler returned.
type failure struct {
	typ, message, stack string
	replaced            bool // the text was none that every store keeps

	interrupt bool // it is the interrupt's own
	canceled  bool // it is, or wraps, context.Canceled
	cancelled bool // it is, or wraps, ErrCancelled
	foreign   bool // it is, or wraps, how another task ended
	panicked  bool
	permanent bool
	delayed   bool // after delay
	delay     time.Duration
	again     bool // it is worth another attempt
}

// own reports whether there is an error that says more than that the turn was interrupted.
func (f *failure) own() bool { return f != nil && !f.interrupt && !f.canceled && !f.cancelled }

// describe reads an error that a handler returned, or its panic, and asks the user's predicate about it. What the error's
// own methods do is a panic of the handler, too; a predicate that panics asks for no other attempt.
func describe(err error, foreign bool, retryable func(error) bool) *failure {
	f := &failure{foreign: foreign}
	if p := panicOf(Guard(func() error { return f.read(err) })); p != nil {
		err = p
	}
	if p, ok := err.(*PanicError); ok {
		f = panicked(p)
	}
	if f.permanent || retryable == nil {
		f.again = !f.permanent
		return f
	}
	p := panicOf(Guard(func() error {
		f.again = retryable(err)
		return nil
	}))
	if p != nil {
		asked := f.message
		f = panicked(p)
		f.message = errorText(fmt.Sprintf("%s, when asked whether to try again after: %s", f.message, asked))
	}
	return f
}

// read asks an error what it is. It may panic.
func (f *failure) read(err error) error {
	var permanent *PermanentError
	var delayed *DelayError
	text := err.Error()
	f.typ, f.message, f.replaced = errorType(err), errorText(text), !store.ValidText(text)
	f.interrupt, f.canceled, f.cancelled = errors.Is(err, ErrInterrupted), errors.Is(err, context.Canceled), errors.Is(err, ErrCancelled)
	f.permanent, f.delayed = errors.As(err, &permanent), errors.As(err, &delayed)
	if f.delayed {
		f.delay = delayed.Delay
	}
	return nil
}

func panicOf(err error) *PanicError {
	p, _ := err.(*PanicError)
	return p
}

func panicked(p *PanicError) *failure {
	text := p.Error()
	return &failure{typ: typePanic, message: errorText(text), replaced: !store.ValidText(text), stack: errorText(p.stack), panicked: true}
}

// situation is what decide looks at beside the report.
type situation struct {
	settings store.Settings
	attempt  int
	causes   Causes
	shown    bool // the handler was shown a cause
	stopped  bool // the engine had ended the handler's ctx: nothing that is returned becomes an outcome
	random   func() float64
}

// decide turns what a handler left behind into what is written. It is pure.
func decide(r report, s situation) *store.SettleRequest {
	if s.stopped {
		return &store.SettleRequest{Kind: store.SettleRelease, Release: store.ReleaseStopped}
	}
	switch r.kind {
	case ExitPark:
		return &store.SettleRequest{Kind: store.SettlePark, Reason: r.reason}
	case ExitRelease:
		if s.causes.Shutdown {
			return &store.SettleRequest{Kind: store.SettleRelease}
		}
		return &store.SettleRequest{Kind: store.SettleRelease, Release: store.ReleaseAsked}
	case ExitSuspend:
		return &store.SettleRequest{Kind: store.SettleEnd, Outcome: store.Suspended, Then: store.Suspended, Output: r.output, Reason: r.reason}
	case ExitFinish:
		return completed(r, store.Completed)
	case ExitFail:
		return failed(r.failure, s)
	}
	switch {
	case r.failure == nil && s.settings.MultiTurn:
		return completed(r, store.Suspended)
	case r.failure == nil:
		return completed(r, store.Completed)
	case r.failure.panicked:
		return afterPanic(r.failure, s)
	case wrapsUp(r.failure, s):
		return wrapUp(r.failure, s)
	}
	return tryAgain(r.failure, s)
}

func completed(r report, then store.Status) *store.SettleRequest {
	return &store.SettleRequest{Kind: store.SettleEnd, Outcome: store.Completed, Then: then, Output: r.output}
}

// afterPanic fails the turn, or tries again. A panic that comes while the engine shuts down, and for no other cause, may
// be the shutdown's doing: that makes no outcome, but it counts.
func afterPanic(f *failure, s situation) *store.SettleRequest {
	if s.shown && s.causes.shutdownOnly() {
		return &store.SettleRequest{Kind: store.SettleRelease, Release: store.ReleaseAsked}
	}
	return tryAgain(f, s)
}

// wrapsUp reports whether an error ends the turn by its causes (T3). An error that comes after a cause was shown does,
// whatever it is: what the handler called was cut short. The exceptions are an author's own words.
func wrapsUp(f *failure, s situation) bool {
	again := f.delayed && f.again && s.attempt < s.settings.Retry.Attempts
	switch {
	case s.shown && f.own() && (f.permanent || again && s.causes.shutdownOnly()):
		return false
	case s.shown:
		return true
	case f.foreign:
		return false
	}
	return f.cancelled || (f.interrupt || f.canceled) && s.causes.Any()
}

// wrapUp ends a turn by its causes, the first that matches.
func wrapUp(f *failure, s situation) *store.SettleRequest {
	c := s.causes
	var req *store.SettleRequest
	switch {
	case c.Cancel || !c.Any():
		req = halted(store.Cancelled, c.CancelReason, s.settings)
	case c.Deadline:
		req = halted(store.Terminated, "deadline", s.settings)
	case c.Shutdown:
		return &store.SettleRequest{Kind: store.SettleRelease}
	default:
		req = halted(store.Cancelled, "steered", s.settings)
		req.IfQueued = true // the steer may have been withdrawn
	}
	if f.own() {
		req.Detail = f.message
	}
	return req
}

// halted ends a turn, and its task unless that has many turns.
func halted(outcome store.Status, reason string, settings store.Settings) *store.SettleRequest {
	then := outcome
	if settings.MultiTurn {
		then = store.Suspended
	}
	return &store.SettleRequest{Kind: store.SettleEnd, Outcome: outcome, Then: then, Reason: reason}
}

func tryAgain(f *failure, s situation) *store.SettleRequest {
	policy := s.settings.Retry
	if s.attempt >= policy.Attempts || !f.again {
		return failed(f, s)
	}
	req := &store.SettleRequest{Kind: store.SettleRetry, Error: taskError(f, s)}
	if f.delayed {
		req.Delay, req.Strict = f.delay, true
	} else {
		req.Delay = backoff(policy, s.attempt, s.random)
	}
	return req
}

func failed(f *failure, s situation) *store.SettleRequest {
	req := &store.SettleRequest{Kind: store.SettleEnd, Outcome: store.Failed, Then: store.Failed, Refuse: true, Error: taskError(f, s)}
	if s.settings.MultiTurn {
		req.Then, req.Refuse = store.Suspended, false
	}
	return req
}

func taskError(f *failure, s situation) *store.TaskError {
	return &store.TaskError{Type: f.typ, Message: f.message, Attempts: s.attempt, Stack: f.stack}
}

// errorType names an error by the type that its author gave it.
func errorType(err error) string {
	for err != nil {
		switch err.(type) {
		case *PanicError:
			return typePanic
		case *PermanentError, *DelayError:
		default:
			if t := reflect.TypeOf(err).String(); t != "*fmt.wrapError" && t != "*errors.errorString" {
				return PlainText(t)
			}
		}
		err = errors.Unwrap(err)
	}
	return "error"
}

// maxRetryDelay is the longest delay after an attempt.
const maxRetryDelay = 100 * 365 * 24 * time.Hour

// backoff returns the delay after an attempt, jitter never beyond the maximum (Y1). What grows beyond all bounds, or is no
// number, is the maximum.
func backoff(p store.Retry, attempt int, random func() float64) time.Duration {
	limit := float64(maxRetryDelay)
	if p.Max > 0 {
		limit = min(limit, float64(p.Max))
	}
	d := float64(p.Step) * float64(attempt-1)
	if p.Initial > 0 {
		d += float64(p.Initial) * math.Pow(max(p.Factor, 1), float64(attempt-1))
	}
	if !(d < limit) {
		d = limit
	}
	if jittered := d * (1 - p.Jitter*random()); jittered >= 0 && jittered <= d {
		d = jittered
	}
	return time.Duration(d)
}
