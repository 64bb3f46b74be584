package engine_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/internal/rig"
	"github.com/perdure/perdure/perduretest"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/memstore"
	"github.com/perdure/perdure/store/storetest"
)

// words is a multi-turn, steerable func that emits the numbers from 1 to its input, with a checkpoint after
// every second one and a pause before each.
func words() (*rig.Func, perdure.Binding) {
	f := perdure.NewFunc[int, int]("words", &rig.Options{MultiTurn: true, Steerable: true})
	return f, f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
		for n := 1; n <= turn.Input(); n++ {
			rig.After(time.Second)
			if err := turn.Emit(ctx, n); err != nil {
				return 0, err
			}
			if n%2 == 0 {
				if err := turn.Checkpoint(ctx); err != nil {
					return 0, err
				}
			}
		}
		return turn.Input(), nil
	})
}

func TestAReaderSeesHistoryThenLiveThenTheEnd(t *testing.T) {
	f, b := words()
	rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
		h := rig.Start(t, s.Client, f, 3, "t")
		early := rig.Heard(t, h.Events(t.Context(), 0))
		rig.After(1500 * time.Millisecond)
		rig.Is(t, "E3: live", early.Get(), "11 ")
		late := rig.Heard(t, h.Events(t.Context(), 0))
		middle := rig.Heard(t, h.Events(t.Context(), 1))
		beyond := rig.Heard(t, h.Events(t.Context(), 3))
		rig.Ends(t, "E3", h, perdure.Completed)
		synctest.Wait()
		want := "11 22 33 4!completed end:completed "
		rig.Is(t, "E3: from the beginning", early.Get(), want)
		rig.Is(t, "E3: history and live", late.Get(), want)
		rig.Is(t, "E3: from the middle", middle.Get(), "22 33 4!completed end:completed ")
		rig.Is(t, "E3: after a number that is not there yet", beyond.Get(), "4!completed end:completed ")
		rig.Is(t, "E3: after the end", rig.All(t, h.Events(t.Context(), 0)), strings.TrimSpace(want))
		rig.Is(t, "E3: after everything", rig.All(t, h.Events(t.Context(), 4)), "end:completed")
	}, b)
}

func TestAStreamIsReadToTheEndOfATurnOrOfTheTask(t *testing.T) {
	f, b := words()
	rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
		first := rig.Start(t, s.Client, f, 1, "t")
		whole := rig.Heard(t, s.Client.Events(t.Context(), "t", nil))
		second := rig.StartWith(t, s.Client, f, 1, &perdure.StartOptions{TaskID: "t", Deliver: perdure.Enqueue})
		rig.Ends(t, "E3", second, perdure.Completed)
		synctest.Wait()
		rig.Is(t, "the first turn's handle", rig.All(t, first.Events(t.Context(), 0)), "11 2!completed end:completed")
		rig.Is(t, "the second's", rig.All(t, second.Events(t.Context(), 2)), "31 4!completed end:completed")
		rig.Is(t, "a suspended conversation has no end", whole.Get(), "11 2!completed 31 4!completed ")
		if _, err := s.Client.Cancel(t.Context(), "t", &perdure.CancelOptions{Reason: "enough"}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		rig.Is(t, "the task's end", whole.Get(), "11 2!completed 31 4!completed end:cancelled ")
	}, b)
}

func TestDeletionEndsAStream(t *testing.T) {
	f, b := words()
	rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
		h := rig.Start(t, s.Client, f, 9, "t")
		events := rig.Heard(t, h.Events(t.Context(), 0))
		rig.After(1500 * time.Millisecond)
		if err := h.Delete(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		rig.Is(t, "E3", events.Get(), "11 end:deleted ")
		rig.Is(t, "E3: of the incarnation that is gone", rig.All(t, h.Events(t.Context(), 0)), "end:deleted")
		_, err := rig.First(s.Client.Events(t.Context(), "t", nil))
		rig.Fails(t, "E3: of a task that is not there", err, perdure.ErrNotFound)
		for _, opts := range []perdure.EventOptions{{After: -1}, {Turn: -1}} {
			_, err = rig.First(s.Client.Events(t.Context(), "t", &opts))
			rig.Fails(t, fmt.Sprint(opts), err, perdure.ErrInvalid)
		}
	}, b)
}

func TestACrashTakesBackWhatNoCheckpointHadCommitted(t *testing.T) {
	f, b := words()
	perduretest.Run(t, nil, func(t *testing.T, h *perduretest.Harness) {
		handle := rig.Start(t, h.Client(), f, 4, "t")
		events := rig.Heard(t, handle.Events(t.Context(), 0))
		committed := rig.Heard(t, handle.CommittedEvents(t.Context(), 0))
		rig.After(3500 * time.Millisecond)
		rig.Is(t, "E2: before the crash", events.Get(), "11 22 33 ")
		rig.Is(t, "E2: committed before the crash", committed.Get(), "11 22 ")
		h.Crash()
		rig.Ends(t, "E2", handle, perdure.Completed)
		rig.After(time.Minute)
		want := "11 22 33 4<2 51 62 73 84 9!completed end:completed "
		rig.Is(t, "E2: live", events.Get(), want)
		rig.Is(t, "E2: committed", committed.Get(), "11 22 51 62 73 84 9!completed end:completed ")
		rig.Is(t, "E2: read again", rig.All(t, handle.Events(t.Context(), 0))+" ", want)
		var fold perdure.Fold
		for e, err := range handle.Events(t.Context(), 1) {
			if err != nil {
				t.Fatal(err)
			}
			fold.Add(e)
		}
		text := ""
		for _, m := range fold.Messages() {
			text += string(m.Data)
		}
		rig.Is(t, "E2: folded, from the middle", text, "21234")
	}, b)
}

func TestKeepEventsKeepsTheEventsOfTheTryBefore(t *testing.T) {
	var late rig.Box[error]
	f := perdure.NewFunc[int, int]("f", &rig.Options{Retry: perdure.FixedRetry(3, time.Second)})
	rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
		h := rig.Start(t, s.Client, f, 5, "t")
		rig.Ends(t, "E2", h, perdure.Completed)
		rig.Is(t, "E2", rig.All(t, h.Events(t.Context(), 0)), "11 22 33 44 55 6!completed end:completed")
		rig.Fails(t, "E2: KeepEvents after Emit", late.Get(), perdure.ErrInvalid)
	}, f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
		last, err := turn.KeepEvents(ctx)
		if err != nil {
			return 0, err
		}
		n := 0
		if last != nil {
			if _, err := fmt.Sscan(string(last.Data), &n); err != nil {
				return 0, err
			}
		}
		for n++; n <= turn.Input(); n++ {
			if err := turn.Emit(ctx, n); err != nil {
				return 0, err
			}
			rig.After(50 * time.Millisecond)
			if n == 2 || n == 4 {
				_, err := turn.KeepEvents(ctx)
				late.Set(err)
				return 0, errors.New("again")
			}
		}
		return n, nil
	}))
}

func TestATurnThatFailsKeepsItsEvents(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", nil)
	rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
		h := rig.Start(t, s.Client, f, 1, "t")
		rig.Is(t, "E2", rig.All(t, h.Events(t.Context(), 0)), "11 22 3!failed end:failed")
		rig.Is(t, "E2: committed", rig.All(t, h.CommittedEvents(t.Context(), 0)), "11 22 3!failed end:failed")
	}, f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
		return 0, errors.Join(turn.EmitMany(ctx, 1, 2), errors.New("failed"))
	}))
}

func TestEmitWaitsWhereTheStoreIsSlow(t *testing.T) {
	for name, opts := range map[string]perdure.Options{"events": {EmitEvents: 10}, "bytes": {EmitBytes: 15}} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) { emitFast(t, opts) })
		})
	}
}

// emitFast emits 40 small events to a store that answers nothing, until it is let go.
func emitFast(t *testing.T, opts perdure.Options) {
	var emitted rig.Box[int]
	f := perdure.NewFunc[int, int]("f", nil)
	st := &held{Store: memstore.New()}
	s := rig.Serve(t, st, opts, f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
		for n := range 40 {
			if err := turn.Emit(ctx, n); err != nil {
				return 0, err
			}
			emitted.Set(n + 1)
		}
		return 0, nil
	}))
	release := st.hold("Checkpoint")
	h := rig.Start(t, s.Client, f, 1, "t")
	rig.After(time.Minute)
	if n := emitted.Get(); n > 20 {
		t.Errorf("E1: %d events were taken while the store had answered none; want one batch under way, and one that waits", n)
	}
	release()
	rig.Ends(t, "E1", h, perdure.Completed)
	if got := rig.All(t, h.Events(t.Context(), 38)); got != "3938 4039 41!completed end:completed" {
		t.Errorf("E1: got %s", got)
	}
}

func TestNothingIsShownBeforeItIsDurable(t *testing.T) {
	f, b := words()
	bubble.Test(t, func(t *testing.T) {
		st, f1 := rig.Faulty(memstore.New())
		s := rig.Serve(t, st, perdure.Options{}, b)
		f1.Set(func(c storetest.Call) storetest.Fault {
			if c.Op == "Checkpoint" {
				return storetest.FailBefore
			}
			return storetest.None
		})
		h := rig.Start(t, s.Client, f, 2, "t")
		events := rig.Heard(t, h.Events(t.Context(), 0))
		rig.After(5 * time.Second)
		rig.Is(t, "E1: while the store refuses", events.Get(), "")
		f1.Set(func(storetest.Call) storetest.Fault { return storetest.None })
		rig.Ends(t, "E1", h, perdure.Completed)
		synctest.Wait()
		rig.Is(t, "E1: afterwards", events.Get(), "11 22 3!completed end:completed ")
	})
}

func TestAnAnswerThatIsLostIsNoSecondBatch(t *testing.T) {
	f, b := words()
	bubble.Test(t, func(t *testing.T) {
		st, f1 := rig.Faulty(memstore.New())
		s := rig.Serve(t, st, perdure.Options{}, b)
		odd := false
		f1.Set(func(c storetest.Call) storetest.Fault {
			if odd = !odd; c.Op == "Checkpoint" && odd {
				return storetest.FailAfter
			}
			return storetest.None
		})
		h := rig.Start(t, s.Client, f, 5, "t")
		rig.Ends(t, "O6", h, perdure.Completed)
		rig.Is(t, "O6", rig.All(t, h.Events(t.Context(), 0)), "11 22 33 44 55 6!completed end:completed")
	})
}

// A checkpoint whose caller gives up may have been written. The next write finds out, and nothing is lost,
// written twice or out of order.
func TestACheckpointThatIsGivenUpLosesNoEvents(t *testing.T) {
	for _, applied := range []bool{false, true} {
		f := perdure.NewFunc[int, int]("f", nil)
		bubble.Test(t, func(t *testing.T) {
			st, f1 := rig.Faulty(memstore.New())
			s := rig.Serve(t, st, perdure.Options{}, f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
				f1.Set(func(c storetest.Call) storetest.Fault {
					switch {
					case c.Op != "Checkpoint":
						return storetest.None
					case applied:
						return storetest.FailAfter
					}
					return storetest.FailBefore
				})
				if err := turn.Emit(ctx, 1); err != nil {
					return 0, err
				}
				short, cancel := context.WithTimeout(ctx, time.Second)
				defer cancel()
				if err := turn.Checkpoint(short); !errors.Is(err, context.DeadlineExceeded) {
					return 0, fmt.Errorf("got %w, want the deadline", err)
				}
				f1.Set(func(storetest.Call) storetest.Fault { return storetest.None })
				return 0, turn.Emit(ctx, 2)
			}))
			h := rig.Start(t, s.Client, f, 1, "t")
			rig.Ends(t, "O6", h, perdure.Completed)
			rig.Is(t, fmt.Sprintf("O6: applied %v", applied), rig.All(t, h.Events(t.Context(), 0)), "11 22 3!completed end:completed")
		})
	}
}

// What a checkpoint takes with it comes back when that gives up before it is sent: behind one whose result is unknown.
func TestACheckpointThatIsGivenUpBehindAnotherLosesNoEvents(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", nil)
	bubble.Test(t, func(t *testing.T) {
		st, broken := rig.Faulty(memstore.New())
		s := rig.Serve(t, st, perdure.Options{}, f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
			giveUp := func(after time.Duration) error {
				short, cancel := context.WithTimeout(ctx, after)
				defer cancel()
				if err := turn.Checkpoint(short); !errors.Is(err, context.DeadlineExceeded) {
					return fmt.Errorf("got %w, want the deadline", err)
				}
				return nil
			}
			err := turn.Emit(ctx, 1) // it is written now, and what follows ten milliseconds later
			rig.After(time.Millisecond)
			broken.All(storetest.FailBefore)
			err = errors.Join(err, giveUp(4*time.Millisecond), turn.Emit(ctx, 2), giveUp(2*time.Millisecond))
			broken.Set(nil)
			return 0, errors.Join(err, turn.Emit(ctx, 3))
		}))
		h := rig.Start(t, s.Client, f, 1, "t")
		rig.Ends(t, "O6", h, perdure.Completed)
		rig.Is(t, "O6", rig.All(t, h.Events(t.Context(), 0)), "11 22 33 4!completed end:completed")
	})
}

func TestAnEventThatCannotBeStoredIsRefusedAtTheCall(t *testing.T) {
	var tooLarge, noJSON rig.Box[error]
	f := perdure.NewFunc[int, int]("f", nil)
	rig.In(t, perdure.Options{Limits: perdure.Limits{Event: 100}}, func(t *testing.T, s *rig.Server) {
		h := rig.Start(t, s.Client, f, 1, "t")
		rig.Ends(t, "S6", h, perdure.Completed)
		rig.Fails(t, "S6", tooLarge.Get(), perdure.ErrTooLarge)
		rig.Fails(t, "S6", noJSON.Get(), perdure.ErrInvalid)
		rig.Is(t, "S6: nothing of them is there", rig.All(t, h.Events(t.Context(), 0)), "1!completed end:completed")
	}, f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
		tooLarge.Set(turn.EmitMany(ctx, 1, strings.Repeat("x", 100)))
		noJSON.Set(turn.EmitMany(ctx, 1, func() {}))
		return 0, nil
	}))
}

func TestAFencedHandlerCannotEmit(t *testing.T) {
	var got rig.Box[error]
	f := perdure.NewFunc[int, int]("f", nil)
	rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
		h := rig.Start(t, s.Client, f, 1, "t")
		synctest.Wait()
		if err := h.Terminate(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		rig.After(2 * time.Second)
		rig.Fails(t, "E2", got.Get(), perdure.ErrTerminated)
		rig.Is(t, "E2", rig.All(t, h.Events(t.Context(), 0)), "1!terminated end:terminated")
	}, f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
		<-ctx.Done()
		rig.After(time.Second)
		got.Set(turn.Emit(ctx, 1))
		return 0, nil
	}))
}

func TestWhatIsTrimmedIsAGap(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", &rig.Options{MultiTurn: true, KeepEvents: 3})
	rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
		h := rig.Start(t, s.Client, f, 9, "t")
		rig.Ends(t, "E5", h, perdure.Completed)
		rig.After(6 * time.Second)
		rig.Is(t, "E5: from the beginning", rig.All(t, h.Events(t.Context(), 0)), "gap:8 88 99 10!completed end:completed")
		rig.Is(t, "E5: from the last that is gone", rig.All(t, h.Events(t.Context(), 7)), "88 99 10!completed end:completed")
		second := rig.Start(t, s.Client, f, 9, "t")
		rig.Ends(t, "E5", second, perdure.Completed)
		rig.After(6 * time.Second)
		rig.Is(t, "E5: to an end that is gone", rig.All(t, h.Events(t.Context(), 0)), "gap:18 end:completed")
		rig.Is(t, "E5: committed", rig.All(t, second.CommittedEvents(t.Context(), 0)), "gap:18 188 199 20!completed end:completed")
	}, f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
		for n := 1; n <= turn.Input(); n++ {
			if err := turn.Emit(ctx, n); err != nil {
				return 0, err
			}
		}
		return 0, nil
	}))
}

func TestAReaderInAnotherProcessIsToldToo(t *testing.T) {
	f, b := words()
	bubble.Test(t, func(t *testing.T) {
		mem := memstore.New()
		s := rig.Serve(t, mem, perdure.Options{}, b)
		other, err := perdure.New(mem, nil)
		if err != nil {
			t.Fatal(err)
		}
		h := rig.Start(t, s.Client, f, 2, "t")
		events := rig.Heard(t, other.Client().Events(t.Context(), "t", &perdure.EventOptions{Turn: 1}))
		rig.Ends(t, "E3", h, perdure.Completed)
		rig.After(2 * time.Second)
		rig.Is(t, "E3", events.Get(), "11 22 3!completed end:completed ")
	})
}

func TestEventsAreEncodedAtRest(t *testing.T) {
	f, b := words()
	bubble.Test(t, func(t *testing.T) {
		mem := memstore.New()
		codec, err := perdure.NewAESGCM("k", map[string][]byte{"k": make([]byte, 32)})
		if err != nil {
			t.Fatal(err)
		}
		s := rig.Serve(t, mem, perdure.Options{Codec: codec}, b)
		h := rig.Start(t, s.Client, f, 2, "t")
		rig.Is(t, "read back", rig.All(t, h.Events(t.Context(), 0)), "11 22 3!completed end:completed")
		page, err := mem.Events(t.Context(), store.EventsQuery{TaskID: "t", Limit: 10})
		if err != nil || string(page.Events[0].Data) == "1" || len(page.Events[0].Data) < 16 {
			t.Errorf("stored as %q, %v", page.Events[0].Data, err)
		}
	})
}
