package sqlitestore

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/perdure/perdure/store"
)

func openAt(t *testing.T, path string, opts *Options) *Store {
	t.Helper()
	s, err := Open(t.Context(), path, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func openTemp(t *testing.T) *Store {
	t.Helper()
	return openAt(t, filepath.Join(t.TempDir(), "store.db"), nil)
}

func offerReq(id string) *store.OfferRequest {
	return &store.OfferRequest{
		TaskID: id, Func: "f", InputID: "i-" + id, Input: []byte(`{"n":1}`), Digests: []store.Digest{{Sum: "d"}},
		Settings: &store.Settings{MaxPending: 10, MaxRecoveries: 20, Steerable: true},
		Session:  "s", Agent: "a", Tags: map[string]string{"k": "v", "e": ""}, Title: "t",
	}
}

func mustOffer(t *testing.T, s *Store, id string) *store.Offered {
	t.Helper()
	o, err := s.Offer(t.Context(), offerReq(id))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestReopenedFileHasWhatWasWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := openAt(t, path, nil)
	mustOffer(t, s, "one")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), "one"); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Get after Close: %v", err)
	}
	if _, err := s.Offer(t.Context(), offerReq("two")); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Offer after Close: %v", err)
	}
	got, err := openAt(t, path, nil).Get(t.Context(), "one")
	if err != nil {
		t.Fatal(err)
	}
	if got.Title != "t" || got.Tags["k"] != "v" || got.Status != store.Pending || !got.Settings.Steerable {
		t.Errorf("got %+v", got)
	}
}

func TestListWalksEveryFilter(t *testing.T) {
	s := openTemp(t)
	want := mustOffer(t, s, "one").Incarnation
	queries := map[string]store.ListQuery{
		"all":      {},
		"func":     {Funcs: []string{"f", "g"}},
		"status":   {Statuses: []store.Status{store.Pending, store.Failed}},
		"any":      {Statuses: []store.Status{store.Pending, store.Completed}},
		"session":  {Session: "s"},
		"agent":    {Agent: "a"},
		"tags":     {Tags: map[string]string{"k": "v", "e": ""}},
		"together": {Tags: map[string]string{"k": "v"}, Agent: "a", Session: "s", Funcs: []string{"f"}, Statuses: []store.Status{store.Pending}},
	}
	for name, q := range queries {
		q.Limit = 10
		got, err := s.List(t.Context(), q)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(got.Tasks) != 1 || got.Tasks[0].Incarnation != want {
			t.Errorf("%s: got %d tasks, want 1", name, len(got.Tasks))
		}
		q.Worker = "w"
		if got, err := s.List(t.Context(), q); err != nil || len(got.Tasks) != 0 {
			t.Errorf("%s with worker: got %v, %v; want none", name, got, err)
		}
	}
}

func TestLockIsHeldOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	a, b := openAt(t, path, nil), openAt(t, path, nil)
	unlock, err := a.Lock()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Lock(); !errors.Is(err, store.ErrStoreInUse) {
		t.Errorf("second Lock: %v, want ErrStoreInUse", err)
	}
	unlock()
	unlock, err = b.Lock()
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

func TestListenHintsAtWritesOfOthersOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	ours, other := openAt(t, path, nil), openAt(t, path, nil)
	hints := make(chan struct{}, 100)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- ours.Listen(ctx, func(store.Hint) { hints <- struct{}{} }) }()
	tick := func() { // two checks of Listen's ticker
		for range 2 {
			if _, err := ours.version(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
	<-hints // that it listens
	mustOffer(t, ours, "ours")
	tick()
	select {
	case <-hints:
		t.Error("hint at a write of its own")
	default:
	}
	mustOffer(t, other, "other")
	<-hints
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Listen: %v", err)
	}
}
