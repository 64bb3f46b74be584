package perdure_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/store/memstore"
)

func TestBeyondCapacityATaskIsPendingAndRunsWhenASlotIsFree(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		word := make(chan struct{})
		f := perdure.NewFunc[int, int]("f", nil)
		s := serve(t, memstore.New(), perdure.Options{MaxRunning: 2}, f.Bind(func(context.Context, *turnOf) (int, error) {
			<-word
			return 1, nil
		}))
		for i := range 4 {
			start(t, s.c, f, 1, fmt.Sprint("t", i))
		}
		synctest.Wait()
		is(t, "P5: status beyond capacity", task(t, s.c, "t2").Status, perdure.Pending)
		is(t, "P5: waiting for", task(t, s.c, "t2").WaitingFor, "capacity")
		began := time.Now()
		word <- struct{}{}
		synctest.Wait()
		is(t, "P5: the oldest goes first", task(t, s.c, "t2").Status, perdure.InProgress)
		is(t, "P5: the other waits", task(t, s.c, "t3").Status, perdure.Pending)
		is(t, "P5: it took", time.Since(began), 0)
		for range 3 {
			word <- struct{}{}
		}
		synctest.Wait()
		is(t, "P5: the last", task(t, s.c, "t3").Status, perdure.Completed)
		is(t, "P5: running", s.counter("turns_running"), 0)
	})
}

func TestAFuncAtItsOwnLimitDoesNotHoldUpTheOthers(t *testing.T) {
	a := perdure.NewFunc[int, int]("a", &options{MaxRunning: 1})
	b := perdure.NewFunc[int, int]("b", nil)
	in(t, perdure.Options{MaxRunning: 3}, func(t *testing.T, s *server) {
		for i := range 5 {
			start(t, s.c, a, 1, fmt.Sprint("a", i))
		}
		is(t, "P5: output", ends(t, "P5", start(t, s.c, b, 7, "b"), perdure.Completed).Output, 7)
		synctest.Wait()
		is(t, "P5: running", s.counter("turns_running"), 1)
		is(t, "P5: status of the second", task(t, s.c, "a1").Status, perdure.Pending)
	}, a.Bind(stay), b.Bind(echo))
}

func TestAPromotedTurnKeepsItsSlotOnceWhenOthersWait(t *testing.T) {
	for name, same := range map[string]bool{"of the same func": true, "of another func": false} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				word := make(chan struct{})
				chain := perdure.NewFunc[int, int]("chain", &options{MultiTurn: true, Steerable: true})
				other := perdure.NewFunc[int, int]("other", nil)
				handle := func(context.Context, *turnOf) (int, error) {
					<-word
					return 1, nil
				}
				s := serve(t, memstore.New(), perdure.Options{MaxRunning: 1}, chain.Bind(handle), other.Bind(handle))
				for i := range 6 {
					start(t, s.c, chain, i, "chain")
				}
				waits := other
				if same {
					waits = chain
				}
				start(t, s.c, waits, 1, "waits")
				turns := 0
				for task(t, s.c, "waits").Status == perdure.Pending && turns < 6 {
					after(time.Millisecond)
					word <- struct{}{}
					synctest.Wait()
					turns++
				}
				is(t, "P5: turns that went before a task "+name, turns, 2)
				for range 7 - turns {
					word <- struct{}{}
				}
			})
		})
	}
}

func TestNoSlotIsLost(t *testing.T) {
	const tasks = 3000
	f := perdure.NewFunc[int, int]("f", &options{
		MultiTurn: true, Steerable: true, MaxRunning: 7, Retry: perdure.FixedRetry(2, time.Second),
		Timeout: 20 * time.Second, TimeoutGrace: time.Second, MaxRecoveries: 2,
	})
	g := perdure.NewFunc[int, int]("g", &options{Ephemeral: true})
	handle := func(ctx context.Context, turn *turnOf) (int, error) {
		after(time.Duration(rand.IntN(3)) * 100 * time.Millisecond)
		switch turn.Input() % 9 {
		case 0:
			return 0, errors.New("no")
		case 1:
			return turn.Suspend(1, "")
		case 2:
			return turn.Finish(1)
		case 3:
			return turn.Release()
		case 4:
			panic("no")
		case 5:
			<-turn.Interrupt().Done()
			return 0, context.Cause(turn.Interrupt())
		case 6:
			<-ctx.Done()
			after(time.Duration(rand.IntN(30)) * time.Second)
			return 0, ctx.Err()
		case 7:
			_ = turn.Metadata().Set("n", 1)
			return 1, turn.Checkpoint(turn.Interrupt())
		}
		return turn.Input(), nil
	}
	in(t, perdure.Options{MaxRunning: 11}, func(t *testing.T, s *server) {
		var calls sync.WaitGroup
		for i := range tasks {
			calls.Go(func() {
				after(time.Duration(rand.IntN(60_000)) * time.Millisecond)
				id := fmt.Sprint("t", rand.IntN(tasks/4))
				from := []*fn{f, g}[i%2]
				if _, err := from.Start(t.Context(), s.c, rand.IntN(100), &perdure.StartOptions{TaskID: id}); err != nil {
					return
				}
				after(time.Duration(rand.IntN(1000)) * time.Millisecond)
				switch rand.IntN(6) {
				case 0:
					_, _ = s.c.Cancel(t.Context(), id, nil)
				case 1:
					_, _ = s.c.Terminate(t.Context(), id, nil)
				case 2:
					_ = s.c.Delete(t.Context(), id, nil)
				}
			})
		}
		calls.Wait()
		for info, err := range s.c.Tasks(t.Context(), nil) {
			if err != nil {
				t.Fatal(err)
			}
			_, _ = s.c.Terminate(t.Context(), info.ID, nil)
		}
		after(time.Minute)
		is(t, "P5: running at the end", s.counter("turns_running"), 0)
		hs := make([]*perdure.Handle[int], 0, 11)
		for i := range 11 {
			from := g
			if i < 7 {
				from = f
			}
			hs = append(hs, start(t, s.c, from, 5, fmt.Sprint("last", i)))
		}
		synctest.Wait()
		is(t, "P5: slots that are left", s.counter("turns_running"), 11)
		for _, h := range hs {
			if err := h.Cancel(t.Context(), ""); err != nil {
				t.Error(err)
			}
		}
	}, f.Bind(handle), g.Bind(handle))
}
