package perdure_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/rig"
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
	f := perdure.NewFunc[int, int]("f", &rig.Options{Stream: s.open})
	perduretest.Run(t, nil, func(t *testing.T, h *perduretest.Harness) {
		handle := rig.Start(t, h.Client(), f, 3, "t")
		live := rig.Heard(t, handle.Events(t.Context(), 0))
		rig.After(1500 * time.Millisecond)
		rig.Is(t, "E4: live", live.Get(), "11 ")
		h.Crash()
		rig.Ends(t, "E4", handle, perdure.Completed)
		rig.After(2 * time.Second)
		rig.Is(t, "E4: read over a crash", live.Get(), "11 21 32 43 end:completed ")
		rig.Is(t, "E4: read again, from the middle", rig.All(t, handle.Events(t.Context(), 2)), "32 43 end:completed")
		rig.Is(t, "E4: attempt", s.of["t"][0].Attempt, 1)
		_, err := rig.First(handle.Events(t.Context(), -1))
		rig.Fails(t, "E4: a negative number", err, perdure.ErrInvalid)
	}, f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
		for n := 1; n <= turn.Input(); n++ {
			rig.After(time.Second)
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
		run  func(ctx context.Context, turn *rig.Turn, s *shelf) (int, error)
		want perdure.Status
	}{
		"put": {"t", func(ctx context.Context, turn *rig.Turn, s *shelf) (int, error) {
			s.full = errors.New("full")
			return 0, turn.Emit(ctx, 1)
		}, perdure.Failed},
		"panic":   {"t", func(context.Context, *rig.Turn, *shelf) (int, error) { panic("no") }, perdure.Failed},
		"suspend": {"t", func(_ context.Context, turn *rig.Turn, _ *shelf) (int, error) { return turn.Suspend(1, "later") }, perdure.Suspended},
		"open":    {"nowhere", func(context.Context, *rig.Turn, *shelf) (int, error) { return 0, nil }, perdure.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf()
			f := perdure.NewFunc[int, int]("f", &rig.Options{Stream: s.open})
			rig.In(t, perdure.Options{}, func(t *testing.T, srv *rig.Server) {
				rig.Ends(t, "E4", rig.Start(t, srv.Client, f, 1, c.task), c.want)
				synctest.Wait()
			}, f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) { return c.run(ctx, turn, s) }))
			if s.built != s.closed || s.twice != 0 {
				t.Errorf("E4: %d built, %d closed", s.built, s.closed)
			}
		})
	}
}

func TestTheStreamOfAStreamHandlerEndsWithATerminateAndADelete(t *testing.T) {
	s := newShelf()
	f := perdure.NewFunc[int, int]("f", &rig.Options{Stream: s.open})
	rig.In(t, perdure.Options{}, func(t *testing.T, srv *rig.Server) {
		terminated, deleted := rig.Start(t, srv.Client, f, 1, "t"), rig.Start(t, srv.Client, f, 1, "d")
		one, two := rig.Heard(t, srv.Client.Events(t.Context(), "t", nil)), rig.Heard(t, deleted.Events(t.Context(), 0))
		synctest.Wait()
		if err := errors.Join(terminated.Terminate(t.Context(), ""), deleted.Delete(t.Context())); err != nil {
			t.Fatal(err)
		}
		rig.After(2 * time.Second)
		rig.Is(t, "E4: terminated", one.Get(), "11 end:terminated ")
		rig.Is(t, "E4: deleted", two.Get(), "11 end:deleted ")
	}, f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
		if err := turn.Emit(ctx, 1); err != nil {
			return 0, err
		}
		<-ctx.Done()
		return 0, turn.Emit(ctx, 2)
	}))
}

// breaking is a place whose handlers panic when they are closed.
type breaking struct{ *shelf }

type unclosable struct{ perdure.StreamHandler }

func (s breaking) open(ctx context.Context, task string) (perdure.StreamHandler, error) {
	h, err := s.shelf.open(ctx, task)
	return unclosable{h}, err
}

func (unclosable) Close() error { panic("out of order") }

func TestAReaderWhoHasLeftOrHasTheEndHearsNothingOfAPanicInClose(t *testing.T) {
	const end = "11 22 end:completed "
	for name, c := range map[string]struct {
		opts   perdure.EventOptions
		leave  perdure.EventKind // at which the reader leaves
		want   string
		logged bool
	}{
		"leaves at a message": {perdure.EventOptions{}, perdure.EventMessage, "11 ", true},
		"leaves at the end":   {perdure.EventOptions{}, perdure.EventEnd, end, true},
		"stays":               {perdure.EventOptions{}, "", end, true},
		"wants no more":       {perdure.EventOptions{Limit: 1}, "", "11 ", true},
		"wants more":          {perdure.EventOptions{Limit: 5}, "", end, true},
		"can be told":         {perdure.EventOptions{NoWait: true}, "", "11 22 panic: out of order ", false},
	} {
		t.Run(name, func(t *testing.T) {
			f := perdure.NewFunc[int, int]("f", &rig.Options{MultiTurn: c.opts.NoWait, Stream: breaking{newShelf()}.open})
			rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
				rig.Start(t, s.Client, f, 1, "t")
				synctest.Wait()
				before := strings.Count(s.Logs.String(), "out of order") // the entry's own handler
				got := ""
				for e, err := range s.Client.Events(t.Context(), "t", &c.opts) {
					if err != nil {
						got += errors.Unwrap(err).Error() + " "
						continue
					}
					if got += rig.Short(e) + " "; e.Kind == c.leave {
						break
					}
				}
				rig.Is(t, "E4: events", got, c.want)
				rig.Is(t, "E4: logged", strings.Count(s.Logs.String(), "out of order") > before, c.logged)
			}, f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) { return 1, turn.EmitMany(ctx, 1, 2) }))
		})
	}
}

// odd is a stream handler that returns the same page whatever it is asked for.
type odd []perdure.Event

func (o odd) Put(context.Context, perdure.Event) error            { return nil }
func (o odd) Get(context.Context, int64) ([]perdure.Event, error) { return o, nil }
func (o odd) Close() error                                        { return nil }

func TestWhatAStreamHandlerReturnsIsChecked(t *testing.T) {
	message := perdure.Event{Number: 1, Kind: perdure.EventMessage, Data: []byte("1")}
	for what, c := range map[string]struct {
		event perdure.Event
		reads int
	}{
		"a number again": {message, 1},
		"no number":      {perdure.Event{Kind: perdure.EventMessage, Data: []byte("1")}, 0},
		"an end":         {perdure.Event{Number: 1, Kind: perdure.EventEnd}, 0},
		"no JSON":        {perdure.Event{Number: 1, Kind: perdure.EventMessage, Data: []byte("{")}, 0},
	} {
		t.Run(what, func(t *testing.T) {
			f := perdure.NewFunc[int, int]("f", &rig.Options{Stream: func(context.Context, string) (perdure.StreamHandler, error) { return odd{c.event}, nil }})
			rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
				rig.Ends(t, "E4", rig.Start(t, s.Client, f, 1, "t"), perdure.Completed)
				read, err := 0, error(nil)
				for _, err = range s.Client.Events(t.Context(), "t", nil) {
					if read++; err != nil {
						break
					}
				}
				if err == nil || read != c.reads+1 {
					t.Errorf("E4: got %d events and %v, want %d and an error", read, err, c.reads)
				}
			}, f.Bind(rig.Echo))
		})
	}
}
