package engine_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/internal/rig"
	"github.com/perdure/perdure/store/memstore"
)

var errNo = errors.New("no")

// attempts runs one turn whose attempts fail with what a function makes, and returns when they began.
func attempts(t *testing.T, opts rig.Options, fail func(*rig.Turn) error, do func(t *testing.T, s *rig.Server, f *rig.Func, h *perdure.Handle[int])) []time.Duration {
	t.Helper()
	f := perdure.NewFunc[int, int]("f", &opts)
	var e entries
	rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
		h := rig.Start(t, s.Client, f, 1, "t")
		synctest.Wait()
		do(t, s, f, h)
	}, f.Bind(func(_ context.Context, turn *rig.Turn) (int, error) {
		e.note(turn)
		return turn.Input(), fail(turn)
	}))
	var at []time.Duration
	for _, entry := range e.Get() {
		at = append(at, entry.at.Sub(e.Get()[0].at).Truncate(10*time.Millisecond))
	}
	return at
}

func alwaysNo(*rig.Turn) error { return errNo }

func exhausted(t *testing.T, _ *rig.Server, _ *rig.Func, h *perdure.Handle[int]) {
	rig.Ends(t, "Y3", h, perdure.Failed)
}

func TestTheRetryPolicySetsTheDelays(t *testing.T) {
	never := func(err error) bool { return !errors.Is(err, errNo) }
	for name, c := range map[string]struct {
		policy perdure.RetryPolicy
		fail   func(*rig.Turn) error
		want   []time.Duration
	}{
		"none":        {perdure.NoRetry(), alwaysNo, []time.Duration{0}},
		"fixed":       {perdure.FixedRetry(3, time.Minute), alwaysNo, []time.Duration{0, 1, 2}},
		"linear":      {perdure.LinearRetry(4, time.Minute), alwaysNo, []time.Duration{0, 1, 3, 6}},
		"exponential": {perdure.RetryPolicy{Attempts: 5, Initial: time.Minute, Factor: 2, Max: 3 * time.Minute}, alwaysNo, []time.Duration{0, 1, 3, 6, 9}},
		"permanent":   {perdure.FixedRetry(3, time.Minute), func(*rig.Turn) error { return perdure.Permanent(errNo) }, []time.Duration{0}},
		"after":       {perdure.FixedRetry(3, time.Minute), func(*rig.Turn) error { return perdure.RetryAfter(5*time.Minute, errNo) }, []time.Duration{0, 5, 10}},
		"predicate":   {perdure.RetryPolicy{Attempts: 3, Retryable: never}, alwaysNo, []time.Duration{0}},
	} {
		t.Run(name, func(t *testing.T) {
			got := attempts(t, rig.Options{Retry: c.policy}, c.fail, exhausted)
			for i := range c.want {
				c.want[i] *= time.Minute
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("Y1: attempts at %v, want %v", got, c.want)
			}
		})
	}
}

func TestARetryPolicyOfACallHoldsForItsTask(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", nil)
	rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
		retry := perdure.FixedRetry(3, time.Minute)
		h := rig.StartWith(t, s.Client, f, 1, &perdure.StartOptions{Retry: &retry})
		rig.Ends(t, "Y1", h, perdure.Failed)
		rig.Is(t, "Y2: attempts", rig.Task(t, s.Client, h.TaskID()).Turn.Attempt, 3)
		bad := perdure.RetryPolicy{Attempts: -1}
		_, err := f.Start(t.Context(), s.Client, 1, &perdure.StartOptions{Retry: &bad})
		rig.Fails(t, "Y1: an invalid policy", err, perdure.ErrInvalid)
		rig.Fails(t, "Y1: an invalid declaration", perdure.NewFunc[int, int]("f", &rig.Options{Retry: bad}).Err(), perdure.ErrInvalid)
	}, f.Bind(func(context.Context, *rig.Turn) (int, error) { return 0, errNo }))
}

func TestABackOffSurvivesARestartWithWhatIsLeftOfIt(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		mem := memstore.New()
		f := perdure.NewFunc[int, int]("f", &rig.Options{Retry: perdure.FixedRetry(2, time.Hour)})
		bind := f.Bind(func(_ context.Context, turn *rig.Turn) (int, error) {
			if turn.Attempt() == 1 {
				return 0, errNo
			}
			rig.Is(t, "Y2: entry", turn.Entry(), perdure.Fresh)
			return turn.Attempt(), nil
		})
		s := rig.Serve(t, mem, perdure.Options{}, bind)
		began := time.Now()
		rig.Start(t, s.Client, f, 1, "t")
		rig.After(20 * time.Minute)
		info := rig.Task(t, s.Client, "t")
		rig.Is(t, "Y2: status", info.Status, perdure.Pending)
		rig.Is(t, "Y2: waiting for", info.WaitingFor, "retry")
		rig.Is(t, "Y2: lease", info.Lease, nil)
		rig.Is(t, "Y2: running", s.Counter("turns_running"), 0)
		rig.Is(t, "Run", s.Stop(), nil)
		rig.After(20 * time.Minute)
		s = rig.Serve(t, mem, perdure.Options{}, bind)
		h := rig.Attach(t, s.Client, f, "t")
		rig.Is(t, "Y2: attempts", rig.Ends(t, "Y2", h, perdure.Completed).Output, 2)
		rig.Is(t, "Y2: it took", time.Since(began).Truncate(time.Second), time.Hour)
	})
}

func TestACancelEndsABackOffAtOnce(t *testing.T) {
	got := attempts(t, rig.Options{Retry: perdure.FixedRetry(2, time.Hour)}, alwaysNo, func(t *testing.T, _ *rig.Server, _ *rig.Func, h *perdure.Handle[int]) {
		if err := h.Cancel(t.Context(), "enough"); err != nil {
			t.Fatal(err)
		}
		rig.Is(t, "C3: reason", rig.Ends(t, "C3", h, perdure.Cancelled).Reason, "enough")
	})
	rig.Is(t, "Y2: entries", len(got), 1)
}

func TestASteerEndsABackOffEarlyButNotARetryAfter(t *testing.T) {
	steer := func(deliver perdure.Deliver) func(*testing.T, *rig.Server, *rig.Func, *perdure.Handle[int]) {
		return func(t *testing.T, s *rig.Server, f *rig.Func, h *perdure.Handle[int]) {
			rig.After(time.Minute)
			rig.StartWith(t, s.Client, f, 2, &perdure.StartOptions{TaskID: "t", Deliver: deliver})
			rig.Ends(t, "Y2", h, perdure.Completed)
		}
	}
	opts := rig.Options{Steerable: true, Retry: perdure.FixedRetry(2, 55*time.Minute)}
	for name, c := range map[string]struct {
		wrap    func(error) error
		deliver perdure.Deliver
		want    time.Duration
	}{
		"steer":   {func(err error) error { return err }, perdure.Interrupt, time.Minute},
		"enqueue": {func(err error) error { return err }, perdure.Enqueue, 55 * time.Minute},
		"after":   {func(err error) error { return perdure.RetryAfter(50*time.Minute, err) }, perdure.Interrupt, 50 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			got := attempts(t, opts, func(turn *rig.Turn) error {
				if turn.Number() == 1 && turn.Attempt() == 1 {
					return c.wrap(errNo)
				}
				if turn.Number() == 1 {
					rig.Is(t, "Y2: interrupted", turn.Causes().Steered, c.deliver == perdure.Interrupt)
				}
				return nil
			}, steer(c.deliver))
			rig.Is(t, "Y2: the second attempt", got[1], c.want)
		})
	}
}
