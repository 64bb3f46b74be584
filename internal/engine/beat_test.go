package engine_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/internal/rig"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/memstore"
	"github.com/perdure/perdure/store/storetest"
)

// tardy is a store whose answer to a heartbeat comes long after the store took it.
type tardy struct {
	store.Store
	slow  atomic.Bool
	taken rig.Box[time.Time] // when the last heartbeat was taken
}

func (s *tardy) Heartbeat(ctx context.Context, req *store.HeartbeatRequest) (*store.Beat, error) {
	answer, err := s.Store.Heartbeat(ctx, req)
	s.taken.Set(time.Now())
	if s.slow.Load() {
		rig.After(2 * time.Second)
	}
	return answer, err
}

// The store counts the lease from when it took the heartbeat; when the answer arrives says nothing about it.
func TestALeaseCountsFromTheSendingOfItsHeartbeat(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		st := &tardy{Store: memstore.New()}
		faulty, broken := rig.Faulty(st)
		f := perdure.NewFunc[int, int]("f", nil)
		var ended rig.Box[time.Time]
		s := rig.Serve(t, faulty, perdure.Options{Lease: lease}, f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
			if turn.Entry() == perdure.Recovered {
				return turn.Input(), nil
			}
			<-ctx.Done()
			ended.Set(time.Now())
			return 0, context.Cause(ctx)
		}))
		h := rig.Start(t, s.Client, f, 1, "t")
		registered := st.taken.Get()
		st.slow.Store(true)
		rig.After(lease/3 + time.Second) // the first renewal was taken, and is not answered yet
		taken := st.taken.Get()
		if taken.Equal(registered) {
			t.Fatal("the lease was not renewed")
		}
		st.slow.Store(false)
		broken.Set(beats(storetest.FailBefore))
		rig.After(2 * lease)
		if at := ended.Get(); at.IsZero() || at.Sub(taken) >= lease {
			t.Errorf("O4: ctx ended %v after the heartbeat was taken, want less than the lease of %v", at.Sub(taken), lease)
		}
		broken.Set(nil)
		rig.Ends(t, "O4", h, perdure.Completed)
	})
}
