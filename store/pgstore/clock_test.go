package pgstore

import (
	"testing"
	"time"

	"github.com/perdure/perdure/internal/pgtest"
	"github.com/perdure/perdure/store"
)

func TestTheDeadAreFoundWhenTheClockIsSetBack(t *testing.T) {
	c := &clock{}
	c.micros.Store(time.Now().UnixMicro())
	url := pgtest.URL(t)
	s := openAt(t, url, Options{Schema: pgtest.Schema(t, url), UnsafeClock: c.now})
	const lease = 15 * time.Second
	beat := func(worker string, first bool) error {
		_, err := s.Heartbeat(t.Context(), &store.HeartbeatRequest{Worker: worker, Lease: lease, First: first})
		return err
	}
	for _, w := range []string{"dead", "alive", "other"} {
		if err := beat(w, true); err != nil {
			t.Fatal(err)
		}
	}
	start := offerReq("t")
	start.Worker, start.Lease = "dead", true
	if o, err := s.Offer(t.Context(), start); err != nil || o.Entry == nil {
		t.Fatalf("got %+v, %v, want a lease", o, err)
	}
	c.advance(-time.Hour)
	put := 0
	for range 6 {
		r, err := s.Claim(t.Context(), &store.ClaimRequest{Worker: "other"})
		if err != nil {
			t.Fatal(err)
		}
		put += r.Put
		c.advance(lease / 3)
		for _, w := range []string{"alive", "other"} {
			if err := beat(w, false); err != nil {
				t.Errorf("heartbeat of %s: %v", w, err)
			}
		}
	}
	same(t, "tasks put back", put, 1)
}

// A heartbeat that is ahead by less than its lease says too little to begin the lease again.
func TestAClockThatIsSetBackByLessThanALeaseChangesNoLease(t *testing.T) {
	c := &clock{}
	c.micros.Store(time.Now().UnixMicro())
	url := pgtest.URL(t)
	s := openAt(t, url, Options{Schema: pgtest.Schema(t, url), UnsafeClock: c.now})
	const lease = time.Hour
	for _, w := range []string{"ahead", "other"} {
		if _, err := s.Heartbeat(t.Context(), &store.HeartbeatRequest{Worker: w, Lease: lease, First: true}); err != nil {
			t.Fatal(err)
		}
	}
	began := c.now()
	for _, test := range []struct{ step, since time.Duration }{
		{-lease / 2, 0},                      // the heartbeat is ahead by half a lease
		{-lease / 2, 0},                      // by a whole one
		{-time.Second, -time.Second - lease}, // by more
	} {
		c.advance(test.step)
		if _, err := s.Claim(t.Context(), &store.ClaimRequest{Worker: "other"}); err != nil {
			t.Fatal(err)
		}
		workers, err := s.Workers(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range workers {
			same(t, w.ID+" began its lease", w.BeatAt.Sub(began), test.since)
			same(t, w.ID+" has a lease", w.ExpiresAt.Sub(w.BeatAt), lease)
		}
		same(t, "workers", len(workers), 2)
	}
}
