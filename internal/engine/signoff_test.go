package engine_test

import (
	"testing"
	"testing/synctest"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/internal/rig"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/memstore"
)

// Of an engine that has stopped nothing is left in the store: no worker, and no lease, although one was on its way.
func TestAShutdownWaitsForALeaseThatIsOnItsWayAndSignsOff(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		mem := memstore.New()
		st := &held{Store: mem}
		f := perdure.NewFunc[int, int]("f", nil)
		s := rig.Serve(t, st, perdure.Options{}, f.Bind(rig.Echo))
		release := st.hold("Offer")
		started := make(chan error, 1)
		go func() {
			_, err := f.Start(t.Context(), s.Client, 1, &perdure.StartOptions{TaskID: "t"})
			started <- err
		}()
		synctest.Wait()
		s.End()
		synctest.Wait()
		release()
		rig.Is(t, "Run", s.Ended(), nil)
		rig.Is(t, "Start", <-started, nil)
		task, err := mem.Get(t.Context(), "t")
		if err != nil || task.Worker != "" || task.Status != store.Pending {
			t.Errorf("H1: the task: got %+v, %v, want it to wait as before", task, err)
		}
		workers, err := mem.Workers(t.Context())
		if err != nil || len(workers) != 0 {
			t.Errorf("H1: workers: got %v, %v, want none", workers, err)
		}
	})
}
