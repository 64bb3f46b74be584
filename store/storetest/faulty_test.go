package storetest_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/memstore"
	"github.com/perdure/perdure/store/storetest"
)

func offer(ctx context.Context, s store.Store, id string) error {
	_, err := s.Offer(ctx, &store.OfferRequest{TaskID: id, Func: "f", InputID: "i", Settings: &store.Settings{}})
	return err
}

func TestFaultyWithoutFaultsKeepsTheRules(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return storetest.NewFaulty(memstore.New(), nil).Store() })
}

func TestFaultyFailsWhatItIsToldTo(t *testing.T) {
	faults := []storetest.Fault{storetest.FailBefore, storetest.FailAfter, storetest.None}
	f := storetest.NewFaulty(memstore.New(), func(c storetest.Call) storetest.Fault {
		if c.Op != "Offer" {
			return storetest.None
		}
		return faults[c.N-1]
	})
	for i, want := range []struct {
		err, get error
	}{{storetest.ErrFault, store.ErrNotFound}, {storetest.ErrFault, nil}, {nil, nil}} {
		id := string(rune('a' + i))
		if err := offer(t.Context(), f, id); !errors.Is(err, want.err) {
			t.Errorf("offer %s: got %v, want %v", id, err, want.err)
		}
		if _, err := f.Get(t.Context(), id); !errors.Is(err, want.get) {
			t.Errorf("get %s: got %v, want %v", id, err, want.get)
		}
	}
	if got := f.Calls("Offer"); got != 3 {
		t.Errorf("%d calls, want 3", got)
	}
}

func TestFaultyRefusesLikeAStore(t *testing.T) {
	f := storetest.NewFaulty(memstore.New(), func(storetest.Call) storetest.Fault { return storetest.Refuse })
	if _, err := f.Heartbeat(t.Context(), &store.HeartbeatRequest{}); !errors.Is(err, store.ErrWorkerDead) {
		t.Errorf("heartbeat: %v", err)
	}
	if _, err := f.Settle(t.Context(), &store.SettleRequest{}); !errors.Is(err, store.ErrLeaseLost) {
		t.Errorf("settle: %v", err)
	}
}

func TestFaultyHangsUntilTheContextEnds(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		fault := storetest.Hang
		f := storetest.NewFaulty(memstore.New(), func(storetest.Call) storetest.Fault { return fault })
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := offer(ctx, f, "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("hanging offer: %v", err)
		}
		fault = storetest.Delay
		begun := time.Now()
		if err := offer(t.Context(), f, "a"); err != nil || time.Since(begun) != time.Second {
			t.Errorf("delayed offer: %v after %v", err, time.Since(begun))
		}
	})
}

func TestKilledFaultyIsDead(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		inner := memstore.New()
		f := storetest.NewFaulty(inner, func(storetest.Call) storetest.Fault { return storetest.Hang })
		ended := make(chan error, 1)
		go func() { ended <- offer(context.Background(), f, "a") }()
		synctest.Wait()
		f.Kill()
		f.Kill()
		if err := <-ended; !errors.Is(err, store.ErrClosed) {
			t.Errorf("offer under way: %v", err)
		}
		if err := offer(t.Context(), f, "b"); !errors.Is(err, store.ErrClosed) {
			t.Errorf("later offer: %v", err)
		}
		if err := offer(t.Context(), inner, "b"); err != nil {
			t.Errorf("the wrapped store: %v", err)
		}
	})
}

func TestFaultyHasWhatTheWrappedStoreHas(t *testing.T) {
	s := storetest.NewFaulty(memstore.New(), nil).Store()
	if _, ok := s.(store.Exclusive); ok {
		t.Error("memory became exclusive")
	}
	if _, ok := s.(store.Notifier); ok {
		t.Error("memory became a notifier")
	}
}
