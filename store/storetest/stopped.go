package storetest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/perdure/perdure/store"
)

func stoppedRules() []rule {
	const third = "Turns that the engine stopped itself are released uncounted; from the third stop in a row the turn is a suspect."
	const clears = "A checkpoint or a minute of life ends a row of stops."
	return []rule{
		{"R4", "ReplacedWorkerWithMuch", "All that a replaced worker held is put back uncounted, in as many pieces as it takes.", r4ReplacedWorkerWithMuch},
		{"R4", "ThirdReplacement", third, func(s *suite) { r4ThirdStop(s, (*suite).replaced) }},
		{"R4", "ThirdForcedRelease", third, func(s *suite) { r4ThirdStop(s, (*suite).stopped) }},
		{"R4", "CheckpointEndsARowOfStops", clears, r4CheckpointEndsARowOfStops},
		{"R4", "LifeEndsARowOfStops", clears, r4LifeEndsARowOfStops},
		{"R4", "StopsAndCrashes", "Stops and crashes are counted apart.", r4StopsAndCrashes},
		{"T3", "IfQueued", "A turn that wraps up for a steer which was withdrawn is released uncounted, and entered again.", t3IfQueued},
		{"T3", "IfQueuedAndQueued", "A turn that wraps up for a steer ends while an input is queued.", t3IfQueuedAndQueued},
		{"T3", "Detail", "What a handler returned when it wrapped up is kept beside the outcome.", t3Detail},
	}
}

// replaced registers another worker of the process of e's owner, which has stopped its turns, and claims for it.
func (s *suite) replaced(e *store.Entry) *store.Entry {
	s.Helper()
	next := e.Lease.Worker + "+"
	_, err := s.Heartbeat(s.Context(), &store.HeartbeatRequest{Worker: next, First: true, Lease: leaseTime, Replaces: e.Lease.Worker})
	must(s, 0, err)
	return s.claimOne(next)
}

// stopped releases by force, and claims again.
func (s *suite) stopped(e *store.Entry) *store.Entry {
	s.Helper()
	s.settle(release(e, store.ReleaseStopped))
	return s.claimOne(e.Lease.Worker)
}

func r4ReplacedWorkerWithMuch(s *suite) {
	const tasks = 1500
	s.worker("w1")
	var all sync.WaitGroup
	for i := range tasks {
		req := s.request(fmt.Sprint("t", i), "x")
		req.Lease = true
		all.Go(func() {
			if _, err := s.Offer(context.Background(), req); err != nil {
				s.Error(err)
			}
		})
	}
	all.Wait()
	_, err := s.Heartbeat(s.Context(), &store.HeartbeatRequest{Worker: "w2", First: true, Lease: leaseTime, Replaces: "w1"})
	must(s, 0, err)
	put := 0
	for more := true; more; {
		req := s.claimRequest("w2")
		req.Limit = 0
		c, err := s.Claim(s.Context(), req)
		put += must(s, c, err).Put
		if more = c.More; more && c.Put == 0 {
			s.Fatal("more is to be put back, and nothing was")
		}
	}
	equal(s, "put back", put, tasks)
	page, err := s.List(s.Context(), store.ListQuery{Limit: 2 * tasks})
	for _, t := range must(s, page, err).Tasks {
		if t.Turn.Recoveries != 0 || t.Turn.Stops != 1 || !t.Due || !t.NotBefore.IsZero() || t.Worker != "" {
			s.Fatalf("%s: recoveries %d, stops %d, due %v", t.ID, t.Turn.Recoveries, t.Turn.Stops, t.Due)
		}
	}
	equal(s, "tasks", len(page.Tasks), tasks)
}

func r4ThirdStop(s *suite, stop func(*suite, *store.Entry) *store.Entry) {
	e := s.start("t")
	for n := range 30 {
		equal(s, fmt.Sprint("suspect after ", n), e.Task.Suspect, n >= 3)
		equal(s, "stops", e.Task.Turn.Stops, n)
		equal(s, "recoveries", e.Task.Turn.Recoveries, 0)
		e = stop(s, e)
		equal(s, "entry", e.Task.Turn.Entry, store.EntryRecovered)
	}
	s.settle(release(e, store.ReleaseStopped))
	req := s.claimRequest(e.Lease.Worker)
	req.Suspect = false
	c, err := s.Claim(s.Context(), req)
	equal(s, "claimed among others", len(must(s, c, err).Entries), 0)
}

func r4CheckpointEndsARowOfStops(s *suite) {
	e := s.start("t")
	for range 2 {
		e = s.stopped(s.stopped(e))
		equal(s, "stops", e.Task.Turn.Stops, 2)
		s.checkpoint(e, 1, true)
	}
	e = s.stopped(s.stopped(s.stopped(e)))
	equal(s, "suspect", e.Task.Suspect, true)
	s.checkpoint(e, 1, true)
	equal(s, "suspect after a checkpoint", s.task("t").Suspect, false)
}

func r4LifeEndsARowOfStops(s *suite) {
	e := s.stopped(s.stopped(s.start("t")))
	for range 6 {
		advance(10 * time.Second)
		must(s, 0, s.beat("w1", false))
	}
	e = s.stopped(e)
	equal(s, "stops of a forced release after a minute", e.Task.Turn.Stops, 1)
	e = s.stopped(e)
	for range 6 {
		advance(10 * time.Second)
		must(s, 0, s.beat("w1", false))
	}
	e = s.replaced(e)
	equal(s, "stops of a replacement after a minute", e.Task.Turn.Stops, 1)
	equal(s, "suspect", e.Task.Suspect, false)
}

func r4StopsAndCrashes(s *suite) {
	e := s.stopped(s.stopped(s.start("t")))
	s.crash("w2")
	e = s.claimOne("w2")
	equal(s, "recoveries", e.Task.Turn.Recoveries, 1)
	equal(s, "stops", e.Task.Turn.Stops, 2)
	equal(s, "suspect", e.Task.Suspect, false)
	e = s.replaced(e)
	equal(s, "recoveries", e.Task.Turn.Recoveries, 1)
	equal(s, "streak", e.Task.Turn.Streak, 1)
	equal(s, "suspect after the third stop", e.Task.Suspect, true)
	s.settle(release(e, store.ReleaseAsked))
	e = s.claimOne(e.Lease.Worker)
	equal(s, "recoveries", e.Task.Turn.Recoveries, 2)
	equal(s, "still a suspect", e.Task.Suspect, true)
	s.settle(release(e, store.ReleaseWrapped))
	equal(s, "stops after a release", s.claimOne(e.Lease.Worker).Task.Turn.Stops, 3)
}

func superseded(e *store.Entry) *store.SettleRequest {
	return &store.SettleRequest{
		Lease: e.Lease, Kind: store.SettleEnd, Outcome: store.Cancelled, Then: store.Suspended, IfQueued: true,
		Events: blobs([]string{"x"}), Metadata: []store.Change{{Key: "k", Value: []byte("1")}},
	}
}

func t3IfQueued(s *suite) {
	e := s.start("t", multiTurn)
	s.queue("t", "b")
	s.signal(&store.SignalRequest{TaskID: "t", Kind: store.Cancel, InputID: "b"})
	req := superseded(e)
	d := s.settle(req)
	equal(s, "ended", d.Ended, nil)
	equal(s, "status", d.Status, store.InProgress)
	equal(s, "due", d.Due, true)
	s.alike("answer to the repeat", s.settle(req), d)
	t := s.task("t")
	equal(s, "metadata", len(t.Metadata), 0)
	e = s.claimOne("w1")
	equal(s, "turn", e.Task.Turn.Number, 1)
	equal(s, "entry", e.Task.Turn.Entry, store.EntryRecovered)
	equal(s, "recoveries", e.Task.Turn.Recoveries+e.Task.Turn.Stops, 0)
	equal(s, "events, which may be rolled back", stream(s.events("t", 0)), "1!cancelled 2x ")
	s.suspend(e)
	equal(s, "events after the turn", stream(s.committed("t", 0)), "1!cancelled 4!completed ")
}

func t3IfQueuedAndQueued(s *suite) {
	e := s.start("t", multiTurn)
	s.queue("t", "b")
	d := s.settle(superseded(e))
	if d.Ended == nil {
		s.Fatal("the turn did not end")
	}
	equal(s, "outcome", d.Ended.Status, store.Cancelled)
	equal(s, "superseded", d.Ended.Superseded, true)
	equal(s, "next input", s.claimOne("w1").Task.Turn.InputID, "b")
	equal(s, "metadata", string(s.task("t").Metadata["k"]), "1")
}

func t3Detail(s *suite) {
	req := ending(s.start("t"), store.Cancelled, store.Cancelled)
	req.Detail, req.Reason = "signal: killed", "enough"
	equal(s, "detail in the answer", s.settle(req).Ended.Detail, "signal: killed")
	equal(s, "detail of a repeat", s.settle(req).Ended.Detail, "signal: killed")
	turn := s.turn("t", 1)
	equal(s, "detail", turn.Detail, "signal: killed")
	equal(s, "reason", turn.Reason, "enough")
	page, err := s.Turns(s.Context(), store.TurnsQuery{TaskID: "t", Limit: 1})
	equal(s, "detail in a page", must(s, page, err).Turns[0].Detail, "signal: killed")
}
