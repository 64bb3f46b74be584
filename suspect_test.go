package perdure_test

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
	"github.com/perdure/perdure/perduretest"
	"github.com/perdure/perdure/store/memstore"
)

// entries notes when handlers are entered.
type entries struct {
	box[[]entered]
}

type entered struct {
	task       string
	recoveries int
	at         time.Time
}

func (e *entries) note(turn *turnOf) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.v = append(e.v, entered{turn.TaskID(), turn.Recoveries(), time.Now()})
}

// releasing gives its turn back at every entry, which counts like a crash, after what it does before.
func releasing(e *entries, before func(ctx context.Context, turn *turnOf)) handler {
	return func(ctx context.Context, turn *turnOf) (int, error) {
		e.note(turn)
		if before != nil {
			before(ctx, turn)
		}
		return turn.Release()
	}
}

func TestFromTheThirdReEntryOnRecoveryIsDelayedAndThenTheTaskIsParked(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", &options{MaxRecoveries: 9, Steerable: true})
	var e entries
	in(t, perdure.Options{}, func(t *testing.T, s *server) {
		h := start(t, s.c, f, 1, "t")
		queued := startWith(t, s.c, f, 2, &perdure.StartOptions{TaskID: "t", Deliver: perdure.Enqueue})
		_, err := h.Result(t.Context())
		fails(t, "R4: Result", err, perdure.ErrParked)
		var delays []time.Duration
		for i, at := range e.get()[1:] {
			delays = append(delays, at.at.Sub(e.get()[i].at).Truncate(time.Second))
		}
		want := []time.Duration{0, 0, 1, 2, 4, 8, 16, 32, 60}
		for i := range want {
			want[i] *= time.Second
		}
		if !slices.Equal(delays, want) {
			t.Errorf("R4: delays: got %v, want %v", delays, want)
		}
		info := task(t, s.c, "t")
		is(t, "R4: status", info.Status, perdure.Parked)
		is(t, "R4: inputs that wait", info.Pending, 1)
		if !strings.Contains(info.Reason, "died") {
			t.Errorf("R4: reason: got %q, want one that says that its process died", info.Reason)
		}
		turn, err := s.c.Turn(t.Context(), perdure.TurnQuery{TaskID: "t", Turn: queued.Turn()})
		if err != nil {
			t.Fatal(err)
		}
		is(t, "Parked: the queued turn", turn.Status, perdure.Queued)
		_, err = f.Start(t.Context(), s.c, 3, &perdure.StartOptions{TaskID: "t"})
		var conflict *perdure.ConflictError
		if !errors.As(err, &conflict) || conflict.Status != perdure.Parked {
			t.Errorf("S1: start on a parked task: got %v, want a conflict", err)
		}
		status, err := s.c.Resume(t.Context(), "t")
		is(t, "Parked: status after resume", status, perdure.Pending)
		is(t, "Parked: error of resume", err, nil)
		after(time.Second / 2)
		last := e.get()[len(e.get())-1]
		if time.Since(last.at) > 2*time.Second || last.recoveries > 2 {
			t.Errorf("Parked: resume: got entry %+v, want one just now with its recoveries forgotten", last)
		}
		_, err = s.c.Resume(t.Context(), "t")
		if !errors.As(err, &conflict) {
			t.Errorf("Parked: resume of a task that is not: got %v, want a conflict", err)
		}
	}, f.Bind(releasing(&e, nil)))
}

func TestACheckpointOrAMinuteOfLifeClearsTheCountButNotForEver(t *testing.T) {
	for name, before := range map[string]func(context.Context, *turnOf){
		"checkpoint": func(ctx context.Context, turn *turnOf) { _ = turn.Checkpoint(ctx) },
		"minute":     func(context.Context, *turnOf) { after(61 * time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			f := perdure.NewFunc[int, int]("f", &options{MaxRecoveries: 4})
			var e entries
			in(t, perdure.Options{}, func(t *testing.T, s *server) {
				_, err := start(t, s.c, f, 1, "t").Result(t.Context())
				fails(t, "R4: Result", err, perdure.ErrParked)
				is(t, "R4: entries before it is parked: one and ten times MaxRecoveries", len(e.get()), 41)
			}, f.Bind(releasing(&e, before)))
		})
	}
}

func TestSuspectsAreEnteredOneAtATime(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", nil)
	var e entries
	in(t, perdure.Options{}, func(t *testing.T, s *server) {
		for i := range 4 {
			start(t, s.c, f, i, fmt.Sprint("t", i))
		}
		after(time.Minute)
		var at []time.Duration
		for _, entry := range e.get() {
			if entry.recoveries == 3 {
				at = append(at, entry.at.Sub(e.get()[0].at).Truncate(time.Second))
			}
		}
		// The first lives on, the second saves, the third ends, the fourth is the last.
		want := []time.Duration{1 * time.Second, 11 * time.Second, 12 * time.Second, 13 * time.Second}
		if !slices.Equal(at, want) {
			t.Errorf("R4: suspects were entered at %v, want %v", at, want)
		}
	}, f.Bind(func(ctx context.Context, turn *turnOf) (int, error) {
		e.note(turn)
		if turn.Recoveries() < 3 {
			return turn.Release()
		}
		suspects := 0
		for _, entry := range e.get() {
			if entry.recoveries == 3 {
				suspects++
			}
		}
		switch suspects {
		case 2:
			after(time.Second)
			_ = turn.Checkpoint(ctx)
		case 3:
			after(time.Second)
			return 1, nil
		}
		<-turn.Interrupt().Done()
		return 0, context.Cause(turn.Interrupt())
	}))
}

func TestReleasesAtShutdownDoNotCount(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", nil)
	perduretest.Run(t, nil, func(t *testing.T, h *perduretest.Harness) {
		start(t, h.Client(), f, 1, "t")
		for range 5 {
			h.Advance(time.Second)
			h.Restart()
		}
		h.Advance(time.Second)
		is(t, "R4: recoveries", h.Task("t").Turn.Recoveries, 0)
		is(t, "H1: entry", h.Task("t").Turn.Entry, perdure.Recovered)
		is(t, "H1: status", h.Task("t").Status, perdure.InProgress)
	}, f.Bind(stay))
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
		s := serve(t, mem, perdure.Options{}, number.Bind(echo))
		for _, id := range []string{"cancel", "terminate", "delete", "resume"} {
			h, err := fraction.Start(t.Context(), writer.Client(), 4321.5, &perdure.StartOptions{TaskID: id})
			if err != nil {
				t.Fatal(err)
			}
			after(time.Second)
			_, err = h.Result(t.Context())
			var parked *perdure.ParkedError
			if !errors.As(err, &parked) || !strings.Contains(parked.Reason, "decode") || strings.Contains(parked.Reason, "4321") {
				t.Errorf("Parked: got %v, want a reason that says that the input does not decode", err)
			}
		}
		status, _ := s.c.Cancel(t.Context(), "cancel", nil)
		is(t, "C7: cancel of a parked task", status, perdure.Cancelled)
		status, _ = s.c.Terminate(t.Context(), "terminate", nil)
		is(t, "C7: terminate of a parked task", status, perdure.Terminated)
		is(t, "Parked: delete", s.c.Delete(t.Context(), "delete", nil), nil)
		_, err = s.c.Task(t.Context(), "delete")
		fails(t, "Parked: after delete", err, perdure.ErrNotFound)
		_, _ = s.c.Resume(t.Context(), "resume")
		after(time.Second)
		is(t, "Parked: resumed and still undecodable", task(t, s.c, "resume").Status, perdure.Parked)
	})
}
