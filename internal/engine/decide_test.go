package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/perdure/perdure/store"
)

func half() float64 { return 0.5 }

func TestAnInterruptsErrorEndsTheTurnByItsCauses(t *testing.T) {
	all := Causes{Cancel: true, CancelReason: "why", Deadline: true, Shutdown: true, Steered: true}
	for name, c := range map[string]struct {
		causes  Causes
		kind    store.SettleKind
		outcome store.Status
		reason  string
	}{
		"cancel first":         {all, store.SettleEnd, store.Cancelled, "why"},
		"then the deadline":    {Causes{Deadline: true, Shutdown: true, Steered: true}, store.SettleEnd, store.Terminated, "deadline"},
		"then the shutdown":    {Causes{Shutdown: true, Steered: true}, store.SettleRelease, "", ""},
		"then the newer input": {Causes{Steered: true}, store.SettleEnd, store.Cancelled, "steered"},
	} {
		for _, err := range []error{&InterruptError{c.causes}, ErrInterrupted, fmt.Errorf("call: %w", context.Canceled)} {
			got := decide(&Exit{Err: err}, situation{causes: c.causes, settings: store.Settings{Retry: store.Retry{Attempts: 9}}, random: half})
			if got.Kind != c.kind || got.Outcome != c.outcome || got.Reason != c.reason || got.Count {
				t.Errorf("T3: %s: %v: got %+v, want %s %s %q", name, err, got, c.kind, c.outcome, c.reason)
			}
		}
	}
}

func TestAReleaseCountsOutsideAShutdownOnly(t *testing.T) {
	for shutdown, want := range map[bool]bool{false: true, true: false} {
		got := decide(&Exit{Kind: ExitRelease}, situation{causes: Causes{Shutdown: shutdown}})
		if got.Kind != store.SettleRelease || got.Count != want {
			t.Errorf("H2: shutdown %v: got %+v, want a release that counts: %v", shutdown, got, want)
		}
	}
}

func TestNothingBecomesAnOutcomeAfterTheDrain(t *testing.T) {
	for _, exit := range []*Exit{nil, {}, {Err: errors.New("no")}, {Kind: ExitSuspend}, {Kind: ExitFinish}, {Kind: ExitFail}} {
		if got := decide(exit, situation{late: true}); got.Kind != store.SettleRelease || got.Count {
			t.Errorf("H1: %+v: got %+v, want an uncounted release", exit, got)
		}
	}
}

func TestABackOffGrowsToItsMaximumAndJitterNeverPassesIt(t *testing.T) {
	p := store.Retry{Initial: time.Second, Factor: 2, Max: 10 * time.Second, Jitter: 0.5}
	for attempt, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 4: 8 * time.Second, 5: 10 * time.Second, 1_000_000: 10 * time.Second} {
		if got := backoff(p, attempt, func() float64 { return 0 }); got != want {
			t.Errorf("Y1: attempt %d without jitter: got %v, want %v", attempt, got, want)
		}
		if got := backoff(p, attempt, half); got != want*3/4 {
			t.Errorf("Y1: attempt %d with half the jitter: got %v, want %v", attempt, got, want*3/4)
		}
	}
	if got := backoff(store.Retry{Initial: time.Hour, Factor: math.MaxFloat32}, 1_000_000, half); got <= 0 {
		t.Errorf("Y1: without a maximum: got %v, want a long time", got)
	}
}

func TestAnErrorIsNamedByTheTypeItsAuthorGaveIt(t *testing.T) {
	syntax := &json.SyntaxError{}
	for want, err := range map[string]error{
		"error":                         errors.New("x"),
		"*json.SyntaxError":             fmt.Errorf("a: %w", &PermanentError{&DelayError{Err: syntax}}),
		"panic":                         fmt.Errorf("a: %w", &panicError{1}),
		"*errors.joinError":             errors.Join(syntax, syntax),
		"context.deadlineExceededError": context.DeadlineExceeded,
	} {
		if got := errorType(err); got != want {
			t.Errorf("Y3: %v: got %s, want %s", err, got, want)
		}
	}
}

func TestEqualValuesHaveOneCanonicalForm(t *testing.T) {
	for a, b := range map[string]string{
		`{"a":1,"b":[2, 3]}`:   "{ \"b\":[2,3],\n\"a\":1 }",
		`"ä"`:                  `"\u00e4"`,
		`12345678901234567890`: `12345678901234567890 `,
	} {
		x, err1 := canonicalJSON([]byte(a))
		y, err2 := canonicalJSON([]byte(b))
		if err := errors.Join(err1, err2); err != nil || string(x) != string(y) {
			t.Errorf("S2: got %s and %s (%v), want the same", x, y, err)
		}
	}
	if _, err := canonicalJSON([]byte("1 2")); err == nil {
		t.Error("S2: two values: got nil, want an error")
	}
}

func TestCausesOnlyGrow(t *testing.T) {
	c := Causes{}.with(Causes{Cancel: true, CancelReason: "first"}).with(Causes{Steered: true})
	c = c.with(Causes{Cancel: true, CancelReason: "second"}).with(Causes{}).with(Causes{Deadline: true, Shutdown: true})
	want := Causes{Steered: true, Cancel: true, CancelReason: "first", Deadline: true, Shutdown: true}
	if c != want {
		t.Errorf("C2: got %+v, want %+v", c, want)
	}
	if got, want := c.String(), "steered, cancel requested, deadline, shutdown"; got != want {
		t.Errorf("C2: got %q, want %q", got, want)
	}
}
