package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/internal/rig"
	"github.com/perdure/perdure/perduretest"
	"github.com/perdure/perdure/store/memstore"
)

// entries notes when handlers are entered.
type entries struct {
	rig.Box[[]entered]
}

type entered struct {
	task       string
	recoveries int
	at         time.Time
}

func (e *entries) note(turn *rig.Turn) {
	e.Change(func(all []entered) []entered {
		return append(all, entered{turn.TaskID(), turn.Recoveries(), time.Now()})
	})
}

// releasing gives its turn back at every entry, which counts like a crash, after what it does before.
func releasing(e *entries, before func(ctx context.Context, turn *rig.Turn)) rig.Handler {
	return func(ctx context.Context, turn *rig.Turn) (int, error) {
		e.note(turn)
		if before != nil {
			before(ctx, turn)
		}
		return turn.Release()
	}
}

func TestFromTheThirdReEntryOnRecoveryIsDelayedAndThenTheTaskIsParked(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", &rig.Options{MaxRecoveries: 9, Steerable: true})
	var e entries
	rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
		h := rig.Start(t, s.Client, f, 1, "t")
		queued := rig.StartWith(t, s.Client, f, 2, &perdure.StartOptions{TaskID: "t", Deliver: perdure.Enqueue})
		_, err := h.Result(t.Context())
		rig.Fails(t, "R4: Result", err, perdure.ErrParked)
		var delays []time.Duration
		for i, at := range e.Get()[1:] {
			delays = append(delays, at.at.Sub(e.Get()[i].at).Truncate(time.Second))
		}
		want := []time.Duration{0, 0, 1, 2, 4, 8, 16, 32, 60}
		for i := range want {
			want[i] *= time.Second
		}
		if !slices.Equal(delays, want) {
			t.Errorf("R4: delays: got %v, want %v", delays, want)
		}
		info := rig.Task(t, s.Client, "t")
		rig.Is(t, "R4: status", info.Status, perdure.Parked)
		rig.Is(t, "R4: inputs that wait", info.Pending, 1)
		if !strings.Contains(info.Reason, "died") {
			t.Errorf("R4: reason: got %q, want one that says that its process died", info.Reason)
		}
		turn, err := s.Client.Turn(t.Context(), perdure.TurnQuery{TaskID: "t", Turn: queued.Turn()})
		if err != nil {
			t.Fatal(err)
		}
		rig.Is(t, "Parked: the queued turn", turn.Status, perdure.Queued)
		_, err = f.Start(t.Context(), s.Client, 3, &perdure.StartOptions{TaskID: "t"})
		var conflict *perdure.ConflictError
		if !errors.As(err, &conflict) || conflict.Status != perdure.Parked {
			t.Errorf("S1: start on a parked task: got %v, want a conflict", err)
		}
		status, err := s.Client.Resume(t.Context(), "t", nil)
		rig.Is(t, "Parked: status after resume", status, perdure.Pending)
		rig.Is(t, "Parked: error of resume", err, nil)
		rig.After(time.Second / 2)
		last := e.Get()[len(e.Get())-1]
		if time.Since(last.at) > 2*time.Second || last.recoveries > 2 {
			t.Errorf("Parked: resume: got entry %+v, want one just now with its recoveries forgotten", last)
		}
		_, err = s.Client.Resume(t.Context(), "t", nil)
		if !errors.As(err, &conflict) {
			t.Errorf("Parked: resume of a task that is not: got %v, want a conflict", err)
		}
	}, f.Bind(releasing(&e, nil)))
}

func TestACheckpointOrAMinuteOfLifeClearsTheCountButNotForEver(t *testing.T) {
	for name, before := range map[string]func(context.Context, *rig.Turn){
		"checkpoint": func(ctx context.Context, turn *rig.Turn) { _ = turn.Checkpoint(ctx) },
		"minute":     func(context.Context, *rig.Turn) { rig.After(61 * time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			f := perdure.NewFunc[int, int]("f", &rig.Options{MaxRecoveries: 4})
			var e entries
			rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
				_, err := rig.Start(t, s.Client, f, 1, "t").Result(t.Context())
				rig.Fails(t, "R4: Result", err, perdure.ErrParked)
				rig.Is(t, "R4: entries before it is parked: one and ten times MaxRecoveries", len(e.Get()), 41)
			}, f.Bind(releasing(&e, before)))
		})
	}
}

func TestSuspectsAreEnteredOneAtATime(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", nil)
	var e entries
	rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
		for i := range 4 {
			rig.Start(t, s.Client, f, i, fmt.Sprint("t", i))
		}
		rig.After(time.Minute)
		var at []time.Duration
		for _, entry := range e.Get() {
			if entry.recoveries == 3 {
				at = append(at, entry.at.Sub(e.Get()[0].at).Truncate(time.Second))
			}
		}
		// The first lives on, the second saves, the third ends, the fourth is the last.
		want := []time.Duration{1 * time.Second, 11 * time.Second, 12 * time.Second, 13 * time.Second}
		if !slices.Equal(at, want) {
			t.Errorf("R4: suspects were entered at %v, want %v", at, want)
		}
	}, f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
		e.note(turn)
		if turn.Recoveries() < 3 {
			return turn.Release()
		}
		suspects := 0
		for _, entry := range e.Get() {
			if entry.recoveries == 3 {
				suspects++
			}
		}
		switch suspects {
		case 2:
			rig.After(time.Second)
			_ = turn.Checkpoint(ctx)
		case 3:
			rig.After(time.Second)
			return 1, nil
		}
		<-turn.Interrupt().Done()
		return 0, context.Cause(turn.Interrupt())
	}))
}

func TestReleasesAtShutdownDoNotCount(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", nil)
	perduretest.Run(t, nil, func(t *testing.T, h *perduretest.Harness) {
		rig.Start(t, h.Client(), f, 1, "t")
		for range 5 {
			h.Advance(time.Second)
			h.Restart()
		}
		h.Advance(time.Second)
		rig.Is(t, "R4: recoveries", h.Task("t").Turn.Recoveries, 0)
		rig.Is(t, "H1: entry", h.Task("t").Turn.Entry, perdure.Recovered)
		rig.Is(t, "H1: status", h.Task("t").Status, perdure.InProgress)
	}, f.Bind(rig.Stay))
}

func TestWhatCannotBeDecodedIsParkedUntilAnOperatorActs(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		mem := memstore.New()
		fraction := perdure.NewFunc[float64, int]("f", nil)
		number := perdure.NewFunc[int, int]("f", nil)
		writer, err := perdure.New(mem, nil)
		if err != nil {
			t.Fatal(err)
		}
		s := rig.Serve(t, mem, perdure.Options{}, number.Bind(rig.Echo))
		for _, id := range []string{"cancel", "terminate", "delete", "resume"} {
			h, err := fraction.Start(t.Context(), writer.Client(), 4321.5, &perdure.StartOptions{TaskID: id})
			if err != nil {
				t.Fatal(err)
			}
			rig.After(time.Second)
			_, err = h.Result(t.Context())
			var parked *perdure.ParkedError
			if !errors.As(err, &parked) || !strings.Contains(parked.Reason, "decode") || strings.Contains(parked.Reason, "4321") {
				t.Errorf("Parked: got %v, want a reason that says that the input does not decode", err)
			}
		}
		status, _ := s.Client.Cancel(t.Context(), "cancel", nil)
		rig.Is(t, "C7: cancel of a parked task", status, perdure.Cancelled)
		status, _ = s.Client.Terminate(t.Context(), "terminate", nil)
		rig.Is(t, "C7: terminate of a parked task", status, perdure.Terminated)
		rig.Is(t, "Parked: delete", s.Client.Delete(t.Context(), "delete", nil), nil)
		_, err = s.Client.Task(t.Context(), "delete")
		rig.Fails(t, "Parked: after delete", err, perdure.ErrNotFound)
		_, _ = s.Client.Resume(t.Context(), "resume", nil)
		rig.After(time.Second)
		rig.Is(t, "Parked: resumed and still undecodable", rig.Task(t, s.Client, "resume").Status, perdure.Parked)
	})
}
