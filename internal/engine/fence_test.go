package engine_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/internal/rig"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/memstore"
	"github.com/perdure/perdure/store/storetest"
)

// beats decides only over heartbeats that renew a lease.
func beats(fault storetest.Fault) func(storetest.Call) storetest.Fault {
	return func(c storetest.Call) storetest.Fault {
		if r, ok := c.Req.(*store.HeartbeatRequest); ok && !r.First {
			return fault
		}
		return storetest.None
	}
}

func TestWhatHandlersReturnBecauseTheirWorkerEndedIsNoOutcome(t *testing.T) {
	const turns, rounds = 100, 3
	bubble.Test(t, func(t *testing.T) {
		st, broken := rig.Faulty(memstore.New())
		var enough atomic.Bool
		f := perdure.NewFunc[int, int]("f", &rig.Options{Retry: perdure.FixedRetry(5, time.Second)})
		s := rig.Serve(t, st, perdure.Options{Lease: lease, MaxRunning: turns}, f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
			for !enough.Load() {
				select {
				case <-ctx.Done():
					return 0, fmt.Errorf("the model hung up: %w", context.Cause(ctx))
				case <-time.After(time.Second):
				}
			}
			return turn.Attempt(), nil
		}))
		var handles []*perdure.Handle[int]
		for i := range turns {
			handles = append(handles, rig.Start(t, s.Client, f, i, fmt.Sprint("t", i)))
		}
		for range rounds {
			synctest.Wait()
			broken.Set(beats(storetest.FailBefore))
			rig.After(lease)
			broken.Set(nil)
			rig.After(2 * time.Minute) // those that are stopped often, and do not live that long, are suspects
			rig.Is(t, "turns that run", s.Counter("turns_running"), turns)
		}
		enough.Store(true)
		for _, h := range handles {
			rig.Is(t, "attempt", rig.Ends(t, "O4", h, perdure.Completed).Output, 1)
		}
		rig.Is(t, "fenced", s.Counter("fenced_total"), rounds)
		rig.Is(t, "retries", s.Counter("retries_total"), 0)
		rig.Is(t, "recoveries", rig.Task(t, s.Client, "t0").Turn.Recoveries, 0)
	})
}

// silent is a store that takes heartbeats until it does not answer any more, whatever becomes of the call's context.
type silent struct {
	store.Store
	quiet atomic.Bool
	gate  chan struct{}
}

func (s *silent) Heartbeat(ctx context.Context, req *store.HeartbeatRequest) (*store.Beat, error) {
	if s.quiet.Load() {
		<-s.gate
	}
	return s.Store.Heartbeat(ctx, req)
}

func TestAStoreThatIgnoresContextsDoesNotKeepTurnsRunning(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		st := &silent{Store: memstore.New(), gate: make(chan struct{})}
		f := perdure.NewFunc[int, int]("f", nil)
		var ended rig.Box[time.Duration]
		began := time.Now()
		s := rig.Serve(t, st, perdure.Options{Lease: lease}, f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
			if turn.Entry() == perdure.Recovered {
				return 1, nil
			}
			<-ctx.Done()
			ended.Set(time.Since(began))
			return 0, context.Cause(ctx)
		}))
		h := rig.Start(t, s.Client, f, 1, "t")
		synctest.Wait()
		st.quiet.Store(true)
		rig.After(lease)
		if at := ended.Get(); at == 0 || at >= lease {
			t.Errorf("ctx ended after %v, want before the lease of %v", at, lease)
		}
		st.quiet.Store(false)
		close(st.gate)
		rig.Ends(t, "O4", h, perdure.Completed)
	})
}

// sleeper is a store whose machine may have slept.
type sleeper struct {
	store.Store
	began time.Time
	slept atomic.Int64
}

var _ store.Uptimer = (*sleeper)(nil)

func (s *sleeper) Uptime() time.Duration { return time.Since(s.began) + time.Duration(s.slept.Load()) }

func TestAMachineThatHasSleptStopsItsTurns(t *testing.T) {
	for slept, fences := range map[time.Duration]int64{lease / 2: 0, lease: 1} {
		bubble.Test(t, func(t *testing.T) {
			st := &sleeper{Store: memstore.New(), began: time.Now()}
			f := perdure.NewFunc[int, int]("f", nil)
			s := rig.Serve(t, st, perdure.Options{Lease: lease}, f.Bind(rig.Stay))
			rig.Start(t, s.Client, f, 1, "t")
			rig.After(100 * time.Millisecond)
			st.slept.Store(int64(slept))
			rig.After(2 * time.Second) // it looks every second
			rig.Is(t, fmt.Sprint("fenced after a sleep of ", slept), s.Counter("fenced_total"), fences)
		})
	}
}

func TestALeaseThatComesAfterItsWorkerEndedEntersNobody(t *testing.T) {
	for _, op := range []string{"Offer", "Claim", "Settle"} {
		t.Run(op, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				st := &held{Store: memstore.New()}
				faulty, broken := rig.Faulty(st)
				f := perdure.NewFunc[int, int]("f", &rig.Options{MultiTurn: true, Steerable: true})
				var inside, most, turns atomic.Int64
				s := rig.Serve(t, faulty, perdure.Options{Lease: lease}, f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
					most.Store(max(most.Load(), inside.Add(1)))
					defer inside.Add(-1)
					turns.Add(1)
					if turn.Input() == 1 {
						rig.After(time.Second)
						return 1, nil
					}
					<-turn.Interrupt().Done()
					return 0, context.Cause(turn.Interrupt())
				}))
				other, err := perdure.New(st.Store, nil)
				if err != nil {
					t.Fatal(err)
				}
				var release func()
				switch op {
				case "Offer":
					release = st.hold(op)
					go f.Start(t.Context(), s.Client, 2, &perdure.StartOptions{TaskID: "t"})
				case "Claim":
					release = st.hold(op)
					rig.Start(t, other.Client(), f, 2, "t")
				case "Settle":
					rig.Start(t, s.Client, f, 1, "t")
					rig.StartWith(t, s.Client, f, 2, &perdure.StartOptions{TaskID: "t", Deliver: perdure.Enqueue})
					release = st.hold(op)
				}
				rig.After(2 * time.Second)
				broken.Set(beats(storetest.FailBefore))
				rig.After(lease)
				broken.Set(nil)
				rig.After(lease / 2)
				release()
				rig.After(lease)
				rig.Is(t, "handlers at once", most.Load(), 1)
				rig.Is(t, "turns that run", s.Counter("turns_running"), 1)
				rig.Is(t, "status", rig.Task(t, s.Client, "t").Status, perdure.InProgress)
				rig.Is(t, "recoveries", rig.Task(t, s.Client, "t").Turn.Recoveries, 0)
			})
		})
	}
}

// dozing is a store whose machine sleeps between the first lease and the answer that brings it.
type dozing struct {
	sleeper
	once sync.Once
}

func (s *dozing) Offer(ctx context.Context, req *store.OfferRequest) (*store.Offered, error) {
	offered, err := s.Store.Offer(ctx, req)
	s.once.Do(func() { s.slept.Store(int64(lease)) })
	return offered, err
}

// Nothing need have looked at a clock since the machine, or the process, stood still.
func TestALeaseThatIsOverWhenItComesEntersNobody(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		st := &dozing{sleeper: sleeper{Store: memstore.New(), began: time.Now()}}
		f := perdure.NewFunc[int, int]("f", nil)
		var s *rig.Server
		fenced := make(chan int64, 10)
		s = rig.Serve(t, st, perdure.Options{Lease: lease}, f.Bind(func(context.Context, *rig.Turn) (int, error) {
			fenced <- s.Counter("fenced_total")
			return 1, nil
		}))
		rig.Ends(t, "O4", rig.Start(t, s.Client, f, 1, "t"), perdure.Completed)
		rig.Is(t, "leases lost before the first entry", <-fenced, 1)
		rig.Is(t, "further entries", len(fenced), 0)
	})
}
