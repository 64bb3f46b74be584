package engine_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/internal/rig"
	"github.com/perdure/perdure/store/memstore"
	"github.com/perdure/perdure/store/storetest"
)

func TestAnEngineIsReadyWhenItsFirstSweepIsDone(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		st, broken := rig.Faulty(memstore.New())
		broken.Set(func(c storetest.Call) storetest.Fault {
			if c.Op == "Claim" {
				return storetest.FailBefore
			}
			return storetest.None
		})
		s := rig.Serve(t, st, perdure.Options{})
		rig.After(time.Minute)
		if err := s.Engine.Ready(); err == nil || !strings.Contains(err.Error(), "first sweep") {
			t.Errorf("R5: Ready: got %v, want that the first sweep is not done", err)
		}
		broken.Set(nil)
		rig.After(2 * time.Second)
		rig.Is(t, "R5: Ready", s.Engine.Ready(), nil)
	})
}

func TestAnEngineThatIsNotReadySaysWhyTheStoreTakesNoHeartbeat(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		st, broken := rig.Faulty(memstore.New())
		s := rig.Serve(t, st, perdure.Options{})
		rig.After(time.Minute)
		rig.Is(t, "R5: Ready", s.Engine.Ready(), nil)
		broken.Set(func(storetest.Call) storetest.Fault { return storetest.FailBefore })
		rig.After(time.Minute)
		if err := s.Engine.Ready(); !errors.Is(err, perdure.ErrUnavailable) || !errors.Is(err, storetest.ErrFault) {
			t.Errorf("R5: Ready: got %v, want that the store is unavailable, and its error", err)
		}
		broken.Set(nil)
		rig.After(time.Minute)
		rig.Is(t, "R5: Ready", s.Engine.Ready(), nil)
	})
}

func TestWhatWaitsForAFuncThatIsNotBoundIsCountedAndLoggedOnce(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		mem := memstore.New()
		f := perdure.NewFunc[int, int]("f", nil)
		first := rig.Serve(t, mem, perdure.Options{}, f.Bind(rig.Stay))
		for i := range 3 {
			rig.Start(t, first.Client, f, i, fmt.Sprint("t", i))
		}
		rig.Is(t, "Run", first.Stop(), nil)
		s := rig.Serve(t, mem, perdure.Options{})
		rig.After(time.Minute)
		rig.Is(t, "R3: tasks that wait", s.Counter("tasks_unbound"), 3)
		rig.Is(t, "R3: log records", strings.Count(s.Logs.String(), "not bound here"), 1)
		rig.Serve(t, mem, perdure.Options{}, f.Bind(rig.Echo))
		rig.After(time.Minute)
		rig.Is(t, "R3: tasks that wait when they are served", s.Counter("tasks_unbound"), 0)
	})
}
