package perdure_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure"
)

// graceful runs a steerable func with a SteerGrace of five seconds whose turn stays until it is let go,
// and gives the test that turn.
func graceful(t *testing.T, test func(t *testing.T, s *server, f *fn, turn *turnOf, ctx context.Context)) {
	t.Helper()
	type entered struct {
		ctx  context.Context
		turn *turnOf
	}
	turns, leave := make(chan entered), make(chan struct{})
	f := perdure.NewFunc[int, int]("f", &options{MultiTurn: true, Steerable: true, SteerGrace: 5 * time.Second, Timeout: time.Minute})
	in(t, perdure.Options{}, func(t *testing.T, s *server) {
		turns, leave = make(chan entered, 1), make(chan struct{})
		start(t, s.c, f, 1, "t")
		e := <-turns
		test(t, s, f, e.turn, e.ctx)
		close(leave)
	}, f.Bind(func(ctx context.Context, turn *turnOf) (int, error) {
		select {
		case turns <- entered{ctx, turn}:
			<-leave
		default:
		}
		return turn.Input(), nil
	}))
}

// seen says where a turn sees that it is asked to wrap up.
func seen(turn *turnOf, ctx context.Context) string {
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
	graceful(t, func(t *testing.T, s *server, f *fn, turn *turnOf, ctx context.Context) {
		is(t, "before", seen(turn, ctx), "nowhere")
		startWith(t, s.c, f, 2, &perdure.StartOptions{TaskID: "t", Deliver: perdure.Enqueue})
		is(t, "enqueue sets no cause", seen(turn, ctx), "nowhere")
		h := start(t, s.c, f, 3, "t")
		is(t, "steered", seen(turn, ctx), "at a safe point")
		is(t, "Interrupted", turn.Interrupted(), true)
		fails(t, "the safe point's error", turn.SafePoint(ctx), perdure.ErrInterrupted)
		if err := h.Cancel(t.Context(), "withdrawn"); err != nil {
			t.Fatal(err)
		}
		is(t, "a withdrawn input takes no cause back", seen(turn, ctx), "at a safe point")
		after(5*time.Second - time.Millisecond)
		synctest.Wait()
		is(t, "just before the grace is over", seen(turn, ctx), "at a safe point")
		after(2 * time.Millisecond)
		synctest.Wait()
		is(t, "after the grace", seen(turn, ctx), "everywhere")
		fails(t, "cause of the interrupt", context.Cause(turn.Interrupt()), perdure.ErrInterrupted)
		is(t, "ctx goes on", ctx.Err(), nil)
	})
}

func TestOtherCausesDoNotWaitForTheGraceOfASteer(t *testing.T) {
	for name, ask := range map[string]func(t *testing.T, s *server){
		"cancel":   func(t *testing.T, s *server) { s.c.Cancel(t.Context(), "t", nil) },
		"deadline": func(*testing.T, *server) { after(56 * time.Second) },
		"shutdown": func(_ *testing.T, s *server) { s.end() },
	} {
		t.Run(name, func(t *testing.T) {
			graceful(t, func(t *testing.T, s *server, f *fn, turn *turnOf, ctx context.Context) {
				if name == "deadline" {
					after(4 * time.Second)
				}
				start(t, s.c, f, 2, "t")
				is(t, "steered", seen(turn, ctx), "at a safe point")
				ask(t, s)
				synctest.Wait()
				is(t, "then "+name, seen(turn, ctx), "everywhere")
			})
		})
	}
}

func TestASafePointTellsWhyTheTurnMayNotWrite(t *testing.T) {
	graceful(t, func(t *testing.T, s *server, _ *fn, turn *turnOf, ctx context.Context) {
		ended, cancel := context.WithCancelCause(ctx)
		cancel(context.DeadlineExceeded)
		fails(t, "of a context that has ended", turn.SafePoint(ended), context.DeadlineExceeded)
		if _, err := s.c.Terminate(t.Context(), "t", nil); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		fails(t, "of a terminated turn", turn.SafePoint(ctx), perdure.ErrTerminated)
	})
}

func TestATurnOfABurstIsEnteredWithTheCauseAndHasItsGrace(t *testing.T) {
	var first, second box[string]
	f := perdure.NewFunc[int, int]("f", &options{MultiTurn: true, Steerable: true, SteerGrace: 5 * time.Second})
	in(t, perdure.Options{}, func(t *testing.T, s *server) {
		start(t, s.c, f, 1, "t")
		start(t, s.c, f, 2, "t")
		last := start(t, s.c, f, 3, "t")
		ends(t, "G1", last, perdure.Completed)
		is(t, "G1: at entry", first.get(), "at a safe point")
		is(t, "G1: after the grace", second.get(), "everywhere")
	}, f.Bind(func(ctx context.Context, turn *turnOf) (int, error) {
		switch turn.Input() {
		case 1:
			<-turn.Interrupt().Done()
		case 2:
			first.set(seen(turn, ctx))
			after(5 * time.Second)
			synctest.Wait()
			second.set(seen(turn, ctx))
		}
		return 0, nil
	}))
}
