package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
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
	Kind   ExitKind
	Output []byte
	Err    error
	Reason string
	Type   string // ExitFail: the error's type; empty: misuse
	stack  string
}

// Types of task errors that are the framework's own.
const (
	typePanic    = "panic"
	typeTooLarge = "too_large"
	typeEncode   = "encode"
	typeMisuse   = "misuse"
)

type panicError struct{ value any }

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

func panicked(value any, stack []byte) *Exit {
	return &Exit{Err: &panicError{value}, stack: string(stack)}
}

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

// situation is what decide looks at beside the exit.
type situation struct {
	settings  store.Settings
	attempt   int
	causes    Causes
	late      bool // shutdown's drain time is over: nothing that is returned becomes an outcome
	retryable func(error) bool
	random    func() float64 // in [0,1)
}

// decide turns a handler's exit into what is written. It is pure.
func decide(exit *Exit, s situation) *store.SettleRequest {
	switch {
	case s.late:
		return &store.SettleRequest{Kind: store.SettleRelease}
	case exit == nil:
		exit = &Exit{Kind: ExitFail, Err: errors.New("handler called runtime.Goexit")}
	}
	switch exit.Kind {
	case ExitPark:
		return &store.SettleRequest{Kind: store.SettlePark, Reason: plainText(exit.Reason)}
	case ExitRelease:
		return &store.SettleRequest{Kind: store.SettleRelease, Count: !s.causes.Shutdown}
	case ExitSuspend:
		return &store.SettleRequest{Kind: store.SettleEnd, Outcome: store.Suspended, Then: store.Suspended,
			Output: exit.Output, Reason: plainText(exit.Reason)}
	case ExitFinish:
		return finished(exit, store.Completed)
	case ExitFail:
		return failed(exit, s, cmp.Or(exit.Type, typeMisuse))
	}
	switch {
	case exit.Err == nil && s.settings.MultiTurn:
		return finished(exit, store.Suspended)
	case exit.Err == nil:
		return finished(exit, store.Completed)
	case interrupted(exit.Err, s.causes):
		return wrapUp(s)
	}
	return tryAgain(exit, s)
}

func finished(exit *Exit, then store.Status) *store.SettleRequest {
	return &store.SettleRequest{Kind: store.SettleEnd, Outcome: store.Completed, Then: then, Output: exit.Output}
}

// interrupted reports whether an error is the interrupt's own.
func interrupted(err error, causes Causes) bool {
	return errors.Is(err, ErrCancelled) || causes.Any() &&
		(errors.Is(err, ErrInterrupted) || errors.Is(err, context.Canceled))
}

// wrapUp ends a turn whose handler returned the interrupt's error: by its causes, the first that matches.
func wrapUp(s situation) *store.SettleRequest {
	c := s.causes
	switch {
	case c.Cancel || !c.Any():
		return halted(store.Cancelled, c.CancelReason, s)
	case c.Deadline:
		return halted(store.Terminated, "deadline", s)
	case c.Shutdown:
		return &store.SettleRequest{Kind: store.SettleRelease}
	}
	return halted(store.Cancelled, "steered", s)
}

// halted ends a turn, and its task unless that has many turns.
func halted(outcome store.Status, reason string, s situation) *store.SettleRequest {
	then := outcome
	if s.settings.MultiTurn {
		then = store.Suspended
	}
	return &store.SettleRequest{Kind: store.SettleEnd, Outcome: outcome, Then: then, Reason: reason}
}

func tryAgain(exit *Exit, s situation) *store.SettleRequest {
	var permanent *PermanentError
	var delayed *DelayError
	policy := s.settings.Retry
	switch {
	case s.attempt >= policy.Attempts,
		errors.As(exit.Err, &permanent),
		s.retryable != nil && !s.retryable(exit.Err):
		return failed(exit, s, errorType(exit.Err))
	}
	req := &store.SettleRequest{Kind: store.SettleRetry, Error: taskError(exit, s, errorType(exit.Err))}
	if errors.As(exit.Err, &delayed) {
		req.Delay, req.Strict = delayed.Delay, true
	} else {
		req.Delay = backoff(policy, s.attempt, s.random)
	}
	return req
}

func failed(exit *Exit, s situation, typ string) *store.SettleRequest {
	req := &store.SettleRequest{Kind: store.SettleEnd, Outcome: store.Failed, Then: store.Failed, Refuse: true,
		Error: taskError(exit, s, typ)}
	if s.settings.MultiTurn {
		req.Then, req.Refuse = store.Suspended, false
	}
	return req
}

func taskError(exit *Exit, s situation, typ string) *store.TaskError {
	return &store.TaskError{Type: typ, Message: plainText(exit.Err.Error()), Attempts: s.attempt, Stack: plainText(exit.stack)}
}

// plainText makes a handler's text one that every store keeps as it is: UTF-8 without NUL (Y3).
func plainText(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// errorType names an error by the type that its author gave it.
func errorType(err error) string {
	for err != nil {
		switch err.(type) {
		case *panicError:
			return typePanic
		case *PermanentError, *DelayError:
		default:
			if t := reflect.TypeOf(err).String(); t != "*fmt.wrapError" && t != "*errors.errorString" {
				return t
			}
		}
		err = errors.Unwrap(err)
	}
	return "error"
}

// backoff returns the delay after an attempt, jitter never beyond the maximum (Y1).
func backoff(p store.Retry, attempt int, random func() float64) time.Duration {
	factor := max(p.Factor, 1)
	d := float64(p.Initial)*math.Pow(factor, float64(attempt-1)) + float64(p.Step)*float64(attempt-1)
	limit := float64(math.MaxInt64 / 2)
	if p.Max > 0 {
		limit = float64(p.Max)
	}
	return time.Duration(min(d, limit) * (1 - p.Jitter*random()))
}

// finish writes how the attempt ended (T1, T2). It returns the next turn's attempt if that keeps the slot.
func (a *Attempt) finish(exit *Exit) *Attempt {
	if !a.beginSettling() {
		a.leave()
		return nil
	}
	req := a.verdict(exit)
	next := a.settle(req)
	if next == nil {
		a.leave()
	}
	return next
}

// beginSettling reports whether the caller is the first to write the turn's end.
func (a *Attempt) beginSettling() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.settling {
		return false
	}
	a.settling = true
	return true
}

func (a *Attempt) verdict(exit *Exit) *store.SettleRequest {
	s := situation{
		settings: a.task.Settings, attempt: a.task.Turn.Attempt, causes: a.Causes(),
		late: errors.Is(context.Cause(a.ctx), errDrained), retryable: a.fn.Retryable, random: rand.Float64,
	}
	req := decide(a.seal(exit, s), s)
	if req.Kind == store.SettleEnd {
		var err error
		if req.Metadata, err = a.meta.sealed(); err != nil {
			return failed(&Exit{Err: err}, s, errorType(err))
		}
	}
	return req
}

// seal checks and encodes the output; what cannot be stored fails the turn (S6).
func (a *Attempt) seal(exit *Exit, s situation) *Exit {
	if exit == nil || exit.Output == nil {
		return exit
	}
	if len(exit.Output) > a.e.cfg.MaxOutput {
		err := fmt.Errorf("output of %d bytes: %w: the limit is %d", len(exit.Output), ErrTooLarge, a.e.cfg.MaxOutput)
		return &Exit{Kind: ExitFail, Err: err, Type: typeTooLarge}
	}
	sealed, err := a.e.encode(place{output, a.task.ID, ""}, exit.Output)
	if err != nil {
		return &Exit{Kind: ExitFail, Err: fmt.Errorf("encode output: %w", err), Type: typeEncode}
	}
	exit.Output = sealed
	return exit
}

// settle writes the end of the attempt until the result is known or the lease is lost.
func (a *Attempt) settle(req *store.SettleRequest) *Attempt {
	req.Lease = a.lease
	a.saving <- struct{}{}
	defer func() { <-a.saving }()
	a.keepSlot(req)
	var s *store.Settled
	err := a.settleEvents(req)
	if err == nil {
		err = a.e.repeat(a.worker.ctx, 0, func(ctx context.Context) (err error) {
			s, err = a.e.store.Settle(ctx, req)
			return err
		})
	}
	if err != nil {
		a.e.settleFailed(req)
		if !errors.Is(err, store.ErrLeaseLost) {
			a.Logger().Warn("end of turn not written", "error", err)
		}
		return nil
	}
	return a.settled(req, s)
}

// settleEvents adds what was emitted and is not written yet to the end of the turn, after what was sent with
// an unknown result. A try that another one follows keeps neither: they would be taken back.
func (a *Attempt) settleEvents(req *store.SettleRequest) error {
	events := a.emitter.take()
	if req.Kind != store.SettleEnd {
		return nil
	}
	err := a.resend(a.worker.ctx)
	req.Events = events
	return err
}

// keepSlot asks for the promoted turn's lease, unless others have waited for the slot since before the
// turn that just ended took it over.
func (a *Attempt) keepSlot(req *store.SettleRequest) {
	e := a.e
	e.mu.Lock()
	defer e.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	passed := a.keptSlot && e.waiting[a.task.Func]
	if req.Kind != store.SettleEnd || !a.returned || e.state != active || passed {
		return
	}
	e.requests++
	req.KeepLease, req.Request = true, e.requests
	e.inflight[req.Request] = true
}

func (e *Engine) settleFailed(req *store.SettleRequest) {
	e.mu.Lock()
	e.answered(req.Request)
	e.mu.Unlock()
	wake(e.audit)
}

// settled tells of what was written and moves on to the promoted turn.
func (a *Attempt) settled(req *store.SettleRequest, s *store.Settled) *Attempt {
	e := a.e
	e.stats.settled(req, s)
	next := e.hand(a, req, s)
	if s.Ended != nil {
		s.Ended.TaskID = a.task.ID
	}
	a.resolve(s.Ended)
	e.changed(a.lease.Incarnation)
	if s.Due {
		wake(e.due)
	}
	return next
}

// hand passes the slot to the promoted turn.
func (e *Engine) hand(a *Attempt, req *store.SettleRequest, s *store.Settled) *Attempt {
	e.mu.Lock()
	defer e.mu.Unlock()
	defer e.answered(req.Request)
	if s.Entry == nil {
		return nil
	}
	next := e.newAttempt(a.worker, s.Entry)
	e.takeNews(next)
	next.keptSlot = e.waiting[a.task.Func]
	next.declined = e.state != active || e.worker != a.worker
	e.running[a.lease.Incarnation] = next
	if !next.declined {
		e.live[next.task.ID] = next
	}
	return next
}

// expire ends a turn that has ignored its deadline for the grace (C5). Until that is written the task is
// not claimed here again.
func (a *Attempt) expire() {
	e := a.e
	e.mu.Lock()
	if e.state == stopped || a.ctx.Err() != nil || !a.beginSettling() {
		e.mu.Unlock()
		return
	}
	e.goroutines++
	e.stuck[a.task.ID]++
	e.mu.Unlock()
	a.lost(ErrTerminated)
	a.settle(halted(store.Terminated, "deadline", situation{settings: a.task.Settings}))
	e.mu.Lock()
	e.unstick(a.task.ID)
	e.mu.Unlock()
	e.done()
}
