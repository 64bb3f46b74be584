package engine_test

import (
	"context"
	"errors"
	"strings"
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

// wantOver checks that an error is that of a store that is over for good.
func wantOver(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, perdure.ErrUnavailable) || !errors.Is(err, store.ErrLost) {
		t.Errorf("%s: got %v, want that the store is unavailable, and lost", what, err)
	}
}

func TestCallersHearAtOnceThatTheStoreIsLost(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := perdure.NewFunc[int, int]("f", nil)
		st, broken := rig.Faulty(memstore.New())
		s := rig.Serve(t, st, perdure.Options{}, f.Bind(rig.Echo))
		h := rig.Start(t, s.Client, f, 1, "t")
		synctest.Wait()
		broken.All(storetest.Lose)
		for what, call := range map[string]func() error{
			"a start":  func() error { _, err := f.Start(t.Context(), s.Client, 1, nil); return err },
			"a cancel": func() error { return h.Cancel(t.Context(), "") },
			"a delete": func() error { return h.Delete(t.Context()) },
			"a task":   func() error { _, err := s.Client.Task(t.Context(), "t"); return err },
			"an outcome": func() error {
				_, err := s.Client.Outcome(t.Context(), perdure.TurnQuery{TaskID: "t"})
				return err
			},
			"a stream": func() error { _, err := rig.First(s.Client.Events(t.Context(), "t", nil)); return err },
		} {
			began := time.Now()
			wantOver(t, what, call())
			rig.Is(t, "time of "+what, time.Since(began), 0)
		}
		rig.Is(t, "log records", strings.Count(s.Logs.String(), "the store is lost: nothing is stored"), 1)
	})
}

// Whichever operation meets it first.
func TestAnEngineIsNotReadyAnyMoreOnceItsStoreIsLost(t *testing.T) {
	for _, op := range []string{"Heartbeat", "Poll", "Sweep", "Waiting", "Offer", "Get"} {
		for _, watching := range []bool{false, true} {
			if watching && op != "Offer" && op != "Get" {
				continue
			}
			t.Run(op, func(t *testing.T) {
				bubble.Test(t, func(t *testing.T) {
					f := perdure.NewFunc[int, int]("f", nil)
					st, broken := rig.Faulty(memstore.New())
					s := rig.Serve(t, st, perdure.Options{WatchOnly: watching}, f.Bind(rig.Echo))
					rig.After(time.Second)
					rig.Is(t, "Ready", s.Engine.Ready(), nil)
					broken.Only(op, storetest.Lose)
					switch op {
					case "Offer":
						f.Start(t.Context(), s.Client, 1, nil)
					case "Get":
						s.Client.Task(t.Context(), "t")
					default:
						rig.After(10 * time.Second)
					}
					wantOver(t, "Ready", s.Engine.Ready())
					broken.Set(nil)
					rig.After(2 * time.Minute)
					wantOver(t, "Ready later", s.Engine.Ready())
				})
			})
		}
	}
}

// Whoever opens what has the name of the store now may enter them.
func TestTheTurnsOfALostStoreAreStopped(t *testing.T) {
	for _, op := range []string{"Heartbeat", "Get", "Checkpoint", "Settle"} {
		t.Run(op, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				mem := memstore.New()
				st, broken := rig.Faulty(mem)
				f, g := perdure.NewFunc[int, int]("f", nil), perdure.NewFunc[int, int]("g", nil)
				stopped := make(chan error, 1)
				s := rig.Serve(t, st, perdure.Options{}, f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
					<-ctx.Done()
					stopped <- context.Cause(ctx)
					return 1, nil
				}), g.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
					rig.After(2 * time.Second)
					rig.Is(t, "a checkpoint meets it", turn.Checkpoint(ctx) != nil, op == "Get" || op == "Checkpoint")
					return 1, nil
				}))
				rig.Start(t, s.Client, f, 1, "t")
				h := rig.Start(t, s.Client, g, 1, "u")
				rig.After(time.Second)
				broken.Only(op, storetest.Lose)
				if op == "Get" {
					s.Client.Task(t.Context(), "t")
				}
				select {
				case cause := <-stopped:
					rig.Is(t, "cause", cause, error(perdure.ErrLeaseLost))
				case <-time.After(time.Minute):
					t.Fatal("the handler was not stopped")
				}
				broken.All(storetest.Lose)
				rig.After(time.Minute)
				if _, err := h.Result(t.Context()); op != "Heartbeat" { // it was told already
					wantOver(t, "Result", err)
				}
				for id, ended := range map[string]bool{"t": false, "u": op == "Heartbeat"} { // which comes after the turn's end
					if task, err := mem.Get(t.Context(), id); err != nil || (task.Status == store.InProgress) == ended {
						t.Errorf("%s: got %+v, %v, want it in progress: %v", id, task, err, !ended)
					}
				}
			})
		})
	}
}

func TestAShutdownDoesNotWaitForALostStore(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		mem := memstore.New()
		st, broken := rig.Faulty(mem)
		f := perdure.NewFunc[int, int]("f", nil)
		s := rig.Serve(t, st, perdure.Options{Drain: 20 * time.Second}, f.Bind(func(_ context.Context, turn *rig.Turn) (int, error) {
			<-turn.Interrupt().Done()
			rig.After(10 * time.Second)
			rig.Is(t, "a checkpoint", turn.Checkpoint(context.Background()), error(perdure.ErrLeaseLost))
			return 1, nil
		}))
		h := rig.Start(t, s.Client, f, 1, "t")
		synctest.Wait()
		broken.All(storetest.Lose)
		told := make(chan error, 1)
		go func() {
			_, err := h.Result(t.Context())
			told <- err
		}()
		synctest.Wait()
		began := time.Now()
		rig.Is(t, "Run", s.Stop(), nil)
		rig.Is(t, "it took", time.Since(began), 10*time.Second)
		if err := <-told; !errors.Is(err, perdure.ErrUnavailable) && !errors.Is(err, perdure.ErrShuttingDown) {
			t.Errorf("who waits: got %v, want no outcome", err)
		}
		if task, err := mem.Get(t.Context(), "t"); err != nil || task.Status != store.InProgress {
			t.Errorf("the task: got %+v, %v, want it in progress", task, err)
		}
	})
}

func TestATurnThatEndsOnALostStoreIsNoOutcome(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		mem := memstore.New()
		st, broken := rig.Faulty(mem)
		f := perdure.NewFunc[int, int]("f", nil)
		var calls rig.Box[int]
		s := rig.Serve(t, st, perdure.Options{}, f.Bind(func(context.Context, *rig.Turn) (int, error) {
			rig.After(5 * time.Second)
			return 1, nil
		}))
		h := rig.Start(t, s.Client, f, 1, "t")
		broken.Set(func(c storetest.Call) storetest.Fault {
			if c.Op == "Settle" {
				calls.Change(func(n int) int { return n + 1 })
				return storetest.Lose
			}
			if calls.Get() > 0 {
				return storetest.Lose
			}
			return storetest.None
		})
		began := time.Now()
		_, err := h.Result(t.Context())
		wantOver(t, "Result", err)
		rig.Is(t, "it took", time.Since(began), 5*time.Second)
		rig.After(time.Minute)
		rig.Is(t, "tries to write the end", calls.Get(), 1)
		wantOver(t, "Ready", s.Engine.Ready())
	})
}

func TestAnEngineDoesNotBesiegeALostStore(t *testing.T) {
	for _, watching := range []bool{false, true} {
		bubble.Test(t, func(t *testing.T) {
			f := perdure.NewFunc[int, int]("f", nil)
			st, broken := rig.Faulty(memstore.New())
			s := rig.Serve(t, st, perdure.Options{WatchOnly: watching}, f.Bind(rig.Stay))
			rig.Start(t, rig.Serve(t, st, perdure.Options{}, f.Bind(rig.Stay)).Client, f, 1, "t")
			rig.After(time.Second)
			var calls rig.Box[map[string]int]
			calls.Set(map[string]int{})
			broken.Set(func(c storetest.Call) storetest.Fault {
				calls.Change(func(m map[string]int) map[string]int { m[c.Op]++; return m })
				return storetest.Lose
			})
			rig.After(time.Minute)
			for op, n := range calls.Get() {
				if n > 2*70 { // of two engines: once a second, and a few first tries
					t.Errorf("%s was called %d times in a minute", op, n)
				}
			}
			if n := strings.Count(s.Logs.String(), "\n"); n > 10 {
				t.Errorf("the log has %d records: %s", n, s.Logs.String())
			}
		})
	}
}
