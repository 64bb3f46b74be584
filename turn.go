package perdure

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/perdure/perdure/internal/engine"
)

// Turn is what a handler is given: the typed input and ways to end, around the untyped [Scope].
// It may be used by several goroutines of the handler.
type Turn[In, Out any] struct {
	*Scope
	input In

	exitKind engine.ExitKind // set by Suspend, Finish or Release, from the handler's goroutine
	exitErr  error
	out      Out
	reason   string
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
	if err := json.Unmarshal(stored, &in); err != nil {
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
	t.exitKind, t.out, t.reason = kind, out, reason
	t.exitErr = &exitError{method}
	return out, t.exitErr
}

// exit turns what the handler returned into what the engine writes (T3, T6).
func (t *Turn[In, Out]) exit(out Out, err error) engine.Exit {
	if t.exitErr != nil {
		if !errors.Is(err, t.exitErr) {
			method := t.exitErr.(*exitError).method
			return engine.Exit{Kind: engine.ExitFail, Err: fmt.Errorf("handler called %s but returned something else", method)}
		}
		out, err = t.out, nil
	}
	x := engine.Exit{Kind: t.exitKind, Err: err, Reason: t.reason}
	if err != nil || t.exitKind == engine.ExitRelease {
		return x
	}
	if x.Output, err = json.Marshal(out); err != nil {
		return engine.Exit{Kind: engine.ExitFail, Type: "encode", Err: fmt.Errorf("output cannot be encoded as JSON: %w", err)}
	}
	return x
}
