package perdure_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/perduretest"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/memstore"
	"github.com/perdure/perdure/store/storetest"
)

// short writes an event in short: number, kind and what it says.
func short(e perdure.Event) string {
	switch e.Kind {
	case perdure.EventRewind:
		return fmt.Sprintf("%d<%d", e.Number, e.To)
	case perdure.EventTurn:
		return fmt.Sprintf("%d!%s", e.Number, e.Status)
	case perdure.EventGap:
		return fmt.Sprintf("gap:%d", e.First)
	case perdure.EventEnd:
		return "end:" + string(e.Status)
	}
	return fmt.Sprintf("%d%s", e.Number, e.Data)
}

// all reads a stream to its end.
func all(t *testing.T, events iter.Seq2[perdure.Event, error]) string {
	t.Helper()
	var texts []string
	for e, err := range events {
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, short(e))
	}
	return strings.Join(texts, " ")
}

// heard collects a stream as it comes.
func heard(t *testing.T, events iter.Seq2[perdure.Event, error]) *box[string] {
	t.Helper()
	var b box[string]
	go func() {
		text := ""
		for e, err := range events {
			if err != nil {
				b.set(text + "error: " + err.Error())
				return
			}
			text += short(e) + " "
			b.set(text)
		}
	}()
	return &b
}

// words is a multi-turn, steerable func that emits the numbers from 1 to its input, with a checkpoint after
// every second one and a pause before each.
func words() (*fn, perdure.Binding) {
	f := perdure.NewFunc[int, int]("words", &options{MultiTurn: true, Steerable: true})
	return f, f.Bind(func(ctx context.Context, turn *turnOf) (int, error) {
		for n := 1; n <= turn.Input(); n++ {
			after(time.Second)
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
	in(t, perdure.Options{}, func(t *testing.T, s *server) {
		h := start(t, s.c, f, 3, "t")
		early := heard(t, h.Events(t.Context(), 0))
		after(1500 * time.Millisecond)
		is(t, "E3: live", early.get(), "11 ")
		late := heard(t, h.Events(t.Context(), 0))
		middle := heard(t, h.Events(t.Context(), 1))
		beyond := heard(t, h.Events(t.Context(), 3))
		ends(t, "E3", h, perdure.Completed)
		synctest.Wait()
		want := "11 22 33 4!completed end:completed "
		is(t, "E3: from the beginning", early.get(), want)
		is(t, "E3: history and live", late.get(), want)
		is(t, "E3: from the middle", middle.get(), "22 33 4!completed end:completed ")
		is(t, "E3: after a number that is not there yet", beyond.get(), "4!completed end:completed ")
		is(t, "E3: after the end", all(t, h.Events(t.Context(), 0)), strings.TrimSpace(want))
		is(t, "E3: after everything", all(t, h.Events(t.Context(), 4)), "end:completed")
	}, b)
}

func TestAStreamIsReadToTheEndOfATurnOrOfTheTask(t *testing.T) {
	f, b := words()
	in(t, perdure.Options{}, func(t *testing.T, s *server) {
		first := start(t, s.c, f, 1, "t")
		whole := heard(t, s.c.Events(t.Context(), "t", nil))
		second := startWith(t, s.c, f, 1, &perdure.StartOptions{TaskID: "t", Deliver: perdure.Enqueue})
		ends(t, "E3", second, perdure.Completed)
		synctest.Wait()
		is(t, "the first turn's handle", all(t, first.Events(t.Context(), 0)), "11 2!completed end:completed")
		is(t, "the second's", all(t, second.Events(t.Context(), 2)), "31 4!completed end:completed")
		is(t, "a suspended conversation has no end", whole.get(), "11 2!completed 31 4!completed ")
		if _, err := s.c.Cancel(t.Context(), "t", &perdure.CancelOptions{Reason: "enough"}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		is(t, "the task's end", whole.get(), "11 2!completed 31 4!completed end:cancelled ")
	}, b)
}

func TestDeletionEndsAStream(t *testing.T) {
	f, b := words()
	in(t, perdure.Options{}, func(t *testing.T, s *server) {
		h := start(t, s.c, f, 9, "t")
		events := heard(t, h.Events(t.Context(), 0))
		after(1500 * time.Millisecond)
		if err := h.Delete(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		is(t, "E3", events.get(), "11 end:deleted ")
		is(t, "E3: of the incarnation that is gone", all(t, h.Events(t.Context(), 0)), "end:deleted")
		_, err := first(s.c.Events(t.Context(), "t", nil))
		fails(t, "E3: of a task that is not there", err, perdure.ErrNotFound)
		for _, opts := range []perdure.EventOptions{{After: -1}, {Turn: -1}} {
			_, err = first(s.c.Events(t.Context(), "t", &opts))
			fails(t, fmt.Sprint(opts), err, perdure.ErrInvalid)
		}
	}, b)
}

// first returns the first event of a stream, or its error.
func first(events iter.Seq2[perdure.Event, error]) (perdure.Event, error) {
	for e, err := range events {
		return e, err
	}
	return perdure.Event{}, errors.New("no event")
}

func TestACrashTakesBackWhatNoCheckpointHadCommitted(t *testing.T) {
	f, b := words()
	perduretest.Run(t, nil, func(t *testing.T, h *perduretest.Harness) {
		handle := start(t, h.Client(), f, 4, "t")
		events := heard(t, handle.Events(t.Context(), 0))
		committed := heard(t, handle.CommittedEvents(t.Context(), 0))
		after(3500 * time.Millisecond)
		is(t, "E2: before the crash", events.get(), "11 22 33 ")
		is(t, "E2: committed before the crash", committed.get(), "11 22 ")
		h.Crash()
		ends(t, "E2", handle, perdure.Completed)
		after(time.Minute)
		want := "11 22 33 4<2 51 62 73 84 9!completed end:completed "
		is(t, "E2: live", events.get(), want)
		is(t, "E2: committed", committed.get(), "11 22 51 62 73 84 9!completed end:completed ")
		is(t, "E2: read again", all(t, handle.Events(t.Context(), 0))+" ", want)
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
		is(t, "E2: folded, from the middle", text, "21234")
	}, b)
}

func TestKeepEventsKeepsTheEventsOfTheTryBefore(t *testing.T) {
	var late box[error]
	f := perdure.NewFunc[int, int]("f", &options{Retry: perdure.FixedRetry(3, time.Second)})
	in(t, perdure.Options{}, func(t *testing.T, s *server) {
		h := start(t, s.c, f, 5, "t")
		ends(t, "E2", h, perdure.Completed)
		is(t, "E2", all(t, h.Events(t.Context(), 0)), "11 22 33 44 55 6!completed end:completed")
		fails(t, "E2: KeepEvents after Emit", late.get(), perdure.ErrInvalid)
	}, f.Bind(func(ctx context.Context, turn *turnOf) (int, error) {
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
			after(50 * time.Millisecond)
			if n == 2 || n == 4 {
				_, err := turn.KeepEvents(ctx)
				late.set(err)
				return 0, errors.New("again")
			}
		}
		return n, nil
	}))
}

func TestATurnThatFailsKeepsItsEvents(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", nil)
	in(t, perdure.Options{}, func(t *testing.T, s *server) {
		h := start(t, s.c, f, 1, "t")
		is(t, "E2", all(t, h.Events(t.Context(), 0)), "11 22 3!failed end:failed")
		is(t, "E2: committed", all(t, h.CommittedEvents(t.Context(), 0)), "11 22 3!failed end:failed")
	}, f.Bind(func(ctx context.Context, turn *turnOf) (int, error) {
		return 0, errors.Join(turn.EmitMany(ctx, 1, 2), errors.New("failed"))
	}))
}

func TestEmitWaitsWhereTheStoreIsSlow(t *testing.T) {
	var emitted box[int]
	f := perdure.NewFunc[int, int]("f", nil)
	bubble.Test(t, func(t *testing.T) {
		st := &held{Store: memstore.New()}
		s := serve(t, st, perdure.Options{EmitEvents: 10}, f.Bind(func(ctx context.Context, turn *turnOf) (int, error) {
			for n := range 40 {
				if err := turn.Emit(ctx, n); err != nil {
					return 0, err
				}
				emitted.set(n + 1)
			}
			return 0, nil
		}))
		release := st.hold("Checkpoint")
		h := start(t, s.c, f, 1, "t")
		after(time.Minute)
		if n := emitted.get(); n > 20 {
			t.Errorf("E1: %d events were taken while the store had answered none; want one batch under way, and one that waits", n)
		}
		release()
		ends(t, "E1", h, perdure.Completed)
		if got := all(t, h.Events(t.Context(), 38)); got != "3938 4039 41!completed end:completed" {
			t.Errorf("E1: got %s", got)
		}
	})
}

func TestNothingIsShownBeforeItIsDurable(t *testing.T) {
	f, b := words()
	bubble.Test(t, func(t *testing.T) {
		st, f1 := faulty(memstore.New())
		s := serve(t, st, perdure.Options{}, b)
		f1.set(func(c storetest.Call) storetest.Fault {
			if c.Op == "Checkpoint" {
				return storetest.FailBefore
			}
			return storetest.None
		})
		h := start(t, s.c, f, 2, "t")
		events := heard(t, h.Events(t.Context(), 0))
		after(5 * time.Second)
		is(t, "E1: while the store refuses", events.get(), "")
		f1.set(func(storetest.Call) storetest.Fault { return storetest.None })
		ends(t, "E1", h, perdure.Completed)
		synctest.Wait()
		is(t, "E1: afterwards", events.get(), "11 22 3!completed end:completed ")
	})
}

func TestAnAnswerThatIsLostIsNoSecondBatch(t *testing.T) {
	f, b := words()
	bubble.Test(t, func(t *testing.T) {
		st, f1 := faulty(memstore.New())
		s := serve(t, st, perdure.Options{}, b)
		odd := false
		f1.set(func(c storetest.Call) storetest.Fault {
			if odd = !odd; c.Op == "Checkpoint" && odd {
				return storetest.FailAfter
			}
			return storetest.None
		})
		h := start(t, s.c, f, 5, "t")
		ends(t, "O6", h, perdure.Completed)
		is(t, "O6", all(t, h.Events(t.Context(), 0)), "11 22 33 44 55 6!completed end:completed")
	})
}

// A checkpoint whose caller gives up may have been written. The next write finds out, and nothing is lost,
// written twice or out of order.
func TestACheckpointThatIsGivenUpLosesNoEvents(t *testing.T) {
	for _, applied := range []bool{false, true} {
		f := perdure.NewFunc[int, int]("f", nil)
		bubble.Test(t, func(t *testing.T) {
			st, f1 := faulty(memstore.New())
			s := serve(t, st, perdure.Options{}, f.Bind(func(ctx context.Context, turn *turnOf) (int, error) {
				f1.set(func(c storetest.Call) storetest.Fault {
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
				f1.set(func(storetest.Call) storetest.Fault { return storetest.None })
				return 0, turn.Emit(ctx, 2)
			}))
			h := start(t, s.c, f, 1, "t")
			ends(t, "O6", h, perdure.Completed)
			is(t, fmt.Sprintf("O6: applied %v", applied), all(t, h.Events(t.Context(), 0)), "11 22 3!completed end:completed")
		})
	}
}

func TestAnEventThatCannotBeStoredIsRefusedAtTheCall(t *testing.T) {
	var tooLarge, noJSON box[error]
	f := perdure.NewFunc[int, int]("f", nil)
	in(t, perdure.Options{Limits: perdure.Limits{Event: 100}}, func(t *testing.T, s *server) {
		h := start(t, s.c, f, 1, "t")
		ends(t, "S6", h, perdure.Completed)
		fails(t, "S6", tooLarge.get(), perdure.ErrTooLarge)
		fails(t, "S6", noJSON.get(), perdure.ErrInvalid)
		is(t, "S6: nothing of them is there", all(t, h.Events(t.Context(), 0)), "1!completed end:completed")
	}, f.Bind(func(ctx context.Context, turn *turnOf) (int, error) {
		tooLarge.set(turn.EmitMany(ctx, 1, strings.Repeat("x", 100)))
		noJSON.set(turn.EmitMany(ctx, 1, func() {}))
		return 0, nil
	}))
}

func TestAFencedHandlerCannotEmit(t *testing.T) {
	var got box[error]
	f := perdure.NewFunc[int, int]("f", nil)
	in(t, perdure.Options{}, func(t *testing.T, s *server) {
		h := start(t, s.c, f, 1, "t")
		synctest.Wait()
		if err := h.Terminate(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		after(2 * time.Second)
		fails(t, "E2", got.get(), perdure.ErrTerminated)
		is(t, "E2", all(t, h.Events(t.Context(), 0)), "1!terminated end:terminated")
	}, f.Bind(func(ctx context.Context, turn *turnOf) (int, error) {
		<-ctx.Done()
		after(time.Second)
		got.set(turn.Emit(ctx, 1))
		return 0, nil
	}))
}

func TestWhatIsTrimmedIsAGap(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", &options{MultiTurn: true, KeepEvents: 3})
	in(t, perdure.Options{}, func(t *testing.T, s *server) {
		h := start(t, s.c, f, 9, "t")
		ends(t, "E5", h, perdure.Completed)
		after(2 * time.Second)
		is(t, "E5: from the beginning", all(t, h.Events(t.Context(), 0)), "gap:8 88 99 10!completed end:completed")
		is(t, "E5: from the last that is gone", all(t, h.Events(t.Context(), 7)), "88 99 10!completed end:completed")
		second := start(t, s.c, f, 9, "t")
		ends(t, "E5", second, perdure.Completed)
		after(2 * time.Second)
		is(t, "E5: to an end that is gone", all(t, h.Events(t.Context(), 0)), "gap:18 end:completed")
		is(t, "E5: committed", all(t, second.CommittedEvents(t.Context(), 0)), "gap:18 188 199 20!completed end:completed")
	}, f.Bind(func(ctx context.Context, turn *turnOf) (int, error) {
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
		s := serve(t, mem, perdure.Options{}, b)
		other, err := perdure.New(mem, nil)
		if err != nil {
			t.Fatal(err)
		}
		h := start(t, s.c, f, 2, "t")
		events := heard(t, other.Client().Events(t.Context(), "t", &perdure.EventOptions{Turn: 1}))
		ends(t, "E3", h, perdure.Completed)
		after(2 * time.Second)
		is(t, "E3", events.get(), "11 22 3!completed end:completed ")
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
		s := serve(t, mem, perdure.Options{Codec: codec}, b)
		h := start(t, s.c, f, 2, "t")
		is(t, "read back", all(t, h.Events(t.Context(), 0)), "11 22 3!completed end:completed")
		page, err := mem.Events(t.Context(), store.EventsQuery{TaskID: "t", Limit: 10})
		if err != nil || string(page.Events[0].Data) == "1" || len(page.Events[0].Data) < 16 {
			t.Errorf("stored as %q, %v", page.Events[0].Data, err)
		}
	})
}
