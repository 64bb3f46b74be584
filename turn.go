package perdure

import (
	"errors"
	"fmt"
	"sync"

	"github.com/perdure/perdure/internal/engine"
)

// Turn is what a handler is given: the typed input and ways to end, around the untyped [Scope].
// It may be used by several goroutines of the handler.
type Turn[In, Out any] struct {
	*Scope
	input In

	mu   sync.Mutex
	left *leaving[Out] // set by Suspend, Finish or Release
}

// leaving is how a handler says that it leaves.
type leaving[Out any] struct {
	kind   engine.ExitKind
	err    *exitError
	out    Out
	reason string
}

// exitError is what Suspend, Finish and Release return, for the handler to return.
type exitError struct{ method string }

func (e *exitError) Error() string { return "perdure: " + e.method + " was called; return its result" }

// Input returns the turn's input. After a crash it is the same.
func (t *Turn[In, Out]) Input() In { return t.input }

// Previous returns the input of the turn that was entered before this one; ok is false on the first (G6).
func (t *Turn[In, Out]) Previous() (in In, ok bool, err error) {
	stored := t.a.Previous()
	if stored == nil {
		return in, false, nil
	}
	if err := unmarshal(stored, &in); err != nil {
		return in, false, fmt.Errorf("decode previous input: %w", err)
	}
	return in, true, nil
}

// Suspend ends the turn with an output and leaves the task waiting for its next input (T4). Return its
// result: return turn.Suspend(out, "awaiting approval").
func (t *Turn[In, Out]) Suspend(out Out, reason string) (Out, error) {
	return t.leave("Suspend", engine.ExitSuspend, out, reason)
}

// Finish ends the turn of a multi-turn func and completes the task, unless inputs are waiting, which are
// handled first (T5). Return its result: return turn.Finish(out).
func (t *Turn[In, Out]) Finish(out Out) (Out, error) {
	return t.leave("Finish", engine.ExitFinish, out, "")
}

// Release gives the turn back: it is entered again as recovered, by another worker or this one, with what
// was checkpointed (H2). Outside a shutdown it counts like a recovery. Return its result.
func (t *Turn[In, Out]) Release() (Out, error) {
	var none Out
	return t.leave("Release", engine.ExitRelease, none, "")
}

func (t *Turn[In, Out]) leave(method string, kind engine.ExitKind, out Out, reason string) (Out, error) {
	err := &exitError{method}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.left = &leaving[Out]{kind, err, out, reason}
	return out, err
}

// exit turns what the handler returned into what the engine writes (T3, T6).
func (t *Turn[In, Out]) exit(out Out, err error) engine.Exit {
	t.mu.Lock()
	left := t.left
	t.mu.Unlock()
	x := engine.Exit{Err: err}
	if left != nil {
		if !errors.Is(err, left.err) {
			return engine.Exit{Kind: engine.ExitFail, Err: fmt.Errorf("handler called %s but returned something else", left.err.method)}
		}
		x = engine.Exit{Kind: left.kind, Reason: left.reason}
		out = left.out
	}
	switch {
	case x.Err != nil:
		x.Foreign = foreign(err)
		return x
	case x.Kind == engine.ExitRelease:
		return x
	}
	output, replaced, err := engine.Marshal(out)
	if err != nil {
		return engine.Exit{Kind: engine.ExitFail, Type: "encode", Err: fmt.Errorf("output cannot be encoded as JSON: %w", err)}
	}
	if replaced {
		t.a.Replaced("output")
	}
	x.Output = output
	return x
}

// foreign reports whether an error is, or wraps, how another task ended.
func foreign(err error) bool {
	var outcome *OutcomeError
	var failed *TaskError
	var parked *ParkedError
	return errors.As(err, &outcome) || errors.As(err, &failed) || errors.As(err, &parked)
}
