package engine_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/internal/rig"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/memstore"
)

// asked is a store that notes what workers ask, and what they are told.
type asked struct {
	store.Store
	mu   sync.Mutex
	mail []int64 // that was told, each time
	seen []int64 // that was forgotten
}

func (s *asked) Poll(ctx context.Context, req *store.PollRequest) (*store.Polled, error) {
	p, err := s.Store.Poll(ctx, req)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, req.Seen...)
	if err == nil {
		for _, m := range p.Mail {
			s.mail = append(s.mail, m.Seq)
		}
	}
	return p, err
}

// More mail than one answer has is read at once, each piece once, and then forgotten.
func TestMailThatWasDeliveredIsForgotten(t *testing.T) {
	const pieces = store.MailPage + 5
	bubble.Test(t, func(t *testing.T) {
		st := &asked{Store: memstore.New()}
		f := perdure.NewFunc[int, int]("f", &rig.Options{Steerable: true, MaxPending: 2 * pieces})
		var now rig.Box[*rig.Turn]
		s := rig.Serve(t, st, perdure.Options{}, f.Bind(func(_ context.Context, turn *rig.Turn) (int, error) {
			now.Set(turn)
			<-turn.Interrupt().Done()
			return 0, context.Cause(turn.Interrupt())
		}))
		other, err := perdure.New(st.Store, nil)
		if err != nil {
			t.Fatal(err)
		}
		rig.Start(t, s.Client, f, 1, "t")
		synctest.Wait()
		for range pieces {
			rig.StartWith(t, other.Client(), f, 2, &perdure.StartOptions{TaskID: "t", Deliver: perdure.Enqueue})
		}
		rig.After(polled)
		rig.Is(t, "inputs that the turn knows of", now.Get().Pending(), pieces)
		rig.After(2 * polled)
		st.mu.Lock()
		defer st.mu.Unlock()
		rig.Is(t, "pieces of mail that were told", len(st.mail), pieces)
		rig.Is(t, "forgotten are those that were told", slices.Equal(st.seen, st.mail), true)
	})
}

// locked is a store of which a stranger's transaction holds a task.
type locked struct{ store.Store }

func (locked) Signal(_ context.Context, req *store.SignalRequest) (*store.Signalled, error) {
	return nil, &store.LockedError{TaskID: req.TaskID}
}

// Who asks for what a stranger's transaction holds is told so when the store has waited, by name.
func TestWhatAStrangerHoldsIsToldByName(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := perdure.NewFunc[int, int]("f", nil)
		s := rig.Serve(t, locked{memstore.New()}, perdure.Options{}, f.Bind(rig.Echo))
		rig.Start(t, s.Client, f, 1, "t")
		began := time.Now()
		_, err := s.Client.Cancel(t.Context(), "t", nil)
		rig.Fails(t, "P3", err, perdure.ErrUnavailable)
		if held, ok := errors.AsType[*store.LockedError](err); !ok || held.TaskID != "t" {
			t.Errorf("got %v, want an error that names the task", err)
		}
		rig.Is(t, "time spent beside what the store waits", time.Since(began), 0)
	})
}
