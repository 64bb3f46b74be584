package perduretest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/perduretest"
)

type count struct {
	Steps int `json:"steps"`
}

type counted struct {
	Entries []string `json:"entries"`
	Steps   int      `json:"steps"`
}

var counter = perdure.NewFunc[count, counted]("counter", &perdure.FuncOptions[count]{Retry: perdure.FixedRetry(3, time.Hour)})

// stepwise takes one checkpoint per step and remembers how it was entered.
func stepwise(ctx context.Context, turn *perdure.Turn[count, counted]) (counted, error) {
	m := turn.Metadata()
	if err := m.Append("entries", turn.Entry()); err != nil {
		return counted{}, err
	}
	if err := turn.Checkpoint(ctx); err != nil {
		return counted{}, err
	}
	var done counted
	if _, err := m.Get("steps", &done.Steps); err != nil {
		return counted{}, err
	}
	for done.Steps < turn.Input().Steps {
		select {
		case <-time.After(time.Second):
		case <-turn.Interrupt().Done():
			return counted{}, context.Cause(turn.Interrupt())
		}
		done.Steps++
		if err := m.Set("steps", done.Steps); err != nil {
			return counted{}, err
		}
		if err := turn.Checkpoint(ctx); err != nil {
			return counted{}, err
		}
	}
	_, err := m.Get("entries", &done.Entries)
	return done, err
}

func TestACrashAtEveryWriteIsSurvived(t *testing.T) {
	const steps = 3
	writes := map[perduretest.Write]int{perduretest.Start: 1, perduretest.Checkpoint: steps + 1, perduretest.End: 1}
	for write, n := range writes {
		for i := 1; i <= n; i++ {
			for _, when := range []perduretest.When{perduretest.Before, perduretest.After} {
				perduretest.Run(t, nil, func(t *testing.T, h *perduretest.Harness) {
					h.CrashAt(when, write, i)
					res, err := counter.Run(t.Context(), h.Client(), count{steps}, &perdure.StartOptions{TaskID: "c"})
					if err != nil || res.Output.Steps != steps {
						t.Fatalf("%v %s %d: got %+v, %v", when, write, i, res, err)
					}
					if turns := h.Turns("c"); len(turns) != 1 || turns[0].Attempt != 1 {
						t.Errorf("%v %s %d: turns: %+v", when, write, i, turns[0])
					}
				}, counter.Bind(stepwise))
			}
		}
	}
}

func TestARestartIsEnteredAsRecoveredUncounted(t *testing.T) {
	perduretest.Run(t, nil, func(t *testing.T, h *perduretest.Harness) {
		handle, err := counter.Start(t.Context(), h.Client(), count{10}, nil)
		if err != nil {
			t.Fatal(err)
		}
		h.Advance(3500 * time.Millisecond)
		h.Restart()
		res, err := handle.Result(t.Context())
		if err != nil || len(res.Output.Entries) != 2 || res.Output.Entries[1] != "recovered" {
			t.Fatalf("got %+v, %v", res, err)
		}
		if turn := h.Turns(handle.TaskID())[0]; turn.Recoveries != 0 || turn.Attempt != 1 {
			t.Errorf("a release at shutdown was counted: %+v", turn)
		}
	}, counter.Bind(stepwise))
}

func TestARetryInAnHourTakesNoTime(t *testing.T) {
	flaky := func(ctx context.Context, turn *perdure.Turn[count, counted]) (counted, error) {
		if turn.Attempt() < 3 {
			return counted{}, errors.New("not yet")
		}
		return counted{Steps: turn.Attempt()}, nil
	}
	perduretest.Run(t, nil, func(t *testing.T, h *perduretest.Harness) {
		began := time.Now()
		res, err := counter.Run(t.Context(), h.Client(), count{}, nil)
		if err != nil || res.Output.Steps != 3 {
			t.Fatalf("got %+v, %v", res, err)
		}
		if waited := time.Since(began); waited < 2*time.Hour || waited > 2*time.Hour+time.Minute {
			t.Errorf("waited %v of virtual time, want two hours", waited)
		}
	}, counter.Bind(flaky))
}
