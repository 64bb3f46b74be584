package funcs_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/examples/funcs"
	"github.com/perdure/perdure/perduretest"
)

// play runs a test on a harness with all the examples, whose crashes kill the harness's process.
func play(t *testing.T, test func(t *testing.T, h *perduretest.Harness)) {
	t.Helper()
	var kill func()
	exit := func(int) {
		kill()
		panic("killed")
	}
	perduretest.Run(t, nil, func(t *testing.T, h *perduretest.Harness) {
		kill = h.Crash
		test(t, h)
	}, funcs.All(&funcs.Options{Exit: exit})...)
}

func TestCountdownTellsHowItWasEntered(t *testing.T) {
	fresh, recovered := perdure.Fresh, perdure.Recovered
	for name, c := range map[string]struct {
		in       funcs.CountdownInput
		entries  []perdure.EntryMode
		attempts []int
	}{
		"nothing happens": {funcs.CountdownInput{Steps: 10}, []perdure.EntryMode{fresh}, []int{1}},
		"a crash":         {funcs.CountdownInput{Steps: 10, CrashAt: 4}, []perdure.EntryMode{fresh, recovered}, []int{1, 1}},
		"a failure":       {funcs.CountdownInput{Steps: 10, FailAt: []int{3}}, []perdure.EntryMode{fresh}, []int{1, 2}},
		"two failures":    {funcs.CountdownInput{Steps: 10, FailAt: []int{10, 1}}, []perdure.EntryMode{fresh}, []int{1, 2, 3}},
		"a failure, then a crash": {funcs.CountdownInput{Steps: 10, FailAt: []int{3}, CrashAt: 4},
			[]perdure.EntryMode{fresh, recovered}, []int{1, 2, 2}},
		"a crash, then a failure": {funcs.CountdownInput{Steps: 10, DelayMS: 50, FailAt: []int{7}, CrashAt: 1},
			[]perdure.EntryMode{fresh, recovered}, []int{1, 1, 2}},
		"both at one step": {funcs.CountdownInput{Steps: 1, FailAt: []int{1}, CrashAt: 1},
			[]perdure.EntryMode{fresh, recovered}, []int{1, 1, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, h *perduretest.Harness) {
				r, err := funcs.Countdown.Run(t.Context(), h.Client(), c.in, nil)
				if err != nil {
					t.Fatal(err)
				}
				want := funcs.CountdownOutput{Steps: c.in.Steps, Entries: c.entries, Attempts: c.attempts}
				if !reflect.DeepEqual(r.Output, want) {
					t.Errorf("got %+v, want %+v", r.Output, want)
				}
			})
		})
	}
}

func TestACountdownThatFailsTooOftenFails(t *testing.T) {
	play(t, func(t *testing.T, h *perduretest.Harness) {
		_, err := funcs.Countdown.Run(t.Context(), h.Client(), funcs.CountdownInput{Steps: 5, FailAt: []int{1, 2, 3}}, nil)
		var failed *perdure.TaskError
		if !errors.As(err, &failed) || failed.Attempts != 3 || failed.Message != "step 3 failed, as it was told to" {
			t.Errorf("got %v (%+v), want the failure of step 3 after 3 attempts", err, failed)
		}
	})
}

func TestAPoisonCountdownIsParked(t *testing.T) {
	play(t, func(t *testing.T, h *perduretest.Harness) {
		in := funcs.CountdownInput{Steps: 9, CrashAt: 5, CrashAlways: true}
		_, err := funcs.Countdown.Run(t.Context(), h.Client(), in, &perdure.StartOptions{TaskID: "poison"})
		if !errors.Is(err, perdure.ErrParked) {
			t.Fatalf("got %v, want it parked", err)
		}
		if n := h.Task("poison").Turn.Recoveries; n != 21 {
			t.Errorf("got parked after %d recoveries, want 21: one more than the limit", n)
		}
	})
}

func TestACancelledCountdownStopsBetweenSteps(t *testing.T) {
	play(t, func(t *testing.T, h *perduretest.Harness) {
		handle, err := funcs.Countdown.Start(t.Context(), h.Client(), funcs.CountdownInput{Steps: 100, DelayMS: 60_000}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := handle.Cancel(t.Context(), "enough"); err != nil {
			t.Fatal(err)
		}
		if r, err := handle.Result(t.Context()); !errors.Is(err, perdure.ErrCancelled) || r.Reason != "enough" {
			t.Errorf("got %v, reason %q, want it cancelled with its reason", err, r.Reason)
		}
	})
}

func TestARestartIsAnEntry(t *testing.T) {
	play(t, func(t *testing.T, h *perduretest.Harness) {
		handle, err := funcs.Countdown.Start(t.Context(), h.Client(), funcs.CountdownInput{Steps: 3, DelayMS: 60_000}, nil)
		if err != nil {
			t.Fatal(err)
		}
		h.Advance(time.Second) // it has been entered
		h.Restart()
		r, err := handle.Result(t.Context())
		if want := []perdure.EntryMode{perdure.Fresh, perdure.Recovered}; err != nil || !reflect.DeepEqual(r.Output.Entries, want) {
			t.Errorf("got %+v, %v, want entries %v", r.Output, err, want)
		}
	})
}

// TestInputsThatCannotBeUsedFailOnceAndSayWhy holds for all examples.
func TestInputsThatCannotBeUsedFailOnceAndSayWhy(t *testing.T) {
	for name, c := range map[string]struct{ fn, input, want string }{
		"no steps":           {"countdown", `{}`, "steps: must be 1 to 100000, not 0"},
		"negative steps":     {"countdown", `{"steps":-1}`, "steps: must be 1 to 100000, not -1"},
		"too many steps":     {"countdown", `{"steps":100001}`, "steps: must be 1 to 100000, not 100001"},
		"negative delay":     {"countdown", `{"steps":1,"delay_ms":-5}`, "delay_ms: must be 0 to 3600000, not -5"},
		"fail at no step":    {"countdown", `{"steps":3,"fail_at":[1,4]}`, "fail_at: must be steps from 1 to 3, not 4"},
		"crash at no step":   {"countdown", `{"steps":3,"crash_at":-4}`, "crash_at: must be a step from 1 to 3, not -4"},
		"crash always where": {"countdown", `{"steps":3,"crash_always":true}`, "crash_always: needs crash_at"},
		"nothing to digest":  {"digest", `{}`, "give paths or text"},
		"blank text":         {"digest", `{"text":"  "}`, "give paths or text"},
		"paths and text":     {"digest", `{"paths":["a"],"text":"b"}`, "give paths or text, not both"},
		"missing path":       {"digest", `{"paths":["no/such/place"]}`, `path "no/such/place" does not exist`},
		"a device":           {"digest", `{"paths":["/dev/zero"]}`, `path "/dev/zero" is neither a file nor a folder`},
		"sentences":          {"digest", `{"text":"b","sentences":-1}`, "sentences: must be 1 to 50, not -1"},
		"no request":         {"approval", `{}`, "request: is missing"},
		"decision first":     {"approval", `{"request":"a","approved":true}`, "approved: nothing has been requested yet"},
		"negative failures":  {"retry", `{"failures":-1}`, "failures: must not be -1"},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, h *perduretest.Harness) {
				req := &perdure.StartRequest{Func: c.fn, Input: []byte(c.input), TaskID: "t"}
				if _, err := h.Client().Start(t.Context(), req); err != nil {
					t.Fatal(err)
				}
				o, err := h.Client().Outcome(t.Context(), perdure.TurnQuery{TaskID: "t"})
				if err != nil {
					t.Fatal(err)
				}
				if o.Status != perdure.Failed || !strings.Contains(o.Error.Message, c.want) || o.Error.Attempts != 1 {
					t.Errorf("got %s, %+v, want it failed at the first attempt: %s", o.Status, o.Error, c.want)
				}
			})
		})
	}
}

func TestApprovalWaitsForADecision(t *testing.T) {
	yes := true
	play(t, func(t *testing.T, h *perduretest.Harness) {
		opts := &perdure.StartOptions{TaskID: "order-7"}
		for _, in := range []funcs.ApprovalInput{{Request: "buy\x00a\nboat"}, {}, {Request: "buy a canoe"}} {
			r, err := funcs.Approval.Run(t.Context(), h.Client(), in, opts)
			if err != nil || r.Status != perdure.Suspended || r.Output.State != "awaiting approval" {
				t.Fatalf("after %+v: got %+v, %v, want it suspended", in, r, err)
			}
		}
		if got := h.Task("order-7").Title; got != "buy a boat" {
			t.Errorf("got title %q, want it on one line", got)
		}
		h.Restart()
		r, err := funcs.Approval.Run(t.Context(), h.Client(), funcs.ApprovalInput{Approved: &yes, By: "Ada"}, opts)
		want := funcs.ApprovalOutput{Approved: &yes, By: "Ada", Request: "buy a canoe"}
		if err != nil || r.Status != perdure.Completed || !reflect.DeepEqual(r.Output, want) {
			t.Errorf("got %+v, %v, want it completed with %+v", r, err, want)
		}
	})
}

func TestRetryCountsItsAttempts(t *testing.T) {
	play(t, func(t *testing.T, h *perduretest.Harness) {
		r, err := funcs.Retry.Run(t.Context(), h.Client(), funcs.RetryInput{Failures: 3}, nil)
		if err != nil || r.Output.Attempts != 4 {
			t.Errorf("got %+v, %v, want 4 attempts", r.Output, err)
		}
		_, err = funcs.Retry.Run(t.Context(), h.Client(), funcs.RetryInput{Failures: 3, Permanent: true}, nil)
		var failed *perdure.TaskError
		if !errors.As(err, &failed) || failed.Attempts != 1 {
			t.Errorf("got %v, want a permanent failure after 1 attempt", err)
		}
	})
}

func TestProvenanceKnowsItsTask(t *testing.T) {
	play(t, func(t *testing.T, h *perduretest.Harness) {
		r, err := funcs.Provenance.Run(t.Context(), h.Client(), funcs.ProvenanceInput{},
			&perdure.StartOptions{TaskID: "p", Tags: map[string]string{"tier": "gold"}, Session: "s"})
		if err != nil {
			t.Fatal(err)
		}
		out := r.Output
		if out.Title != "where p came from" || out.Tags["tier"] != "gold" || out.Tags["example"] != "provenance" || out.Session != "s" {
			t.Errorf("got %+v, want its own title, and the caller's tags over its own", out)
		}
		if out.Source.Func != "provenance" || out.Source.Program == "" || out.Source != h.Task("p").Source {
			t.Errorf("got source %+v, want the one of the task: %+v", out.Source, h.Task("p").Source)
		}
	})
}
