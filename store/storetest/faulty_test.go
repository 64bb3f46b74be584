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

// Stores that have more than memory.
type (
	plain     struct{ store.Store }
	exclusive struct{}
	others    struct{}
)

func (exclusive) Lock() (func(), error) { return func() {}, nil }

func (others) Listen(context.Context, func(store.Hint)) error { return nil }

func (others) Import(context.Context, *store.ImportRequest) (*store.Imported, error) {
	return &store.Imported{Known: true}, nil
}

type postgres struct{ others }

func (postgres) OfferTx(context.Context, any, *store.OfferRequest) (*store.Offered, error) {
	return &store.Offered{TaskID: "t"}, nil
}

func (postgres) Uptime() time.Duration { return time.Minute }

// extras names what a store has beside store.Store.
func extras(s store.Store) string {
	text := ""
	if _, ok := s.(store.Exclusive); ok {
		text += "exclusive "
	}
	if _, ok := s.(store.Notifier); ok {
		text += "notifier "
	}
	if _, ok := s.(store.Importer); ok {
		text += "importer "
	}
	if _, ok := s.(store.Transactional); ok {
		text += "transactional "
	}
	if _, ok := s.(store.Uptimer); ok {
		text += "uptimer "
	}
	return text
}

func TestFaultyHasWhatTheWrappedStoreHas(t *testing.T) {
	inner := memstore.New()
	for want, s := range map[string]store.Store{
		"":          plain{inner},
		"importer ": inner,
		"exclusive notifier importer ": struct {
			store.Store
			exclusive
			others
		}{inner, exclusive{}, others{}},
		"notifier importer transactional uptimer ": struct {
			store.Store
			postgres
		}{inner, postgres{}},
	} {
		if got := extras(s); got != want {
			t.Fatalf("the store of this test has %q, want %q", got, want)
		}
		if got := extras(storetest.NewFaulty(s, nil).Store()); got != want {
			t.Errorf("in front of one with %q: %q", want, got)
		}
	}
}

func TestLateAnswerIsOfWhatWasDoneAtOnce(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		inner := memstore.New()
		f := storetest.NewFaulty(inner, func(storetest.Call) storetest.Fault { return storetest.Late })
		f.Delay = time.Minute
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun, ended := time.Now(), make(chan error, 1)
		go func() { ended <- offer(ctx, f, "a") }()
		synctest.Wait()
		if _, err := inner.Get(t.Context(), "a"); err != nil {
			t.Errorf("before the answer: %v", err)
		}
		if err := <-ended; err != nil || time.Since(begun) != time.Minute {
			t.Errorf("the answer is %v after %v", err, time.Since(begun))
		}
		go func() { ended <- offer(t.Context(), f, "b") }()
		synctest.Wait()
		f.Kill()
		if err := <-ended; !errors.Is(err, store.ErrClosed) {
			t.Errorf("the answer of a process that died meanwhile: %v", err)
		}
		if _, err := inner.Get(t.Context(), "b"); err != nil {
			t.Errorf("what it had done: %v", err)
		}
	})
}

// operations are all that have an error, on a store that is like that of Postgres.
func operations(s store.Store) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Offer": func(ctx context.Context) error { return offer(ctx, s, "t") },
		"Claim": func(ctx context.Context) error { _, err := s.Claim(ctx, &store.ClaimRequest{Worker: "w"}); return err },
		"Heartbeat": func(ctx context.Context) error {
			_, err := s.Heartbeat(ctx, &store.HeartbeatRequest{Worker: "w"})
			return err
		},
		"Checkpoint": func(ctx context.Context) error { _, err := s.Checkpoint(ctx, &store.CheckpointRequest{}); return err },
		"Settle":     func(ctx context.Context) error { _, err := s.Settle(ctx, &store.SettleRequest{}); return err },
		"Signal": func(ctx context.Context) error {
			_, err := s.Signal(ctx, &store.SignalRequest{TaskID: "t"})
			return err
		},
		"Delete": func(ctx context.Context) error {
			_, err := s.Delete(ctx, &store.DeleteRequest{TaskID: "t"})
			return err
		},
		"Sweep":   func(ctx context.Context) error { _, err := s.Sweep(ctx, 1); return err },
		"Get":     func(ctx context.Context) error { _, err := s.Get(ctx, "t"); return err },
		"Turn":    func(ctx context.Context) error { _, err := s.Turn(ctx, store.TurnQuery{TaskID: "t"}); return err },
		"Turns":   func(ctx context.Context) error { _, err := s.Turns(ctx, store.TurnsQuery{TaskID: "t"}); return err },
		"List":    func(ctx context.Context) error { _, err := s.List(ctx, store.ListQuery{}); return err },
		"Events":  func(ctx context.Context) error { _, err := s.Events(ctx, store.EventsQuery{TaskID: "t"}); return err },
		"Poll":    func(ctx context.Context) error { _, err := s.Poll(ctx, &store.PollRequest{Worker: "w"}); return err },
		"Waiting": func(ctx context.Context) error { _, err := s.Waiting(ctx, nil, 1); return err },
		"Workers": func(ctx context.Context) error { _, err := s.Workers(ctx); return err },
		"Import":  func(ctx context.Context) error { _, err := s.(store.Importer).Import(ctx, nil); return err },
		"OfferTx": func(ctx context.Context) error { _, err := s.(store.Transactional).OfferTx(ctx, nil, nil); return err },
		"Listen":  func(ctx context.Context) error { return s.(store.Notifier).Listen(ctx, nil) },
	}
}

func TestEveryOperationHasEveryFault(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		wrapped := func(fault storetest.Fault) store.Store {
			inner := struct {
				store.Store
				postgres
			}{memstore.New(), postgres{}}
			return storetest.NewFaulty(inner, func(storetest.Call) storetest.Fault { return fault }).Store()
		}
		for op := range operations(wrapped(storetest.None)) {
			for fault, want := range map[storetest.Fault]error{
				storetest.FailBefore: storetest.ErrFault, storetest.KillBefore: store.ErrClosed,
				storetest.KillAfter: store.ErrClosed, storetest.Hang: context.DeadlineExceeded, storetest.Lose: store.ErrLost,
			} {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				if err := operations(wrapped(fault))[op](ctx); !errors.Is(err, want) {
					t.Errorf("%s with fault %d: %v, want %v", op, fault, err, want)
				}
				cancel()
			}
			if err := operations(wrapped(storetest.Refuse))[op](t.Context()); err == nil {
				t.Errorf("%s: not refused", op)
			}
			for _, fault := range []storetest.Fault{storetest.Delay, storetest.Late} {
				begun := time.Now()
				operations(wrapped(fault))[op](t.Context())
				if took := time.Since(begun); took != time.Second {
					t.Errorf("%s with fault %d took %v", op, fault, took)
				}
			}
		}
	})
}

func TestRefusalsOfWritesAreDefinite(t *testing.T) {
	f := storetest.NewFaulty(memstore.New(), func(storetest.Call) storetest.Fault { return storetest.Refuse }).Store()
	for op, call := range operations(f) {
		switch op {
		case "Offer", "Claim", "Heartbeat", "Checkpoint", "Settle", "Signal", "Delete", "Import":
			if err := call(t.Context()); !store.Definite(err) {
				t.Errorf("%s: %v", op, err)
			}
		}
	}
}
