package bench

import (
	"context"
	"os"
	"strconv"
	"testing"
	"time"
)

// TestMain lets the test binary be the process that RunOrphans kills.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "orphanage" {
		n, err := strconv.Atoi(os.Args[3])
		if err == nil {
			err = Orphanage(context.Background(), os.Stdout, os.Args[2], n)
		}
		if err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func small(t *testing.T) Options {
	return Options{Dir: t.TempDir(), Duration: 100 * time.Millisecond, Rounds: 1, Callers: []int{1, 8},
		Running: 50, Suspended: 600, Orphans: 50, Steered: 4, Turns: 1100, Self: []string{os.Args[0], "orphanage"}}
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
