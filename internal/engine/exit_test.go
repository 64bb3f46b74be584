package engine_test

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
	"github.com/perdure/perdure/internal/rig"
)

// failure runs one turn of a handler and returns how it failed, to the caller and as stored.
func failure(t *testing.T, opts rig.Options, h rig.Handler) (got *perdure.TaskError) {
	t.Helper()
	f := perdure.NewFunc[int, int]("f", &opts)
	rig.In(t, perdure.Options{Limits: perdure.Limits{Output: 64, Metadata: 64}}, func(t *testing.T, s *rig.Server) {
		handle := rig.Start(t, s.Client, f, 1, "t")
		_, err := handle.Result(t.Context())
		if !errors.As(err, &got) {
			t.Fatalf("Y3: got %v, want a *TaskError", err)
		}
		turn, err := s.Client.Turn(t.Context(), perdure.TurnQuery{TaskID: "t", Turn: 1})
		if err != nil {
			t.Fatal(err)
		}
		if *turn.Error != *got {
			t.Errorf("Y3: stored %+v, returned %+v", turn.Error, got)
		}
		rig.Is(t, "slots taken afterwards", s.Counter("turns_running"), 0)
	}, f.Bind(h))
	return got
}

func TestWhatAHandlerMayNotDoFailsItsTurnAtOnce(t *testing.T) {
	retried := rig.Options{Retry: perdure.FixedRetry(3, 1)}
	for name, c := range map[string]struct {
		handler rig.Handler
		typ     string
		message string
	}{
		"T6: Suspend, then another value": {func(_ context.Context, turn *rig.Turn) (int, error) {
			_, _ = turn.Suspend(1, "wait")
			return 2, nil
		}, "misuse", "Suspend"},
		"T6: Finish, then another error": {func(_ context.Context, turn *rig.Turn) (int, error) {
			_, _ = turn.Finish(1)
			return 2, errors.New("other")
		}, "misuse", "Finish"},
		"T6: Release, then nothing": {func(_ context.Context, turn *rig.Turn) (int, error) {
			_, _ = turn.Release()
			return 2, nil
		}, "misuse", "Release"},
		"T3: runtime.Goexit": {func(context.Context, *rig.Turn) (int, error) {
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
	rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
		r := rig.Ends(t, "T6", rig.Start(t, s.Client, f, 4, "t"), perdure.Suspended)
		rig.Is(t, "T4: output", r.Output, 5)
		rig.Is(t, "T4: reason", r.Reason, "wait")
	}, f.Bind(func(_ context.Context, turn *rig.Turn) (int, error) {
		out, err := turn.Suspend(turn.Input()+1, "wait")
		return out, fmt.Errorf("leave: %w", err)
	}))
}

func TestAPanicFailsTheTurnWithItsStack(t *testing.T) {
	got := failure(t, rig.Options{}, func(context.Context, *rig.Turn) (int, error) { panic("at the disco") })
	if got.Type != "panic" || got.Message != "panic: at the disco" || !strings.Contains(got.Stack, "exit_test.go") {
		t.Errorf("T3: got %+v, want a panic with its stack", got)
	}
}

func TestAnErrorKeepsItsTypeAndItsTextIsMadeStorable(t *testing.T) {
	got := failure(t, rig.Options{}, func(context.Context, *rig.Turn) (int, error) {
		return 0, fmt.Errorf("read \xff\x00: %w", &json.SyntaxError{})
	})
	rig.Is(t, "Y3: type", got.Type, "*json.SyntaxError")
	rig.Is(t, "Y3: message", got.Message, "read \uFFFD\uFFFD: ")
}

func TestAnOutputThatCannotBeStoredFailsTheTurn(t *testing.T) {
	for typ, out := range map[string]any{"encode": math.NaN(), "too_large": strings.Repeat("x", 65)} {
		t.Run(typ, func(t *testing.T) {
			f := perdure.NewFunc[int, any]("f", &rig.Options{Retry: perdure.FixedRetry(3, 1)})
			rig.In(t, perdure.Options{Limits: perdure.Limits{Output: 64}}, func(t *testing.T, s *rig.Server) {
				_, err := f.Run(t.Context(), s.Client, 1, nil)
				var got *perdure.TaskError
				if !errors.As(err, &got) || got.Type != typ || got.Attempts != 1 {
					t.Errorf("S6: got %v, want type %s after one attempt", err, typ)
				}
			}, f.Bind(func(context.Context, *perdure.Turn[int, any]) (any, error) { return out, nil }))
		})
	}
}

func TestCanceledIsAFailureUnlessTheTurnWasAskedToStop(t *testing.T) {
	got := failure(t, rig.Options{}, func(context.Context, *rig.Turn) (int, error) {
		return 0, fmt.Errorf("dial: %w", context.Canceled)
	})
	rig.Is(t, "T3: message", got.Message, "dial: context canceled")
	got = failure(t, rig.Options{}, func(context.Context, *rig.Turn) (int, error) { return 0, perdure.ErrInterrupted })
	rig.Is(t, "T3: message", got.Message, perdure.ErrInterrupted.Error())
}

func TestErrCancelledCancelsATurnThatNobodyAskedToStop(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", &rig.Options{Retry: perdure.FixedRetry(3, 1)})
	rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
		h := rig.Start(t, s.Client, f, 1, "t")
		rig.Ends(t, "C3", h, perdure.Cancelled)
		_, err := h.Result(t.Context())
		rig.Fails(t, "C3: Result", err, perdure.ErrCancelled)
		rig.Is(t, "C3: task", rig.Task(t, s.Client, "t").Status, perdure.Cancelled)
	}, f.Bind(func(context.Context, *rig.Turn) (int, error) { return 0, fmt.Errorf("no: %w", perdure.ErrCancelled) }))
}

func TestAnErrorOfAMultiTurnFuncFailsTheTurnAndNotTheTask(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", &rig.Options{MultiTurn: true})
	rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
		rig.Ends(t, "T5", rig.Start(t, s.Client, f, 0, "t"), perdure.Failed)
		rig.Is(t, "T5: task after a failed turn", rig.Task(t, s.Client, "t").Status, perdure.Suspended)
		rig.Ends(t, "T5", rig.Start(t, s.Client, f, 1, "t"), perdure.Completed)
		rig.Is(t, "T5: task after a return", rig.Task(t, s.Client, "t").Status, perdure.Suspended)
		rig.Ends(t, "T5", rig.Start(t, s.Client, f, 2, "t"), perdure.Completed)
		rig.Is(t, "T5: task after Finish", rig.Task(t, s.Client, "t").Status, perdure.Completed)
	}, f.Bind(func(_ context.Context, turn *rig.Turn) (int, error) {
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
	f := perdure.NewFunc[int, int]("f", &rig.Options{Steerable: true})
	rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
		good := rig.Start(t, s.Client, f, 1, "good")
		next := rig.Start(t, s.Client, f, 2, "good")
		r := rig.Ends(t, "T4", good, perdure.Completed)
		rig.Is(t, "superseded", r.Superseded, true)
		rig.Ends(t, "T4", next, perdure.Completed)
		bad := rig.Start(t, s.Client, f, -1, "bad")
		refused := rig.Start(t, s.Client, f, 2, "bad")
		rig.Ends(t, "T4", bad, perdure.Failed)
		r = rig.Ends(t, "T4", refused, perdure.Refused)
		rig.Is(t, "T4: reason", r.Reason, "task failed")
		_, err := refused.Result(t.Context())
		rig.Fails(t, "T4: Result", err, perdure.ErrRefused)
	}, f.Bind(func(_ context.Context, turn *rig.Turn) (int, error) {
		if turn.Steered() {
			return turn.Input(), nil
		}
		<-turn.Interrupt().Done()
		if turn.Input() < 0 {
			return 0, perdure.Permanent(errors.New("no")) // another error would wrap the turn up
		}
		return turn.Input(), nil
	}))
}
