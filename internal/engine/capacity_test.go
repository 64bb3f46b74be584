package engine_test

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
	"github.com/perdure/perdure/internal/rig"
	"github.com/perdure/perdure/store/memstore"
	"github.com/perdure/perdure/store/storetest"
)

func TestBeyondCapacityATaskIsPendingAndRunsWhenASlotIsFree(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		word := make(chan struct{})
		f := perdure.NewFunc[int, int]("f", nil)
		s := rig.Serve(t, memstore.New(), perdure.Options{MaxRunning: 2}, f.Bind(func(context.Context, *rig.Turn) (int, error) {
			<-word
			return 1, nil
		}))
		for i := range 4 {
			rig.Start(t, s.Client, f, 1, fmt.Sprint("t", i))
		}
		synctest.Wait()
		rig.Is(t, "P5: status beyond capacity", rig.Task(t, s.Client, "t2").Status, perdure.Pending)
		rig.Is(t, "P5: waiting for", rig.Task(t, s.Client, "t2").WaitingFor, "capacity")
		began := time.Now()
		word <- struct{}{}
		synctest.Wait()
		rig.Is(t, "P5: the oldest goes first", rig.Task(t, s.Client, "t2").Status, perdure.InProgress)
		rig.Is(t, "P5: the other waits", rig.Task(t, s.Client, "t3").Status, perdure.Pending)
		rig.Is(t, "P5: it took", time.Since(began), 0)
		for range 3 {
			word <- struct{}{}
		}
		synctest.Wait()
		rig.Is(t, "P5: the last", rig.Task(t, s.Client, "t3").Status, perdure.Completed)
		rig.Is(t, "P5: running", s.Counter("turns_running"), 0)
	})
}

func TestAFuncAtItsOwnLimitDoesNotHoldUpTheOthers(t *testing.T) {
	a := perdure.NewFunc[int, int]("a", &rig.Options{MaxRunning: 1})
	b := perdure.NewFunc[int, int]("b", nil)
	rig.In(t, perdure.Options{MaxRunning: 3}, func(t *testing.T, s *rig.Server) {
		for i := range 5 {
			rig.Start(t, s.Client, a, 1, fmt.Sprint("a", i))
		}
		rig.Is(t, "P5: output", rig.Ends(t, "P5", rig.Start(t, s.Client, b, 7, "b"), perdure.Completed).Output, 7)
		synctest.Wait()
		rig.Is(t, "P5: running", s.Counter("turns_running"), 1)
		rig.Is(t, "P5: status of the second", rig.Task(t, s.Client, "a1").Status, perdure.Pending)
	}, a.Bind(rig.Stay), b.Bind(rig.Echo))
}

func TestAPromotedTurnKeepsItsSlotOnceWhenOthersWait(t *testing.T) {
	for name, same := range map[string]bool{"of the same func": true, "of another func": false} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				word := make(chan struct{})
				chain := perdure.NewFunc[int, int]("chain", &rig.Options{MultiTurn: true, Steerable: true})
				other := perdure.NewFunc[int, int]("other", nil)
				handle := func(context.Context, *rig.Turn) (int, error) {
					<-word
					return 1, nil
				}
				s := rig.Serve(t, memstore.New(), perdure.Options{MaxRunning: 1}, chain.Bind(handle), other.Bind(handle))
				for i := range 6 {
					rig.Start(t, s.Client, chain, i, "chain")
				}
				waits := other
				if same {
					waits = chain
				}
				rig.Start(t, s.Client, waits, 1, "waits")
				turns := 0
				for rig.Task(t, s.Client, "waits").Status == perdure.Pending && turns < 6 {
					rig.After(time.Millisecond)
					word <- struct{}{}
					synctest.Wait()
					turns++
				}
				rig.Is(t, "P5: turns that went before a task "+name, turns, 2)
				for range 7 - turns {
					word <- struct{}{}
				}
			})
		})
	}
}

func TestNoSlotIsLost(t *testing.T) {
	const tasks = 3000
	f := perdure.NewFunc[int, int]("f", &rig.Options{
		MultiTurn: true, Steerable: true, MaxRunning: 7, Retry: perdure.FixedRetry(2, time.Second),
		Timeout: 20 * time.Second, TimeoutGrace: time.Second, MaxRecoveries: 2,
	})
	g := perdure.NewFunc[int, int]("g", &rig.Options{Ephemeral: true})
	handle := func(ctx context.Context, turn *rig.Turn) (int, error) {
		rig.After(time.Duration(rand.IntN(3)) * 100 * time.Millisecond)
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
			rig.After(time.Duration(rand.IntN(30)) * time.Second)
			return 0, ctx.Err()
		case 7:
			_ = turn.Metadata().Set("n", 1)
			return 1, turn.Checkpoint(turn.Interrupt())
		}
		return turn.Input(), nil
	}
	rig.In(t, perdure.Options{MaxRunning: 11}, func(t *testing.T, s *rig.Server) {
		var calls sync.WaitGroup
		for i := range tasks {
			calls.Go(func() {
				rig.After(time.Duration(rand.IntN(60_000)) * time.Millisecond)
				id := fmt.Sprint("t", rand.IntN(tasks/4))
				from := []*rig.Func{f, g}[i%2]
				if _, err := from.Start(t.Context(), s.Client, rand.IntN(100), &perdure.StartOptions{TaskID: id}); err != nil {
					return
				}
				rig.After(time.Duration(rand.IntN(1000)) * time.Millisecond)
				switch rand.IntN(6) {
				case 0:
					_, _ = s.Client.Cancel(t.Context(), id, nil)
				case 1:
					_, _ = s.Client.Terminate(t.Context(), id, nil)
				case 2:
					_ = s.Client.Delete(t.Context(), id, nil)
				}
			})
		}
		calls.Wait()
		for info, err := range s.Client.Tasks(t.Context(), nil) {
			if err != nil {
				t.Fatal(err)
			}
			_, _ = s.Client.Terminate(t.Context(), info.ID, nil)
		}
		rig.After(time.Minute)
		rig.Is(t, "P5: running at the end", s.Counter("turns_running"), 0)
		hs := make([]*perdure.Handle[int], 0, 11)
		for i := range 11 {
			from := g
			if i < 7 {
				from = f
			}
			hs = append(hs, rig.Start(t, s.Client, from, 5, fmt.Sprint("last", i)))
		}
		synctest.Wait()
		rig.Is(t, "P5: slots that are left", s.Counter("turns_running"), 11)
		for _, h := range hs {
			if err := h.Cancel(t.Context(), ""); err != nil {
				t.Error(err)
			}
		}
	}, f.Bind(handle), g.Bind(handle))
}

// A func at its own limit: what waits in the store is taken as soon as a slot of the func is free.
func TestWhatWaitsForASlotOfItsFuncIsTakenAtOnce(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := perdure.NewFunc[int, int]("f", &rig.Options{MaxRunning: 1})
		st := memstore.New()
		other, err := perdure.New(st, &perdure.Options{}) // accepts, and runs nothing
		if err != nil {
			t.Fatal(err)
		}
		var hs []*perdure.Handle[int]
		for i := range 10 {
			hs = append(hs, rig.Start(t, other.Client(), f, 1, fmt.Sprint("t", i)))
		}
		began := time.Now()
		s := rig.Serve(t, st, perdure.Options{}, f.Bind(func(context.Context, *rig.Turn) (int, error) {
			rig.After(time.Millisecond)
			return 1, nil
		}))
		for _, h := range hs {
			h2, err := f.Attach(t.Context(), s.Client, h.TaskID(), nil)
			if err != nil {
				t.Fatal(err)
			}
			rig.Ends(t, "P5", h2, perdure.Completed)
		}
		if d := time.Since(began); d > 500*time.Millisecond {
			t.Errorf("P5: 10 tasks of 1 ms took %v with a slot", d)
		}
	})
}

// A worker that is fenced while its turn waits for an earlier handler; and MaxRunning of a func through fences: never
// more handlers inside than the limit.
func TestMaxRunningOfAFuncHoldsThroughFencesThatHandlersIgnore(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := perdure.NewFunc[int, int]("f", &rig.Options{MaxRunning: 2, MaxRecoveries: 1000})
		st, broken := rig.Faulty(memstore.New())
		var inside, most rig.Box[int]
		byTask := map[string]int{}
		var mu sync.Mutex
		s := rig.Serve(t, st, perdure.Options{Lease: time.Second}, f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
			inside.Change(func(n int) int { return n + 1 })
			most.Change(func(n int) int { return max(n, inside.Get()) })
			mu.Lock()
			byTask[turn.TaskID()]++
			if byTask[turn.TaskID()] > 1 {
				t.Errorf("O1: two handlers of %s", turn.TaskID())
			}
			mu.Unlock()
			rig.After(1700 * time.Millisecond)
			mu.Lock()
			byTask[turn.TaskID()]--
			mu.Unlock()
			inside.Change(func(n int) int { return n - 1 })
			return 1, nil
		}))
		n := 0
		broken.Set(func(c storetest.Call) storetest.Fault {
			if c.Op == "Heartbeat" {
				n++
				if n%7 >= 3 {
					return storetest.FailBefore
				}
			}
			return storetest.None
		})
		for i := range 12 {
			_, _ = f.Start(t.Context(), s.Client, 1, &perdure.StartOptions{TaskID: fmt.Sprint("t", i)})
		}
		rig.After(60 * time.Second)
		broken.Set(nil)
		for i := range 12 {
			rig.Ends(t, "R1", rig.Attach(t, s.Client, f, fmt.Sprint("t", i)), perdure.Completed)
		}
		if most.Get() > 2 {
			t.Errorf("MaxRunning: %d handlers at once", most.Get())
		}
	})
}
