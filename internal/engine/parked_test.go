package engine_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/rig"
)

func TestWhoWaitsBehindAParkedTurnIsTold(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", &rig.Options{MultiTurn: true, Steerable: true, MaxRecoveries: 1})
	var e entries
	rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
		first := rig.Start(t, s.Client, f, 1, "t")
		told := make(chan error, 1)
		behind := rig.StartWith(t, s.Client, f, 2, &perdure.StartOptions{TaskID: "t", Deliver: perdure.Enqueue})
		go func() {
			_, err := behind.Result(t.Context())
			told <- err
		}()
		_, err := first.Result(t.Context())
		rig.Fails(t, "first", err, perdure.ErrParked)
		synctest.Wait()
		for range 2 { // who waits already, and who comes later
			var parked *perdure.ParkedError
			select {
			case err = <-told:
			case <-time.After(time.Minute):
				t.Fatal("who waits is not told")
			}
			if !errors.As(err, &parked) || parked.Turn != 1 || parked.TaskID != "t" {
				t.Errorf("got %v, want a *ParkedError that names turn 1", err)
			}
			_, err = behind.Result(t.Context())
			told <- err
		}
	}, f.Bind(releasing(&e, nil)))
}

func TestAnUnparkedTurnGoesOnAsASuspectWithAFreshClock(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", &rig.Options{MaxRecoveries: 1, Timeout: 5 * time.Minute})
	var e entries
	var deadline rig.Box[time.Duration]
	good := false
	rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
		h := rig.Start(t, s.Client, f, 1, "t")
		_, err := h.Result(t.Context())
		rig.Fails(t, "Result", err, perdure.ErrParked)
		before := rig.Task(t, s.Client, "t")
		rig.After(10 * time.Minute) // until somebody has repaired it
		good = true
		opts := &perdure.ResumeOptions{RequestID: "once"}
		for range 2 { // a repeat is recognised
			status, err := s.Client.Resume(t.Context(), "t", opts)
			if err != nil || status != perdure.Pending {
				t.Errorf("got %s, %v, want it pending", status, err)
			}
		}
		rig.Ends(t, "unparked", h, perdure.Completed)
		after := rig.Task(t, s.Client, "t")
		rig.Is(t, "entry", after.Turn.Entry, perdure.Recovered)
		rig.Is(t, "started at", after.Turn.StartedAt, before.Turn.StartedAt)
		rig.Is(t, "attempt", after.Turn.Attempt, before.Turn.Attempt)
		rig.Is(t, "recoveries", after.Turn.Recoveries, 0)
		rig.Is(t, "deadline from the entry", deadline.Get(), 5*time.Minute)
	}, f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
		if good {
			at, _ := turn.Deadline()
			deadline.Set(time.Until(at).Round(time.Second))
			return 1, nil
		}
		return releasing(&e, nil)(ctx, turn)
	}))
}

func TestAReaderOfATurnThatIsNotKeptAnyMoreIsTold(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", &rig.Options{MultiTurn: true, KeepTurns: 2})
	rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
		first := rig.Start(t, s.Client, f, 1, "t")
		rig.Ends(t, "first", first, perdure.Completed)
		for n := range 5 {
			rig.Ends(t, "later", rig.Start(t, s.Client, f, n, "t"), perdure.Completed)
		}
		_, err := s.Client.Outcome(t.Context(), perdure.TurnQuery{TaskID: "t", Turn: first.Turn()})
		rig.Fails(t, "result of a turn that is not kept", err, perdure.ErrNotFound)
		for _, err = range first.Events(t.Context(), 0) {
		}
		rig.Fails(t, "stream of a turn that is not kept", err, perdure.ErrNotFound)
	}, f.Bind(rig.Echo))
}
