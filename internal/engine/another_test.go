package engine_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/rig"
)

func TestATurnThatReturnsHowAnotherTaskWasCancelledFails(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", nil)
	other := perdure.NewFunc[int, int]("other", nil)
	var s *rig.Server
	waits := func(ctx context.Context, turn *rig.Turn) (int, error) {
		h, err := other.Start(ctx, s.Client, turn.Input(), &perdure.StartOptions{TaskID: "other"})
		if err != nil {
			return 0, err
		}
		if _, err = h.Result(ctx); err != nil {
			return 0, fmt.Errorf("the other task: %w", err)
		}
		return 1, nil
	}
	rig.In(t, perdure.Options{}, func(t *testing.T, served *rig.Server) {
		s = served
		h := rig.Start(t, s.Client, f, 1, "t")
		synctest.Wait()
		if err := rig.Attach(t, s.Client, other, "other").Cancel(t.Context(), "enough"); err != nil {
			t.Fatal(err)
		}
		rig.Ends(t, "T3: nobody has cancelled this one", h, perdure.Failed)
		rig.Is(t, "T3: status of the other task", rig.Task(t, s.Client, "other").Status, perdure.Cancelled)
	}, f.Bind(waits), other.Bind(rig.Stay))
}
