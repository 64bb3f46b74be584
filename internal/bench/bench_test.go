package bench

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/pgtest"
)

// TestMain lets the test binary be the processes that measurements start.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "child" {
		if err := Child(context.Background(), os.Stdout, os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	pgtest.Main(m)
}

func small(t *testing.T) Options {
	return Options{Dir: t.TempDir(), Duration: 100 * time.Millisecond, Rounds: 1, Callers: []int{1, 8},
		Running: 50, Suspended: 600, Orphans: 50, Steered: 4, Turns: 1100,
		Emitting: []int{1, 4}, Readers: 20, Self: []string{os.Args[0], "child"}}
}

func TestCyclesAreCounted(t *testing.T) {
	cycles, err := RunCycles(t.Context(), small(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cycles {
		if c.Engine <= 0 || c.Bare <= 0 || c.Ratio <= 0 || c.Start.P50 <= 0 || c.Result.P99 < c.Result.P50 {
			t.Errorf("got %+v", c)
		}
	}
}

func TestOrphansAreAllEntered(t *testing.T) {
	r, err := RunOrphans(t.Context(), small(t))
	if err != nil || r.Entered != 50 {
		t.Fatalf("got %+v, %v", r, err)
	}
}

func TestSuspendedTasksAreMadeAndResumed(t *testing.T) {
	r, err := RunSuspended(t.Context(), small(t))
	if err != nil || r.Start.P50 <= 0 || r.Resume.P50 <= 0 {
		t.Fatalf("got %+v, %v", r, err)
	}
}

func TestSteersReachTheirHandlers(t *testing.T) {
	r, err := RunSteer(t.Context(), small(t))
	if err != nil || r.Steers == 0 || r.Seen.P50 <= 0 || r.Start.P50 <= 0 {
		t.Fatalf("got %+v, %v", r, err)
	}
}

func TestTurnsAreRunAndPruned(t *testing.T) {
	r, err := RunTurns(t.Context(), small(t))
	if err != nil || r.Kept != 1000 || r.Last.P50 <= 0 {
		t.Fatalf("got %+v, %v", r, err)
	}
}

func TestMeasurementsOnPostgres(t *testing.T) {
	o := small(t)
	o.DB, o.Workers, o.Across, o.Callers = pgtest.URL(t), []int{1, 2}, 20, []int{8}
	cycles, err := RunCycles(t.Context(), o)
	if err != nil || cycles[0].Engine <= 0 || cycles[0].Bare <= 0 {
		t.Errorf("cycles: %+v, %v", cycles, err)
	}
	workers, err := RunWorkers(t.Context(), o)
	if err != nil || len(workers) != 2 || workers[1].Cycles <= 0 {
		t.Errorf("workers: %+v, %v", workers, err)
	}
	across, err := RunAcross(t.Context(), o)
	if err != nil || len(across) != 2 || across[0].Steer.P50 <= 0 || across[1].Result.P50 <= 0 {
		t.Errorf("across: %+v, %v", across, err)
	}
	if r, err := RunTurns(t.Context(), o); err != nil || r.FileBytes == 0 {
		t.Errorf("turns: %+v, %v", r, err)
	}
}

func TestEventsAreEmittedAndRead(t *testing.T) {
	r, err := RunEvents(t.Context(), small(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range r.Emitted {
		if e.Events == 0 || e.Rate <= 0 {
			t.Errorf("got %+v", e)
		}
	}
	if r.Read.P50 <= 0 || r.Read.P99 < r.Read.P50 {
		t.Errorf("got %+v", r.Read)
	}
	if s := r.Streamed; s.Readers != 20 || s.Complete != 20 || s.Delivered != 20*s.Events || s.Late.P99 <= 0 {
		t.Errorf("got %+v", s)
	}
}
