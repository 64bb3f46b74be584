package storetest

import (
	"time"

	"github.com/perdure/perdure/store"
)

func unparkRules() []rule {
	const unpark = "To resume a parked task is another chance, not another life."
	return []rule{
		{"Parked", "Unpark", unpark, parkedUnpark},
		{"Parked", "UnparkAfterCrashes", "A task that was parked for crashes comes back as a suspect, counted from 0.", parkedUnparkAfterCrashes},
		{"Parked", "UnparkOfABadInput", "A task that was parked for its input does not come back as a suspect.", parkedUnparkOfABadInput},
		{"Parked", "Behind", "A turn that waits behind a parked one names it, and why.", parkedBehind},
	}
}

func (s *suite) park(e *store.Entry) {
	s.Helper()
	s.settle(&store.SettleRequest{Lease: e.Lease, Kind: store.SettlePark, Reason: "bad"})
}

func parkedUnpark(s *suite) {
	first := s.start("t", timed)
	advance(time.Second)
	s.settle(retry(first, 0, false))
	s.settle(release(s.claimOne("w1"), store.ReleaseAsked))
	s.park(s.claimOne("w1"))
	advance(time.Hour)
	s.serve("w2")
	s.ended("while it is parked", 0)
	s.signal(&store.SignalRequest{TaskID: "t", Kind: store.Resume})
	t := s.task("t")
	equal(s, "started at", t.Turn.StartedAt, first.Task.Turn.StartedAt)
	equal(s, "deadline", t.Turn.Deadline, time.Time{})
	equal(s, "reason", t.Reason, "")
	advance(time.Hour)
	s.serve("w3")
	e := s.claimOne("w3")
	equal(s, "started at", e.Task.Turn.StartedAt, first.Task.Turn.StartedAt)
	equal(s, "attempt", e.Task.Turn.Attempt, 2)
	equal(s, "entry", e.Task.Turn.Entry, store.EntryRecovered)
	equal(s, "recoveries", e.Task.Turn.Recoveries, 0)
	equal(s, "error of the attempt before", e.Task.Turn.Error.Message, "again")
	equal(s, "deadline from the entry", e.Task.Turn.Deadline.Sub(e.Task.EnteredAt), 20*time.Second)
	equal(s, "overdue", e.Task.Turn.Overdue, false)
}

func parkedUnparkAfterCrashes(s *suite) {
	s.start("t", func(set *store.Settings) { set.MaxRecoveries = 2 })
	w := s.crashes(3)
	s.claimNone(w)
	s.statusIs("t", store.Parked)
	s.signal(&store.SignalRequest{TaskID: "t", Kind: store.Resume})
	equal(s, "suspect", s.task("t").Suspect, true)
	req := s.claimRequest(w)
	req.Suspect = false
	c, err := s.Claim(s.Context(), req)
	equal(s, "claimed among others", len(must(s, c, err).Entries), 0)
	e := s.claimOne(w)
	equal(s, "recoveries", e.Task.Turn.Recoveries, 0)
	equal(s, "streak", e.Task.Turn.Streak, 0)
	s.checkpoint(e, 1, true)
	equal(s, "suspect after a checkpoint", s.task("t").Suspect, false)
}

func parkedUnparkOfABadInput(s *suite) {
	e := s.start("t")
	s.settle(release(e, store.ReleaseAsked))
	s.park(s.claimOne("w1"))
	s.signal(&store.SignalRequest{TaskID: "t", Kind: store.Resume})
	equal(s, "suspect", s.task("t").Suspect, false)
	equal(s, "recoveries", s.claimOne("w1").Task.Turn.Recoveries, 0)
}

func parkedBehind(s *suite) {
	s.suspend(s.start("t", multiTurn))
	e := s.again("t", "b")
	s.queue("t", "c", "d")
	s.park(e)
	check := func(number int64, status store.Status, parked int64, reason string) {
		s.Helper()
		turn := s.turn("t", number)
		equal(s, "status", turn.Status, status)
		equal(s, "parked", turn.Parked, parked)
		equal(s, "reason", turn.Reason, reason)
	}
	check(1, store.Completed, 0, "")
	check(2, store.Parked, 2, "bad")
	check(3, store.TurnQueued, 2, "bad")
	page, err := s.Turns(s.Context(), store.TurnsQuery{TaskID: "t", After: 3, Limit: 10})
	must(s, 0, err)
	equal(s, "parked in a page", page.Turns[0].Parked, 2)
	s.signal(&store.SignalRequest{TaskID: "t", Kind: store.Cancel, InputID: "c", Reason: "no"})
	check(3, store.Cancelled, 0, "no")
	s.signal(&store.SignalRequest{TaskID: "t", Kind: store.Resume})
	check(2, store.Pending, 0, "")
	check(4, store.TurnQueued, 0, "")
}
