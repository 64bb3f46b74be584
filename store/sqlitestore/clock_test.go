package sqlitestore

import (
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/store"
)

// wall is a wall clock that can be set.
type wall struct{ step atomic.Int64 }

func (w *wall) now() time.Time { return time.Now().Add(time.Duration(w.step.Load())) }

func (w *wall) set(step time.Duration) { w.step.Add(int64(step)) }

// worked is a store with a worker on which turns come and go.
type worked struct {
	*testing.T
	*Store
	worker   string
	requests int64
}

func (s *worked) register(worker string) {
	s.Helper()
	s.worker = worker
	_, err := s.Heartbeat(s.Context(), &store.HeartbeatRequest{Worker: worker, First: true, Lease: 30 * 24 * time.Hour})
	if err != nil {
		s.Fatal(err)
	}
}

func (s *worked) start(id string, settings store.Settings) *store.Entry {
	s.Helper()
	req := offerReq(id)
	s.requests++
	req.Settings, req.Lease, req.Worker, req.Request = &settings, true, s.worker, s.requests
	o, err := s.Offer(s.Context(), req)
	if err != nil || o.Entry == nil {
		s.Fatalf("offer %s: %v", id, err)
	}
	return o.Entry
}

func (s *worked) settle(req *store.SettleRequest) {
	s.Helper()
	if _, err := s.Settle(s.Context(), req); err != nil {
		s.Fatal(err)
	}
}

func (s *worked) claim() []*store.Entry {
	s.Helper()
	s.requests++
	c, err := s.Claim(s.Context(), &store.ClaimRequest{
		Worker: s.worker, Request: s.requests, Limit: 100, Suspect: true, Funcs: []store.ClaimFunc{{Name: "f", Limit: 100}},
	})
	if err != nil {
		s.Fatal(err)
	}
	return c.Entries
}

func (s *worked) claims(when string, want int) {
	s.Helper()
	if got := s.claim(); len(got) != want {
		s.Errorf("%s: got %d entries, want %d", when, len(got), want)
	}
}

func (s *worked) sweep(limit int) *store.Swept {
	s.Helper()
	swept, err := s.Sweep(s.Context(), limit)
	if err != nil {
		s.Fatal(err)
	}
	return swept
}

func advance(d time.Duration) { <-time.After(d) }

// inTime runs a test in virtual time, with a store whose wall clock can be set.
func inTime(t *testing.T, test func(*worked, *wall)) {
	bubble.Test(t, func(t *testing.T) {
		w := new(wall)
		s := openAt(t, filepath.Join(t.TempDir(), "store.db"), &Options{UnsafeClock: w.now})
		test(&worked{T: t, Store: s}, w)
	})
}

func TestTimeGoesOnWhenTheClockIsSet(t *testing.T) {
	for name, steps := range map[string][]time.Duration{
		"back by an hour":          {-time.Hour},
		"forth by eight days":      {8 * 24 * time.Hour},
		"forth and back again":     {8 * 24 * time.Hour, -8 * 24 * time.Hour},
		"back, forth, and back":    {-time.Hour, time.Hour, -2 * time.Hour},
		"back by a bit many times": {-time.Second, -time.Second, -time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			inTime(t, func(s *worked, w *wall) {
				s.register("w1")
				for _, step := range steps {
					w.set(step)
					s.delays()
				}
			})
		})
	}
}

// delays checks that a back-off, an expiry and the delay of a suspect take as long as they should.
func (s *worked) delays() {
	s.Helper()
	back := s.start("back-off", store.Settings{})
	s.settle(&store.SettleRequest{Lease: back.Lease, Kind: store.SettleRetry, Delay: 10 * time.Second})
	ended := s.start("ended", store.Settings{Keep: 20 * time.Second})
	s.settle(&store.SettleRequest{Lease: ended.Lease, Kind: store.SettleEnd, Outcome: store.Completed, Then: store.Completed})
	suspect := s.start("suspect", store.Settings{MaxRecoveries: 20})
	for range 2 {
		s.settle(&store.SettleRequest{Lease: suspect.Lease, Kind: store.SettleRelease, Release: store.ReleaseAsked})
		suspect = s.claim()[0]
	}
	s.settle(&store.SettleRequest{Lease: suspect.Lease, Kind: store.SettleRelease, Release: store.ReleaseAsked})
	advance(time.Second - time.Microsecond)
	s.claims("before the delay of a suspect is over", 0)
	advance(time.Microsecond)
	s.claims("after it", 1)
	advance(9*time.Second - time.Microsecond)
	s.claims("before the back-off is over", 0)
	advance(time.Microsecond)
	s.claims("after it", 1)
	advance(10*time.Second - time.Microsecond)
	if _, err := s.Get(s.Context(), "ended"); err != nil {
		s.Errorf("before it has expired: %v", err)
	}
	advance(time.Microsecond)
	if _, err := s.Get(s.Context(), "ended"); !errors.Is(err, store.ErrNotFound) {
		s.Errorf("a read after it has expired: %v", err)
	}
	if got := s.sweep(100).Removed; got != 1 {
		s.Errorf("a sweep after it has expired removes %d tasks", got)
	}
	for _, id := range []string{"back-off", "suspect"} {
		if _, err := s.Delete(s.Context(), &store.DeleteRequest{TaskID: id}); err != nil {
			s.Fatal(err)
		}
	}
}

// What is due at once is claimed whatever the clock says.
func TestWhatWaitsForNoTimeIsDueWhenTheClockIsSetBack(t *testing.T) {
	inTime(t, func(s *worked, w *wall) {
		mustOffer(s.T, s.Store, "pending")
		path := s.path
		s.Close()
		w.set(-time.Hour) // the machine's clock is put right while no process runs
		s.Store = openAt(s.T, path, &Options{UnsafeClock: w.now})
		s.register("w1")
		s.claims("after the clock was set back", 1)
	})
}

func TestReadsAndWritesHaveOneClock(t *testing.T) {
	inTime(t, func(s *worked, w *wall) {
		s.register("w1")
		for range 3 {
			w.set(-time.Minute)
			beat, err := s.Heartbeat(s.Context(), &store.HeartbeatRequest{Worker: "w1", Lease: time.Hour})
			if err != nil {
				s.Fatal(err)
			}
			if now := s.clock.Now(); !now.Equal(beat.Now) {
				s.Errorf("a read's time is %v, a write's of the same moment %v", now, beat.Now)
			}
			advance(time.Second)
		}
	})
}
