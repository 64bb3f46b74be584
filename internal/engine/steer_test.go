package engine_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/rig"
)

// graceful runs a steerable func with a SteerGrace of five seconds whose turn stays until it is let go,
// and gives the test that turn.
func graceful(t *testing.T, test func(t *testing.T, s *rig.Server, f *rig.Func, turn *rig.Turn, ctx context.Context)) {
	t.Helper()
	type entered struct {
		ctx  context.Context
		turn *rig.Turn
	}
	turns, leave := make(chan entered), make(chan struct{})
	f := perdure.NewFunc[int, int]("f", &rig.Options{MultiTurn: true, Steerable: true, SteerGrace: 5 * time.Second, Timeout: time.Minute})
	rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
		turns, leave = make(chan entered, 1), make(chan struct{})
		rig.Start(t, s.Client, f, 1, "t")
		e := <-turns
		test(t, s, f, e.turn, e.ctx)
		close(leave)
	}, f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
		select {
		case turns <- entered{ctx, turn}:
			<-leave
		default:
		}
		return turn.Input(), nil
	}))
}

// seen says where a turn sees that it is asked to wrap up.
func seen(turn *rig.Turn, ctx context.Context) string {
	safePoint, interrupt := turn.SafePoint(ctx) != nil, turn.Interrupt().Err() != nil
	switch {
	case safePoint && interrupt:
		return "everywhere"
	case safePoint:
		return "at a safe point"
	case interrupt:
		return "in the interrupt alone"
	}
	return "nowhere"
}

func TestASteerIsSeenAtASafePointAndAfterItsGraceEverywhere(t *testing.T) {
	graceful(t, func(t *testing.T, s *rig.Server, f *rig.Func, turn *rig.Turn, ctx context.Context) {
		rig.Is(t, "before", seen(turn, ctx), "nowhere")
		rig.StartWith(t, s.Client, f, 2, &perdure.StartOptions{TaskID: "t", Deliver: perdure.Enqueue})
		rig.Is(t, "enqueue sets no cause", seen(turn, ctx), "nowhere")
		h := rig.Start(t, s.Client, f, 3, "t")
		rig.Is(t, "steered", seen(turn, ctx), "at a safe point")
		rig.Is(t, "Interrupted", turn.Interrupted(), true)
		rig.Fails(t, "the safe point's error", turn.SafePoint(ctx), perdure.ErrInterrupted)
		if err := h.Cancel(t.Context(), "withdrawn"); err != nil {
			t.Fatal(err)
		}
		rig.Is(t, "a withdrawn input takes no cause back", seen(turn, ctx), "at a safe point")
		rig.After(5*time.Second - time.Millisecond)
		synctest.Wait()
		rig.Is(t, "just before the grace is over", seen(turn, ctx), "at a safe point")
		rig.After(2 * time.Millisecond)
		synctest.Wait()
		rig.Is(t, "after the grace", seen(turn, ctx), "everywhere")
		rig.Fails(t, "cause of the interrupt", context.Cause(turn.Interrupt()), perdure.ErrInterrupted)
		rig.Is(t, "ctx goes on", ctx.Err(), nil)
	})
}

func TestOtherCausesDoNotWaitForTheGraceOfASteer(t *testing.T) {
	for name, ask := range map[string]func(t *testing.T, s *rig.Server){
		"cancel":   func(t *testing.T, s *rig.Server) { s.Client.Cancel(t.Context(), "t", nil) },
		"deadline": func(*testing.T, *rig.Server) { rig.After(56 * time.Second) },
		"shutdown": func(_ *testing.T, s *rig.Server) { s.End() },
	} {
		t.Run(name, func(t *testing.T) {
			graceful(t, func(t *testing.T, s *rig.Server, f *rig.Func, turn *rig.Turn, ctx context.Context) {
				if name == "deadline" {
					rig.After(4 * time.Second)
				}
				rig.Start(t, s.Client, f, 2, "t")
				rig.Is(t, "steered", seen(turn, ctx), "at a safe point")
				ask(t, s)
				synctest.Wait()
				rig.Is(t, "then "+name, seen(turn, ctx), "everywhere")
			})
		})
	}
}

func TestASafePointTellsWhyTheTurnMayNotWrite(t *testing.T) {
	graceful(t, func(t *testing.T, s *rig.Server, _ *rig.Func, turn *rig.Turn, ctx context.Context) {
		ended, cancel := context.WithCancelCause(ctx)
		cancel(context.DeadlineExceeded)
		rig.Fails(t, "of a context that has ended", turn.SafePoint(ended), context.DeadlineExceeded)
		if _, err := s.Client.Terminate(t.Context(), "t", nil); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		rig.Fails(t, "of a terminated turn", turn.SafePoint(ctx), perdure.ErrTerminated)
	})
}

func TestATurnOfABurstIsEnteredWithTheCauseAndHasItsGrace(t *testing.T) {
	var first, second rig.Box[string]
	f := perdure.NewFunc[int, int]("f", &rig.Options{MultiTurn: true, Steerable: true, SteerGrace: 5 * time.Second})
	rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
		rig.Start(t, s.Client, f, 1, "t")
		rig.Start(t, s.Client, f, 2, "t")
		last := rig.Start(t, s.Client, f, 3, "t")
		rig.Ends(t, "G1", last, perdure.Completed)
		rig.Is(t, "G1: at entry", first.Get(), "at a safe point")
		rig.Is(t, "G1: after the grace", second.Get(), "everywhere")
	}, f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
		switch turn.Input() {
		case 1:
			<-turn.Interrupt().Done()
		case 2:
			first.Set(seen(turn, ctx))
			rig.After(5 * time.Second)
			synctest.Wait()
			second.Set(seen(turn, ctx))
		}
		return 0, nil
	}))
}
