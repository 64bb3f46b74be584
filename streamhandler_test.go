package perdure_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/perduretest"
)

// shelf keeps the messages of all tasks, and counts the handlers that were built and closed.
type shelf struct {
	mu            sync.Mutex
	of            map[string][]perdure.Event
	built, closed int
	twice         int
	full          error
}

func (s *shelf) open(_ context.Context, task string) (perdure.StreamHandler, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if task == "nowhere" {
		return nil, errors.New("no place")
	}
	s.built++
	return &shelved{shelf: s, task: task}, nil
}

type shelved struct {
	shelf *shelf
	task  string
	shut  bool
}

func (h *shelved) Put(_ context.Context, e perdure.Event) error {
	h.shelf.mu.Lock()
	defer h.shelf.mu.Unlock()
	if h.shelf.full != nil {
		return h.shelf.full
	}
	e.Number = int64(len(h.shelf.of[h.task])) + 1
	h.shelf.of[h.task] = append(h.shelf.of[h.task], e)
	return nil
}

func (h *shelved) Get(_ context.Context, after int64) ([]perdure.Event, error) {
	h.shelf.mu.Lock()
	defer h.shelf.mu.Unlock()
	all := h.shelf.of[h.task]
	return all[min(after, int64(len(all))):], nil
}

func (h *shelved) Close() error {
	h.shelf.mu.Lock()
	defer h.shelf.mu.Unlock()
	h.shelf.closed++
	if h.shut {
		h.shelf.twice++
	}
	h.shut = true
	return errors.New("closed with a complaint, which is logged")
}

func newShelf() *shelf { return &shelf{of: map[string][]perdure.Event{}} }

func TestAStreamHandlerTakesTheStoresPlaceAndSurvivesRecovery(t *testing.T) {
	s := newShelf()
	f := perdure.NewFunc[int, int]("f", &options{Stream: s.open})
	perduretest.Run(t, nil, func(t *testing.T, h *perduretest.Harness) {
		handle := start(t, h.Client(), f, 3, "t")
		live := heard(t, handle.Events(t.Context(), 0))
		after(1500 * time.Millisecond)
		is(t, "E4: live", live.get(), "11 ")
		h.Crash()
		ends(t, "E4", handle, perdure.Completed)
		after(2 * time.Second)
		is(t, "E4: read over a crash", live.get(), "11 21 32 43 end:completed ")
		is(t, "E4: read again, from the middle", all(t, handle.Events(t.Context(), 2)), "32 43 end:completed")
		is(t, "E4: attempt", s.of["t"][0].Attempt, 1)
		_, err := first(handle.Events(t.Context(), -1))
		fails(t, "E4: a negative number", err, perdure.ErrInvalid)
	}, f.Bind(func(ctx context.Context, turn *turnOf) (int, error) {
		for n := 1; n <= turn.Input(); n++ {
			after(time.Second)
			if err := turn.Emit(ctx, n); err != nil {
				return 0, err
			}
		}
		return 0, nil
	}))
	if s.built != s.closed || s.twice != 0 || s.built < 4 {
		t.Errorf("E4: %d handlers were built, %d closed, %d of them twice; want each closed once", s.built, s.closed, s.twice)
	}
}

func TestAStreamHandlersErrorsReachTheHandlerAndItIsClosedWhateverHappens(t *testing.T) {
	for name, c := range map[string]struct {
		task string
		run  func(ctx context.Context, turn *turnOf, s *shelf) (int, error)
		want perdure.Status
	}{
		"put": {"t", func(ctx context.Context, turn *turnOf, s *shelf) (int, error) {
			s.full = errors.New("full")
			return 0, turn.Emit(ctx, 1)
		}, perdure.Failed},
		"panic":   {"t", func(context.Context, *turnOf, *shelf) (int, error) { panic("no") }, perdure.Failed},
		"suspend": {"t", func(_ context.Context, turn *turnOf, _ *shelf) (int, error) { return turn.Suspend(1, "later") }, perdure.Suspended},
		"open":    {"nowhere", func(context.Context, *turnOf, *shelf) (int, error) { return 0, nil }, perdure.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf()
			f := perdure.NewFunc[int, int]("f", &options{Stream: s.open})
			in(t, perdure.Options{}, func(t *testing.T, srv *server) {
				ends(t, "E4", start(t, srv.c, f, 1, c.task), c.want)
				synctest.Wait()
			}, f.Bind(func(ctx context.Context, turn *turnOf) (int, error) { return c.run(ctx, turn, s) }))
			if s.built != s.closed || s.twice != 0 {
				t.Errorf("E4: %d built, %d closed", s.built, s.closed)
			}
		})
	}
}

func TestTheStreamOfAStreamHandlerEndsWithATerminateAndADelete(t *testing.T) {
	s := newShelf()
	f := perdure.NewFunc[int, int]("f", &options{Stream: s.open})
	in(t, perdure.Options{}, func(t *testing.T, srv *server) {
		terminated, deleted := start(t, srv.c, f, 1, "t"), start(t, srv.c, f, 1, "d")
		one, two := heard(t, srv.c.Events(t.Context(), "t", nil)), heard(t, deleted.Events(t.Context(), 0))
		synctest.Wait()
		if err := errors.Join(terminated.Terminate(t.Context(), ""), deleted.Delete(t.Context())); err != nil {
			t.Fatal(err)
		}
		after(2 * time.Second)
		is(t, "E4: terminated", one.get(), "11 end:terminated ")
		is(t, "E4: deleted", two.get(), "11 end:deleted ")
	}, f.Bind(func(ctx context.Context, turn *turnOf) (int, error) {
		if err := turn.Emit(ctx, 1); err != nil {
			return 0, err
		}
		<-ctx.Done()
		return 0, turn.Emit(ctx, 2)
	}))
}
