package engine_test

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/rig"
	"github.com/perdure/perdure/perduretest"
)

func TestAThousandTurnsOfOneTaskDoNotGrowTheMemory(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", &rig.Options{MultiTurn: true, KeepTurns: 10, Timeout: time.Hour})
	perduretest.Run(t, nil, func(t *testing.T, h *perduretest.Harness) {
		turns := func(n int) {
			for i := range n {
				rig.Ends(t, "T5", rig.Start(t, h.Client(), f, i, "t"), perdure.Completed)
			}
		}
		held := func() uint64 {
			var m runtime.MemStats
			runtime.GC()
			runtime.GC()
			runtime.ReadMemStats(&m)
			return m.HeapAlloc
		}
		turns(100)
		before := held()
		turns(1000)
		const most = 200 << 10
		if grown := int64(held()) - int64(before); grown > most {
			t.Errorf("proof 8: 1,000 turns have grown the memory by %d bytes, want at most %d", grown, most)
		}
		rig.Is(t, "turns kept", len(h.Turns("t")), 10)
	}, f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
		if err := turn.Metadata().Set("big", make([]byte, 10_000)); err != nil {
			return 0, err
		}
		return 0, turn.Checkpoint(ctx)
	}))
}
