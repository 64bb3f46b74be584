package perdure_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/perdure/perdure"
)

// failure runs one turn of a handler and returns how it failed, to the caller and as stored.
func failure(t *testing.T, opts options, h handler) (got *perdure.TaskError) {
	t.Helper()
	f := perdure.NewFunc[int, int]("f", &opts)
	in(t, perdure.Options{Limits: perdure.Limits{Output: 64, Metadata: 64}}, func(t *testing.T, s *server) {
		handle := start(t, s.c, f, 1, "t")
		_, err := handle.Result(t.Context())
		if !errors.As(err, &got) {
			t.Fatalf("Y3: got %v, want a *TaskError", err)
		}
		turn, err := s.c.Turn(t.Context(), perdure.TurnQuery{TaskID: "t", Turn: 1})
		if err != nil {
			t.Fatal(err)
		}
		if *turn.Error != *got {
			t.Errorf("Y3: stored %+v, returned %+v", turn.Error, got)
		}
		is(t, "slots taken afterwards", s.counter("turns_running"), 0)
	}, f.Bind(h))
	return got
}

func TestWhatAHandlerMayNotDoFailsItsTurnAtOnce(t *testing.T) {
	retried := options{Retry: perdure.FixedRetry(3, 1)}
	for name, c := range map[string]struct {
		handler handler
		typ     string
		message string
	}{
		"T6: Suspend, then another value": {func(_ context.Context, turn *turnOf) (int, error) {
			_, _ = turn.Suspend(1, "wait")
			return 2, nil
		}, "misuse", "Suspend"},
		"T6: Finish, then another error": {func(_ context.Context, turn *turnOf) (int, error) {
			_, _ = turn.Finish(1)
			return 2, errors.New("other")
		}, "misuse", "Finish"},
		"T6: Release, then nothing": {func(_ context.Context, turn *turnOf) (int, error) {
			_, _ = turn.Release()
			return 2, nil
		}, "misuse", "Release"},
		"T3: runtime.Goexit": {func(context.Context, *turnOf) (int, error) {
			runtime.Goexit()
			return 0, nil
		}, "misuse", "Goexit"},
	} {
		t.Run(name, func(t *testing.T) {
			got := failure(t, retried, c.handler)
			if got.Type != c.typ || !strings.Contains(got.Message, c.message) || got.Attempts != 1 {
				t.Errorf("%s: got %+v, want type %s, a message with %s, one attempt", name, got, c.typ, c.message)
			}
		})
	}
}

func TestWrappingWhatSuspendReturnsIsNoMisuse(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", nil)
	in(t, perdure.Options{}, func(t *testing.T, s *server) {
		r := ends(t, "T6", start(t, s.c, f, 4, "t"), perdure.Suspended)
		is(t, "T4: output", r.Output, 5)
		is(t, "T4: reason", r.Reason, "wait")
	}, f.Bind(func(_ context.Context, turn *turnOf) (int, error) {
		out, err := turn.Suspend(turn.Input()+1, "wait")
		return out, fmt.Errorf("leave: %w", err)
	}))
}

func TestAPanicFailsTheTurnWithItsStack(t *testing.T) {
	got := failure(t, options{}, func(context.Context, *turnOf) (int, error) { panic("at the disco") })
	if got.Type != "panic" || got.Message != "panic: at the disco" || !strings.Contains(got.Stack, "exit_test.go") {
		t.Errorf("T3: got %+v, want a panic with its stack", got)
	}
}

func TestAnErrorKeepsItsTypeAndItsTextIsMadeStorable(t *testing.T) {
	got := failure(t, options{}, func(context.Context, *turnOf) (int, error) {
		return 0, fmt.Errorf("read \xff\x00: %w", &json.SyntaxError{})
	})
	is(t, "Y3: type", got.Type, "*json.SyntaxError")
	is(t, "Y3: message", got.Message, "read \uFFFD\uFFFD: ")
}

func TestAnOutputThatCannotBeStoredFailsTheTurn(t *testing.T) {
	for typ, out := range map[string]any{"encode": math.NaN(), "too_large": strings.Repeat("x", 65)} {
		t.Run(typ, func(t *testing.T) {
			f := perdure.NewFunc[int, any]("f", &options{Retry: perdure.FixedRetry(3, 1)})
			in(t, perdure.Options{Limits: perdure.Limits{Output: 64}}, func(t *testing.T, s *server) {
				_, err := f.Run(t.Context(), s.c, 1, nil)
				var got *perdure.TaskError
				if !errors.As(err, &got) || got.Type != typ || got.Attempts != 1 {
					t.Errorf("S6: got %v, want type %s after one attempt", err, typ)
				}
			}, f.Bind(func(context.Context, *perdure.Turn[int, any]) (any, error) { return out, nil }))
		})
	}
}

func TestCanceledIsAFailureUnlessTheTurnWasAskedToStop(t *testing.T) {
	got := failure(t, options{}, func(context.Context, *turnOf) (int, error) {
		return 0, fmt.Errorf("dial: %w", context.Canceled)
	})
	is(t, "T3: message", got.Message, "dial: context canceled")
	got = failure(t, options{}, func(context.Context, *turnOf) (int, error) { return 0, perdure.ErrInterrupted })
	is(t, "T3: message", got.Message, perdure.ErrInterrupted.Error())
}

func TestErrCancelledCancelsATurnThatNobodyAskedToStop(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", &options{Retry: perdure.FixedRetry(3, 1)})
	in(t, perdure.Options{}, func(t *testing.T, s *server) {
		h := start(t, s.c, f, 1, "t")
		ends(t, "C3", h, perdure.Cancelled)
		_, err := h.Result(t.Context())
		fails(t, "C3: Result", err, perdure.ErrCancelled)
		is(t, "C3: task", task(t, s.c, "t").Status, perdure.Cancelled)
	}, f.Bind(func(context.Context, *turnOf) (int, error) { return 0, fmt.Errorf("no: %w", perdure.ErrCancelled) }))
}

func TestAnErrorOfAMultiTurnFuncFailsTheTurnAndNotTheTask(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", &options{MultiTurn: true})
	in(t, perdure.Options{}, func(t *testing.T, s *server) {
		ends(t, "T5", start(t, s.c, f, 0, "t"), perdure.Failed)
		is(t, "T5: task after a failed turn", task(t, s.c, "t").Status, perdure.Suspended)
		ends(t, "T5", start(t, s.c, f, 1, "t"), perdure.Completed)
		is(t, "T5: task after a return", task(t, s.c, "t").Status, perdure.Suspended)
		ends(t, "T5", start(t, s.c, f, 2, "t"), perdure.Completed)
		is(t, "T5: task after Finish", task(t, s.c, "t").Status, perdure.Completed)
	}, f.Bind(func(_ context.Context, turn *turnOf) (int, error) {
		switch turn.Input() {
		case 0:
			return 0, errors.New("no")
		case 1:
			return 1, nil
		}
		return turn.Finish(2)
	}))
}

func TestWhatIsQueuedBehindAReturnIsPromotedAndBehindAnErrorRefused(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", &options{Steerable: true})
	in(t, perdure.Options{}, func(t *testing.T, s *server) {
		good := start(t, s.c, f, 1, "good")
		next := start(t, s.c, f, 2, "good")
		r := ends(t, "T4", good, perdure.Completed)
		is(t, "superseded", r.Superseded, true)
		ends(t, "T4", next, perdure.Completed)
		bad := start(t, s.c, f, -1, "bad")
		refused := start(t, s.c, f, 2, "bad")
		ends(t, "T4", bad, perdure.Failed)
		r = ends(t, "T4", refused, perdure.Refused)
		is(t, "T4: reason", r.Reason, "task failed")
		_, err := refused.Result(t.Context())
		fails(t, "T4: Result", err, perdure.ErrRefused)
	}, f.Bind(func(_ context.Context, turn *turnOf) (int, error) {
		if turn.Steered() {
			return turn.Input(), nil
		}
		<-turn.Interrupt().Done()
		if turn.Input() < 0 {
			return 0, errors.New("no")
		}
		return turn.Input(), nil
	}))
}
