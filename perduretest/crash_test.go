package perduretest_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/perduretest"
)

func TestACrashEndsTheHandlersOfTheProcessAtOnce(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", nil)
	var effects atomic.Int64
	perduretest.Run(t, nil, func(t *testing.T, h *perduretest.Harness) {
		if _, err := f.Start(t.Context(), h.Client(), 1, &perdure.StartOptions{TaskID: "t"}); err != nil {
			t.Fatal(err)
		}
		h.Advance(time.Second)
		h.Crash()
		synctest.Wait()
		before := effects.Load()
		h.Advance(perduretest.Lease / 2)
		if n := effects.Load() - before; n != 0 {
			t.Errorf("the handler of the dead process has had %d more effects", n)
		}
		h.Advance(perduretest.Lease)
		if effects.Load() == before {
			t.Error("no other process runs the task after the lease")
		}
	}, f.Bind(func(ctx context.Context, _ *perdure.Turn[int, int]) (int, error) {
		for {
			select {
			case <-ctx.Done():
				return 0, context.Cause(ctx)
			case <-time.After(10 * time.Millisecond):
				effects.Add(1)
			}
		}
	}))
}

func TestADeadProcessReachesTheStoreByNoMethod(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", nil)
	perduretest.Run(t, nil, func(t *testing.T, h *perduretest.Harness) {
		if _, err := f.Run(t.Context(), h.Client(), 1, &perdure.StartOptions{TaskID: "t"}); err != nil {
			t.Fatal(err)
		}
		dead := h.Engine().Client()
		h.Crash()
		for name, call := range map[string]func() error{
			"Task":      func() error { _, err := dead.Task(t.Context(), "t"); return err },
			"Turn":      func() error { _, err := dead.Turn(t.Context(), perdure.TurnQuery{TaskID: "t"}); return err },
			"Start":     func() error { _, err := f.Start(t.Context(), dead, 1, nil); return err },
			"Cancel":    func() error { _, err := dead.Cancel(t.Context(), "t", nil); return err },
			"Terminate": func() error { _, err := dead.Terminate(t.Context(), "t", nil); return err },
			"Resume":    func() error { _, err := dead.Resume(t.Context(), "t", nil); return err },
			"Delete":    func() error { return dead.Delete(t.Context(), "t", nil) },
			"Tasks": func() (err error) {
				for _, err = range dead.Tasks(t.Context(), nil) {
				}
				return err
			},
			"Turns": func() (err error) {
				for _, err = range dead.Turns(t.Context(), "t", nil) {
				}
				return err
			},
			"Events": func() (err error) {
				for _, err = range dead.Events(t.Context(), "t", nil) {
				}
				return err
			},
		} {
			if err := call(); err == nil {
				t.Errorf("%s of a dead process has succeeded", name)
			}
		}
		if got := h.Task("t").Status; got != perdure.Completed {
			t.Errorf("got status %s, want what it was", got)
		}
	}, f.Bind(func(context.Context, *perdure.Turn[int, int]) (int, error) { return 1, nil }))
}
