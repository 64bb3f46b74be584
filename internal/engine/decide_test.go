package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/perdure/perdure/store"
)

func half() float64 { return 0.5 }

// read is what describe makes of an error, without a predicate.
func read(err error) report { return report{failure: describe(err, false, nil)} }

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
		for _, shown := range []bool{false, true} {
			for _, err := range []error{&InterruptError{c.causes}, ErrInterrupted, fmt.Errorf("call: %w", context.Canceled)} {
				s := situation{causes: c.causes, shown: shown, settings: store.Settings{Retry: store.Retry{Attempts: 9}}, random: half}
				got := decide(read(err), s)
				if got.Kind != c.kind || got.Outcome != c.outcome || got.Reason != c.reason || got.Release != store.ReleaseWrapped || got.Detail != "" {
					t.Errorf("T3: %s: %v: got %+v, want %s %s %q without a detail", name, err, got, c.kind, c.outcome, c.reason)
				}
				if got.IfQueued != (got.Reason == "steered") {
					t.Errorf("T3: %s: %v: ends only while an input waits: %v", name, err, got.IfQueued)
				}
			}
		}
	}
}

// ordinary is an error that knows nothing of interrupts, such as "signal: killed" or a status of gRPC.
var ordinary = errors.New("signal: killed")

func TestAnErrorThatComesAfterACauseWasShownWrapsTheTurnUp(t *testing.T) {
	retry := store.Settings{Retry: store.Retry{Attempts: 9, Initial: time.Second}}
	for name, c := range map[string]struct {
		causes  Causes
		err     error
		attempt int
		want    string
	}{
		"cancel":                             {Causes{Cancel: true}, ordinary, 1, "end cancelled detail"},
		"deadline":                           {Causes{Deadline: true}, ordinary, 1, "end terminated detail"},
		"shutdown":                           {Causes{Shutdown: true}, ordinary, 1, "release"},
		"steered":                            {Causes{Steered: true}, ordinary, 1, "end cancelled detail"},
		"permanent":                          {Causes{Cancel: true}, &PermanentError{ordinary}, 1, "end failed"},
		"permanent, but the interrupt's":     {Causes{Cancel: true}, &PermanentError{ErrInterrupted}, 1, "end cancelled"},
		"permanent, but a context's":         {Causes{Cancel: true}, &PermanentError{context.Canceled}, 1, "end cancelled"},
		"later, at a shutdown":               {Causes{Shutdown: true}, &DelayError{ordinary, time.Hour}, 1, "retry"},
		"later, at a shutdown, the last one": {Causes{Shutdown: true}, &DelayError{ordinary, time.Hour}, 9, "release"},
		"later, at a cancel":                 {Causes{Cancel: true}, &DelayError{ordinary, time.Hour}, 1, "end cancelled detail"},
		"later, at both":                     {Causes{Shutdown: true, Cancel: true}, &DelayError{ordinary, time.Hour}, 1, "end cancelled detail"},
		"a panic at a shutdown":              {Causes{Shutdown: true}, Guard(func() error { panic("x") }), 1, "release asked"},
		"a panic at a cancel":                {Causes{Cancel: true}, Guard(func() error { panic("x") }), 9, "end failed"},
	} {
		s := situation{causes: c.causes, shown: true, attempt: c.attempt, settings: retry, random: half}
		if got := inShort(decide(read(c.err), s)); got != c.want {
			t.Errorf("T3: %s: got %s, want %s", name, got, c.want)
		}
		s.shown = false // it came too late to have anything to do with the error
		if got := inShort(decide(read(ordinary), s)); c.attempt < 9 && got != "retry" {
			t.Errorf("T3: %s, not shown: got %s, want a retry", name, got)
		}
	}
}

// inShort is what a request does.
func inShort(r *store.SettleRequest) string {
	text := string(r.Kind)
	for _, s := range []string{string(r.Outcome), string(r.Release)} {
		if s != "" {
			text += " " + s
		}
	}
	if r.Detail != "" {
		text += " detail"
	}
	return text
}

func TestAnotherTasksOutcomeIsAFailureAndNoCancellation(t *testing.T) {
	foreign := func(err error) report { return report{failure: describe(err, true, nil)} }
	if got := inShort(decide(foreign(ErrCancelled), situation{})); got != "end failed" {
		t.Errorf("T3: got %s, want a failure", got)
	}
	if got := inShort(decide(foreign(ErrCancelled), situation{causes: Causes{Cancel: true}, shown: true})); got != "end cancelled" {
		t.Errorf("T3: after a cancel was shown: got %s, want it cancelled", got)
	}
	if got := inShort(decide(read(ErrCancelled), situation{})); got != "end cancelled" {
		t.Errorf("T3: the author's own ErrCancelled: got %s, want it cancelled", got)
	}
}

func TestAReleaseCountsOutsideAShutdownOnly(t *testing.T) {
	for shutdown, want := range map[bool]store.Release{false: store.ReleaseAsked, true: store.ReleaseWrapped} {
		got := decide(report{kind: ExitRelease}, situation{causes: Causes{Shutdown: shutdown}})
		if got.Kind != store.SettleRelease || got.Release != want {
			t.Errorf("H2: shutdown %v: got %+v, want %q", shutdown, got, want)
		}
	}
}

func TestNothingBecomesAnOutcomeAfterTheDrain(t *testing.T) {
	for _, r := range []report{exited(), {}, read(ordinary), {kind: ExitSuspend}, {kind: ExitFinish}, {kind: ExitFail, failure: &failure{}}} {
		if got := decide(r, situation{stopped: true}); got.Kind != store.SettleRelease || got.Release != store.ReleaseStopped {
			t.Errorf("H1: %+v: got %+v, want a release of what was stopped", r, got)
		}
	}
}

// loud is an error whose methods panic.
type loud struct{ method string }

func (l *loud) Error() string { l.speak("Error"); return "loud" }
func (l *loud) Is(error) bool { l.speak("Is"); return false }
func (l *loud) As(any) bool   { l.speak("As"); return false }
func (l *loud) Unwrap() error { l.speak("Unwrap"); return nil }
func (l *loud) speak(at string) {
	if l == nil || l.method == at {
		panic("in " + at)
	}
}

func TestAnErrorWhoseMethodsPanicIsAFailureOfItsTurn(t *testing.T) {
	var none *loud
	for _, err := range []error{none, &loud{"Error"}, &loud{"Is"}, &loud{"As"}, &loud{"Unwrap"}} {
		f := describe(err, false, nil)
		if f.typ != typePanic || !f.panicked || !strings.Contains(f.stack, "speak") || !f.again {
			t.Errorf("T3: %T: got %+v, want a panic with its stack, worth another attempt", err, f)
		}
	}
	f := describe(ordinary, false, func(error) bool { panic("predicate") })
	if f.typ != typePanic || f.message != "panic: predicate, when asked whether to try again after: "+ordinary.Error() || f.again {
		t.Errorf("T3: a predicate that panics: got %+v, want a panic that is not tried again", f)
	}
}

func TestTextsOfUsersAreCutAtARune(t *testing.T) {
	long := strings.Repeat("ä", maxText)
	if got := errorText(long); len(got) > maxText || !strings.HasSuffix(got, cutMark) || !utf8.ValidString(got) || strings.ContainsRune(got, utf8.RuneError) {
		t.Errorf("S6: an error's text of %d bytes has %d, ends %q", len(long), len(got), got[len(got)-20:])
	}
	for _, s := range []string{strings.Repeat("\x00", maxText), strings.Repeat("\xff\x00", maxText/2), strings.Repeat("\xff", 2*maxText)} {
		if got := errorText(s); len(got) > maxText || !strings.HasSuffix(got, cutMark) || !utf8.ValidString(got) {
			t.Errorf("S6: an error's text of %d bytes that are no text has %d", len(s), len(got))
		}
	}
	got := reasonText(strings.Repeat("ä", 5000))
	if utf8.RuneCountInString(got) != maxReason || !strings.HasSuffix(got, cutMark) || !utf8.ValidString(got) {
		t.Errorf("S6: a reason of 5,000 characters has %d", utf8.RuneCountInString(got))
	}
	for _, s := range []string{"", "short", strings.Repeat("ä", maxReason)} {
		if reasonText(s) != s || errorText(s) != s {
			t.Errorf("S6: %.10q is changed", s)
		}
	}
	if got := errorText("a\x00b\xff"); got != "a\uFFFDb\uFFFD" {
		t.Errorf("S6: got %q", got)
	}
}

func TestABackOffThatIsNoNumberIsTheLongest(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	for name, p := range map[string]store.Retry{
		"overflow":                   {Initial: math.MaxInt64, Factor: 2},
		"infinite factor":            {Initial: time.Second, Factor: inf},
		"a factor that is no number": {Initial: time.Second, Factor: nan},
		"a step that overflows":      {Step: math.MaxInt64},
		"a jitter that is no number": {Initial: time.Second, Factor: 2, Max: time.Hour, Jitter: nan},
	} {
		got := backoff(p, 5000, half)
		if want := max(p.Max, 0); got <= 0 || got > maxRetryDelay || want > 0 && got != want {
			t.Errorf("Y1: %s: got %v", name, got)
		}
	}
	if got := backoff(store.Retry{Factor: inf}, 5000, half); got != 0 {
		t.Errorf("Y1: no delay, however often: got %v", got)
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
		"panic":                         fmt.Errorf("a: %w", &PanicError{value: 1}),
		"*errors.joinError":             errors.Join(syntax, syntax),
		"context.deadlineExceededError": context.DeadlineExceeded,
	} {
		if got := errorType(err); got != want {
			t.Errorf("Y3: %v: got %s, want %s", err, got, want)
		}
	}
}

func TestCausesOnlyGrow(t *testing.T) {
	c := Causes{}.with(Causes{Cancel: true, CancelReason: "first"}).with(Causes{Steered: true})
	c = c.with(Causes{Cancel: true, CancelReason: "second"}).with(Causes{}).with(Causes{Deadline: true, Shutdown: true})
	want := Causes{Steered: true, Cancel: true, CancelReason: "first", Deadline: true, Shutdown: true}
	if c != want {
		t.Errorf("C2: got %+v, want %+v", c, want)
	}
	if got := c.with(Causes{}).with(Causes{Steered: true}); got != want {
		t.Errorf("C2: got %+v, want %+v", got, want)
	}
	if got, want := c.String(), "steered, cancel requested, deadline, shutdown"; got != want {
		t.Errorf("C2: got %q, want %q", got, want)
	}
}
