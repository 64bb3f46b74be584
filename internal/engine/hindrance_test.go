package engine_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/internal/rig"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/memstore"
)

// hindered is a store whose offers and reads of tasks meet an error, while it has one.
type hindered struct {
	store.Store
	offers, gets rig.Box[error]
}

func (h *hindered) Offer(ctx context.Context, req *store.OfferRequest) (*store.Offered, error) {
	if err := h.offers.Get(); err != nil {
		return nil, err
	}
	return h.Store.Offer(ctx, req)
}

func (h *hindered) Get(ctx context.Context, id string) (*store.Task, error) {
	if err := h.gets.Get(); err != nil {
		return nil, err
	}
	return h.Store.Get(ctx, id)
}

func TestWhatWhoRunsTheStoreCanCureIsTheReasonOfNotBeingReady(t *testing.T) {
	full := &store.TroubleError{Err: errors.New("no room on the disk")}
	for what, c := range map[string]struct {
		hinder func(*hindered, error)
		ask    func(context.Context, *rig.Server, *perdure.Func[int, int]) error
	}{
		"writes": {func(h *hindered, err error) { h.offers.Set(err) }, func(ctx context.Context, s *rig.Server, f *perdure.Func[int, int]) error {
			_, err := f.Start(ctx, s.Client, 1, &perdure.StartOptions{TaskID: "t"})
			return err
		}},
		"reads": {func(h *hindered, err error) { h.gets.Set(err) }, func(ctx context.Context, s *rig.Server, _ *perdure.Func[int, int]) error {
			_, err := s.Client.Task(ctx, "none")
			if errors.Is(err, perdure.ErrNotFound) {
				return nil
			}
			return err
		}},
	} {
		t.Run(what, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				f := perdure.NewFunc[int, int]("f", nil)
				st := &hindered{Store: memstore.New()}
				s := rig.Serve(t, st, perdure.Options{}, f.Bind(rig.Echo))
				told := func() int { return strings.Count(s.Logs.String(), "no room on the disk") }
				c.hinder(st, full)
				begin := time.Now()
				rig.Fails(t, "the call", c.ask(t.Context(), s, f), perdure.ErrUnavailable)
				if took := time.Since(begin); took < 15*time.Second {
					t.Errorf("it was given up after %v", took)
				}
				err := s.Engine.Ready()
				if rig.Fails(t, "Ready", err, perdure.ErrUnavailable); err != nil && !strings.Contains(err.Error(), "no room on the disk") {
					t.Errorf("Ready: got %v, want the reason", err)
				}
				rig.Is(t, "log records", told(), 1)
				rig.After(6 * time.Second)
				rig.Is(t, "Ready when nobody has met it for some seconds", s.Engine.Ready(), nil)
				rig.After(time.Minute)
				rig.Fails(t, "the call", c.ask(t.Context(), s, f), perdure.ErrUnavailable)
				rig.Is(t, "log records of the next minute", told(), 2)
				c.hinder(st, nil)
				rig.Is(t, "the call when it is cured", c.ask(t.Context(), s, f), nil)
				rig.Is(t, "Ready when it is cured", s.Engine.Ready(), nil)
			})
		})
	}
}

func TestAnErrorThatIsNoHindranceLeavesTheEngineReady(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := perdure.NewFunc[int, int]("f", nil)
		st := &hindered{Store: memstore.New()}
		s := rig.Serve(t, st, perdure.Options{}, f.Bind(rig.Echo))
		st.offers.Set(errors.New("the task is locked by others"))
		_, err := f.Start(t.Context(), s.Client, 1, nil)
		rig.Fails(t, "the start", err, perdure.ErrUnavailable)
		rig.Is(t, "Ready", s.Engine.Ready(), nil)
	})
}

// What the same request would meet again is not repeated.
func TestWhatTheStoreRefusesForItsContentIsRefusedAtOnce(t *testing.T) {
	for _, c := range []struct {
		large bool
		want  error
	}{{false, perdure.ErrInvalid}, {true, perdure.ErrTooLarge}} {
		bubble.Test(t, func(t *testing.T) {
			f := perdure.NewFunc[int, int]("f", nil)
			st := &hindered{Store: memstore.New()}
			s := rig.Serve(t, st, perdure.Options{}, f.Bind(rig.Echo))
			refused := &store.ContentError{Err: errors.New("not that"), Large: c.large}
			st.offers.Set(refused)
			st.gets.Set(refused)
			begin := time.Now()
			_, err := f.Start(t.Context(), s.Client, 1, nil)
			rig.Fails(t, "the start", err, c.want)
			_, err = s.Client.Task(t.Context(), "t")
			rig.Fails(t, "the read", err, c.want)
			rig.Is(t, "time that it took", time.Since(begin), 0)
			rig.Is(t, "Ready", s.Engine.Ready(), nil)
		})
	}
}

// keys is a codec with one key, or with another.
func keys(t *testing.T, id string) perdure.Codec {
	t.Helper()
	codec, err := perdure.NewAESGCM(id, map[string][]byte{id: []byte(strings.Repeat(id, 32)[:32])})
	if err != nil {
		t.Fatal(err)
	}
	return codec
}

func TestATaskWhoseKeyIsMissingIsShown(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := perdure.NewFunc[int, int]("f", &rig.Options{MultiTurn: true})
		bind := f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
			return turn.Input(), turn.Metadata().Set("k", turn.Input())
		})
		st := memstore.New()
		old := rig.Serve(t, st, perdure.Options{Codec: keys(t, "a")}, bind)
		rig.Ends(t, "first", rig.Start(t, old.Client, f, 1, "t"), perdure.Completed)
		other := rig.Serve(t, st, perdure.Options{Codec: keys(t, "b")}, bind)
		info := rig.Task(t, other.Client, "t")
		if info.Status != perdure.Suspended || !slices.Equal(info.Unreadable, []string{"k"}) || len(info.Metadata) != 0 {
			t.Errorf("the task: got %+v, want it without its metadata", info)
		}
		turn, err := other.Client.Turn(t.Context(), perdure.TurnQuery{TaskID: "t"})
		if err != nil || !slices.Equal(turn.Unreadable, []string{"input", "output"}) || turn.Input != nil || turn.Output != nil || turn.Status != perdure.Completed {
			t.Errorf("the turn: got %+v, %v, want it without its payloads", turn, err)
		}
		for turn, err := range other.Client.Turns(t.Context(), "t", nil) {
			if err != nil || len(turn.Unreadable) != 2 {
				t.Errorf("of its turns: got %+v, %v", turn, err)
			}
		}
		if o, err := other.Client.Outcome(t.Context(), perdure.TurnQuery{TaskID: "t"}); err == nil {
			t.Errorf("the outcome: got %+v, want an error and no outcome without its output", o)
		}
	})
}
