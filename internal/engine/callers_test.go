package engine_test

import (
	"context"
	"errors"
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

// late is how long the answers take that come when the caller has gone.
const late = time.Second

// goes makes a call whose caller goes while the store answers, and returns its error.
func goes(t *testing.T, broken *rig.Faults, op string, call func(context.Context) error) error {
	t.Helper()
	broken.Only(op, storetest.Late)
	ctx, cancel := context.WithTimeout(t.Context(), late/10)
	defer cancel()
	began := time.Now()
	err := call(ctx)
	rig.Fails(t, op+" whose caller goes", err, context.DeadlineExceeded)
	rig.Is(t, op+": when its caller is answered", time.Since(began), late/10)
	return err
}

// dialogue is a func that waits for an interrupt, and tells why it came and when its ctx ended.
type dialogue struct {
	*rig.Func
	causes rig.Box[perdure.Causes]
	over   rig.Box[error]
}

func newDialogue() *dialogue {
	return &dialogue{Func: perdure.NewFunc[int, int]("talk", &rig.Options{MultiTurn: true, Steerable: true})}
}

func (f *dialogue) run(ctx context.Context, turn *rig.Turn) (int, error) {
	if turn.Input() != 1 {
		return turn.Input(), nil
	}
	<-turn.Interrupt().Done()
	f.causes.Set(turn.Causes())
	f.over.Set(context.Cause(ctx))
	return 0, perdure.ErrCancelled
}

func TestWhatACallerAskedForHasItsEffectAtOnceWhenTheCallerHasGone(t *testing.T) {
	opts := func(id string) *perdure.StartOptions { return &perdure.StartOptions{TaskID: "t", InputID: id} }
	for _, c := range []struct {
		name, op string
		call     func(ctx context.Context, c perdure.Client, f *dialogue) error
		cause    perdure.Causes
		over     error
	}{
		{"start", "Offer", nil, perdure.Causes{}, nil},
		{"steer", "Offer", func(ctx context.Context, c perdure.Client, f *dialogue) error {
			_, err := f.Start(ctx, c, 2, opts("2"))
			return err
		}, perdure.Causes{Steered: true}, nil},
		{"cancel", "Signal", func(ctx context.Context, c perdure.Client, _ *dialogue) error {
			_, err := c.Cancel(ctx, "t", nil)
			return err
		}, perdure.Causes{Cancel: true}, nil},
		{"terminate", "Signal", func(ctx context.Context, c perdure.Client, _ *dialogue) error {
			_, err := c.Terminate(ctx, "t", nil)
			return err
		}, perdure.Causes{}, perdure.ErrTerminated},
		{"delete", "Delete", func(ctx context.Context, c perdure.Client, _ *dialogue) error {
			return c.Delete(ctx, "t", nil)
		}, perdure.Causes{}, perdure.ErrTerminated},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				f := newDialogue()
				st, broken := rig.Faulty(memstore.New())
				s := rig.Serve(t, st, perdure.Options{}, f.Bind(f.run))
				if c.call == nil {
					goes(t, broken, c.op, func(ctx context.Context) error {
						_, err := f.Start(ctx, s.Client, 1, opts("1"))
						return err
					})
					rig.After(late)
					rig.Is(t, "turns that run", s.Counter("turns_running"), 1)
					return
				}
				if _, err := f.Start(t.Context(), s.Client, 1, opts("1")); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				goes(t, broken, c.op, func(ctx context.Context) error { return c.call(ctx, s.Client, f) })
				rig.Is(t, "callers who have gone", s.Counter("callers_gone"), 1)
				rig.After(late)
				synctest.Wait()
				rig.Is(t, "causes that the handler saw", f.causes.Get(), c.cause)
				rig.Fails(t, "cause of ctx", f.over.Get(), c.over)
				rig.Is(t, "callers who have gone", s.Counter("callers_gone"), 0)
			})
		})
	}
}

func TestATryThatFailsIsMadeAgainWhenItsCallerHasGone(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := newDialogue()
		st, broken := rig.Faulty(memstore.New())
		s := rig.Serve(t, st, perdure.Options{}, f.Bind(f.run))
		if _, err := f.Start(t.Context(), s.Client, 1, &perdure.StartOptions{TaskID: "t"}); err != nil {
			t.Fatal(err)
		}
		broken.Set(func(c storetest.Call) storetest.Fault {
			if c.Op == "Signal" {
				return storetest.FailBefore
			}
			return storetest.None
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := s.Client.Cancel(ctx, "t", nil)
		rig.Fails(t, "cancel", err, context.DeadlineExceeded)
		broken.Set(nil)
		rig.After(2 * time.Second)
		rig.Is(t, "cancel requested", f.causes.Get().Cancel, true)
	})
}

// queued is a store whose operations wait in a queue, and are left out when their context ends meanwhile.
type queued struct{ store.Store }

func (q queued) Offer(ctx context.Context, _ *store.OfferRequest) (*store.Offered, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestWhatTheStoreHasNotBegunIsLeftOutWhenItsCallerGoes(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := perdure.NewFunc[int, int]("f", &rig.Options{MaxRunning: 1})
		s := rig.Serve(t, queued{memstore.New()}, perdure.Options{}, f.Bind(rig.Echo))
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("the caller's own"))
		defer cancel()
		_, err := f.Start(ctx, s.Client, 1, nil)
		if err == nil || !errors.Is(err, context.Cause(ctx)) {
			t.Errorf("got %v, want the cause of the caller's context", err)
		}
		rig.Is(t, "callers who have gone", s.Counter("callers_gone"), 0)
	})
}

func TestCallersWhoHaveGoneAreBounded(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := perdure.NewFunc[int, int]("f", nil)
		st := &held{Store: memstore.New()}
		s := rig.Serve(t, st, perdure.Options{}, f.Bind(rig.Echo))
		release := st.hold("Offer")
		gone, cancel := context.WithCancel(t.Context())
		for range 1000 {
			go f.Start(gone, s.Client, 1, nil)
		}
		synctest.Wait()
		cancel()
		rig.Is(t, "callers who have gone", s.Counter("callers_gone"), 1000)
		began := time.Now()
		_, err := f.Start(t.Context(), s.Client, 1, nil)
		rig.Fails(t, "one more", err, perdure.ErrUnavailable)
		rig.Is(t, "when it is refused", time.Since(began), 0)
		tasks := 0
		for _, err := range s.Client.Tasks(t.Context(), nil) {
			if err != nil {
				t.Fatal(err)
			}
			tasks++
		}
		rig.Is(t, "tasks: one more is refused before anything is sent", tasks, 1000)
		release()
		rig.After(time.Second)
		rig.Is(t, "callers who have gone", s.Counter("callers_gone"), 0)
		rig.Ends(t, "afterwards", rig.Start(t, s.Client, f, 1, "t"), perdure.Completed)
	})
}

func TestAShutdownEndsWhatCallersHaveLeft(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := perdure.NewFunc[int, int]("f", nil)
		st, broken := rig.Faulty(memstore.New())
		s := rig.Serve(t, st, perdure.Options{}, f.Bind(rig.Echo))
		broken.Set(func(c storetest.Call) storetest.Fault {
			if c.Op == "Offer" {
				return storetest.Hang
			}
			return storetest.None
		})
		gone, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err := f.Start(gone, s.Client, 1, nil)
		rig.Fails(t, "start", err, context.DeadlineExceeded)
		began := time.Now()
		rig.Is(t, "shutdown", s.Stop(), nil)
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("the shutdown took %v", took)
		}
		rig.Is(t, "callers who have gone", s.Counter("callers_gone"), 0)
	})
}

// A cancel that the store has taken reaches the handler, also when none of its answers came and the caller gave up.
func TestWhatTheStoreHasTakenReachesTheHandlerWhenAllAnswersWereLost(t *testing.T) {
	for _, op := range []string{"cancel", "terminate", "delete", "steer"} {
		t.Run(op, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				f := perdure.NewFunc[int, int]("f", &rig.Options{Steerable: true})
				st, broken := rig.Faulty(memstore.New())
				heard := make(chan error, 10)
				s := rig.Serve(t, st, perdure.Options{Lease: time.Minute}, f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
					if turn.Input() == 1 {
						<-turn.Interrupt().Done()
						heard <- context.Cause(turn.Interrupt())
					}
					return 0, nil
				}))
				rig.Start(t, s.Client, f, 1, "t")
				synctest.Wait()
				broken.Set(func(c storetest.Call) storetest.Fault {
					switch c.Op {
					case "Signal", "Delete", "Offer":
						return storetest.FailAfter
					}
					return storetest.None
				})
				var err error
				switch op {
				case "cancel":
					_, err = s.Client.Cancel(t.Context(), "t", nil)
				case "terminate":
					_, err = s.Client.Terminate(t.Context(), "t", nil)
				case "delete":
					err = s.Client.Delete(t.Context(), "t", nil)
				case "steer":
					_, err = f.Start(t.Context(), s.Client, 2, &perdure.StartOptions{TaskID: "t"})
				}
				rig.Fails(t, "answer", err, perdure.ErrUnavailable)
				broken.Set(nil)
				select {
				case <-heard:
				case <-time.After(time.Hour):
					t.Errorf("C3/C4/C6/G5: the store has taken the %s, and the handler has not heard of it for an hour", op)
				}
			})
		})
	}
}

// A panic of a caller's context, such as one that is nil, is the caller's, and costs no slot.
func TestAStartWhoseContextPanicsCostsNoSlot(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := perdure.NewFunc[int, int]("f", nil)
		s := rig.Serve(t, memstore.New(), perdure.Options{MaxRunning: 1}, f.Bind(rig.Echo))
		for range 3 {
			func() {
				defer func() {
					if recover() == nil {
						t.Error("a nil context: no panic")
					}
				}()
				f.Start(nil, s.Client, 1, nil) //nolint:staticcheck // that is what is tried
			}()
		}
		rig.Ends(t, "S1", rig.Start(t, s.Client, f, 1, "t"), perdure.Completed)
		began := time.Now()
		rig.Is(t, "Run", s.Stop(), nil)
		rig.Is(t, "time of the shutdown", time.Since(began), 0)
	})
}
