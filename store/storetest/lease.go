package storetest

import (
	"time"

	"github.com/perdure/perdure/store"
)

func leaseRules() []rule {
	const o2 = "Every write of a running turn carries incarnation, worker and epoch, and is refused if any is stale."
	const o6 = "A write whose result is unknown is repeated and recognised as our own."
	return []rule{
		{"O2", "Checkpoint", o2, o2Checkpoint},
		{"O2", "Settle", o2, o2Settle},
		{"O2", "NewIncarnation", o2, o2NewIncarnation},
		{"O3", "LapseIsFinal", "A lapse is final: a heartbeat that comes after it is refused, and a claim marks the worker dead.", o3LapseIsFinal},
		{"O3", "LapsedCannotClaim", "A worker that has lapsed must take a new ID.", o3LapsedCannotClaim},
		{"O3", "LapsedGetsNoLease", "An offer is leased to a living worker only; else the task is pending.", o3LapsedGetsNoLease},
		{"O3", "Alive", "What a living worker runs is not claimable.", o3Alive},
		{"O3", "Leave", "A worker that has released everything and leaves is gone; one that has not lapses.", o3Leave},
		{"O4", "Replaces", "Turns stopped in a process that lives on are released uncounted.", o4Replaces},
		{"O5", "Lock", "While the lock is held no lease lapses, and the holder's registration proves that others are dead.", o5Lock},
		{"O6", "Offer", o6, o6Offer},
		{"O6", "Claim", o6, o6Claim},
		{"O6", "Settle", o6, o6Settle},
		{"O6", "Checkpoint", o6, o6Checkpoint},
	}
}

// stale returns the ways in which a lease can be wrong.
func stale(l store.Lease) map[string]store.Lease {
	return map[string]store.Lease{
		"epoch":       {Incarnation: l.Incarnation, Worker: l.Worker, Epoch: l.Epoch - 1},
		"worker":      {Incarnation: l.Incarnation, Worker: "other", Epoch: l.Epoch},
		"incarnation": {Incarnation: l.Incarnation + 1, Worker: l.Worker, Epoch: l.Epoch},
	}
}

func o2Checkpoint(s *suite) {
	e := s.start("t")
	for what, lease := range stale(e.Lease) {
		_, err := s.Checkpoint(s.Context(), &store.CheckpointRequest{Lease: lease, Number: 1, Events: blobs([]string{"x"})})
		s.fails("stale "+what, err, store.ErrLeaseLost)
	}
	equal(s, "last event", s.task("t").LastEvent, 0)
}

func o2Settle(s *suite) {
	s.start("t")
	s.crash("w2")
	e := s.claimOne("w2")
	for what, lease := range stale(e.Lease) {
		req := ending(e, store.Completed, store.Completed)
		req.Lease = lease
		_, err := s.Settle(s.Context(), req)
		s.fails("stale "+what, err, store.ErrLeaseLost)
	}
	s.statusIs("t", store.InProgress)
}

func o2NewIncarnation(s *suite) {
	e := s.start("t")
	s.delete("t")
	if again := s.start("t"); again.Lease.Incarnation <= e.Lease.Incarnation {
		s.Errorf("incarnation %d is not higher than %d", again.Lease.Incarnation, e.Lease.Incarnation)
	}
	_, err := s.Settle(s.Context(), ending(e, store.Completed, store.Completed))
	s.fails("settle", err, store.ErrLeaseLost)
	s.statusIs("t", store.InProgress)
}

func o3LapseIsFinal(s *suite) {
	e := s.start("t")
	s.crash("w2")
	s.fails("late heartbeat", s.beat("w1", false), store.ErrWorkerDead)
	taken := s.claimOne("w2")
	equal(s, "entry", taken.Task.Turn.Entry, store.EntryRecovered)
	if taken.Lease.Epoch <= e.Lease.Epoch {
		s.Errorf("epoch %d is not higher than %d", taken.Lease.Epoch, e.Lease.Epoch)
	}
	s.fails("heartbeat after the claim", s.beat("w1", false), store.ErrWorkerDead)
	_, err := s.Settle(s.Context(), ending(e, store.Completed, store.Completed))
	s.fails("settle of the dead owner", err, store.ErrLeaseLost)
}

func o3LapsedCannotClaim(s *suite) {
	s.worker("w1")
	s.offer(s.request("t", "a"))
	advance(leaseTime)
	_, err := s.Claim(s.Context(), s.claimRequest("w1"))
	s.fails("claim", err, store.ErrWorkerDead)
	_, err = s.Claim(s.Context(), s.claimRequest("never seen"))
	s.fails("claim", err, store.ErrWorkerDead)
}

func o3LapsedGetsNoLease(s *suite) {
	req := s.request("t", "a")
	req.Lease = true
	s.worker("w1")
	advance(leaseTime)
	o := s.offer(req)
	equal(s, "leased", o.Entry != nil, false)
	equal(s, "due", o.Due, true)
	s.worker("w2")
	equal(s, "entry", s.claimOne("w2").Task.Turn.Entry, store.EntryFresh)
}

func o3Alive(s *suite) {
	s.start("t")
	s.worker("w2")
	for range 5 {
		advance(leaseTime - time.Second)
		must(s, 0, s.beat("w1", false))
		must(s, 0, s.beat("w2", false))
		s.claimNone("w2")
	}
}

func o3Leave(s *suite) {
	leave := func(worker string) {
		s.Helper()
		_, err := s.Heartbeat(s.Context(), &store.HeartbeatRequest{Worker: worker, Leave: true, Lease: leaseTime})
		must(s, 0, err)
	}
	s.start("t")
	s.worker("w2")
	leave("w1")
	leave("w2")
	workers, err := s.Workers(s.Context())
	must(s, 0, err)
	if len(workers) != 1 || workers[0].ID != "w1" {
		s.Errorf("got %d workers, want w1 alone", len(workers))
	}
	s.fails("heartbeat of one that has left", s.beat("w2", false), store.ErrWorkerDead)
}

func o4Replaces(s *suite) {
	s.start("t")
	_, err := s.Heartbeat(s.Context(), &store.HeartbeatRequest{Worker: "w2", First: true, Lease: leaseTime, Replaces: "w1"})
	must(s, 0, err)
	e := s.claimOne("w2")
	equal(s, "entry", e.Task.Turn.Entry, store.EntryRecovered)
	equal(s, "recoveries", e.Task.Turn.Recoveries, 0)
	s.fails("heartbeat of the replaced", s.beat("w1", false), store.ErrWorkerDead)
}

// o5Lock has nothing to say about stores that cannot prove that there is one engine.
func o5Lock(s *suite) {
	exclusive, ok := s.Store.(store.Exclusive)
	if !ok {
		return
	}
	unlock, err := exclusive.Lock()
	must(s, 0, err)
	defer unlock()
	_, err = s.Heartbeat(s.Context(), &store.HeartbeatRequest{
		Worker: "w1", First: true, Lease: leaseTime, Funcs: []store.PublishedFunc{{Name: "f"}},
	})
	must(s, 0, err)
	s.start("t")
	s.settle(release(s.start("u"), store.ReleaseWrapped))
	advance(10 * leaseTime)
	workers, err := s.Workers(s.Context())
	equal(s, "workers that are alive", len(must(s, workers, err)), 1)
	cancel := s.signal(&store.SignalRequest{TaskID: "u", Kind: store.Cancel})
	equal(s, "a living worker can enter a turn that was cancelled", cancel.Marked, true)
	must(s, 0, s.beat("w1", false))
	s.statusIs("t", store.InProgress)
	s.worker("w2")
	s.fails("heartbeat of the former holder", s.beat("w1", false), store.ErrWorkerDead)
	for _, e := range s.claim("w2") {
		equal(s, "recoveries of "+e.Task.ID, e.Task.Turn.Recoveries, map[string]int{"t": 1}[e.Task.ID])
	}
	equal(s, "owner", s.task("t").Worker, "w2")
}

func o6Offer(s *suite) {
	req := s.request("t", "a")
	req.Lease = true
	s.worker("w1")
	first := s.offer(req).Entry
	req.Repeat = true
	again := s.offer(req)
	equal(s, "decision", again.Decision, store.Known)
	if again.Entry == nil {
		s.Fatal("the repeated offer gave no lease")
	}
	equal(s, "lease", again.Entry.Lease, first.Lease)
	equal(s, "input", string(again.Entry.Input), `"a"`)
	req.Request = 999
	if other := s.offer(req); other.Entry != nil {
		s.Error("an offer of another request got the lease")
	}
}

func o6Claim(s *suite) {
	s.worker("w1")
	s.offer(s.request("t", "a"))
	s.offer(s.request("u", "a"))
	req := s.claimRequest("w1")
	first, err := s.Claim(s.Context(), req)
	must(s, 0, err)
	req.Repeat = true
	again, err := s.Claim(s.Context(), req)
	must(s, 0, err)
	equal(s, "entries", len(first.Entries), 2)
	equal(s, "entries", len(again.Entries), len(first.Entries))
	for i := range again.Entries {
		equal(s, "lease", again.Entries[i].Lease, first.Entries[i].Lease)
	}
	s.claimNone("w1")
}

func o6Settle(s *suite) {
	e := s.start("t", multiTurn)
	s.queue("t", "b")
	req := ending(e, store.Completed, store.Suspended)
	req.KeepLease, req.Request = true, 77
	done := s.settle(req)
	again := s.settle(req)
	equal(s, "status", again.Status, done.Status)
	if again.Entry == nil || again.Ended == nil {
		s.Fatal("the repeated settle gave no lease, or no ended turn")
	}
	equal(s, "lease", again.Entry.Lease, done.Entry.Lease)
	equal(s, "ended", again.Ended.Number, 1)
	equal(s, "output", string(again.Ended.Output), `"out"`)
	equal(s, "last event", s.task("t").LastEvent, 1)
	s.suspend(again.Entry)
}

func o6Checkpoint(s *suite) {
	e := s.start("t")
	equal(s, "last event", s.checkpoint(e, 1, true, "x", "y").LastEvent, 2)
	equal(s, "last event", s.checkpoint(e, 1, true, "x", "y").LastEvent, 2)
	equal(s, "events", len(s.events("t", 0).Events), 2)
	equal(s, "last event", s.checkpoint(e, 2, true, "z").LastEvent, 3)
}
