package storetest

import (
	"time"

	"github.com/perdure/perdure/store"
)

func lineRules() []rule {
	const (
		p5       = "Tasks are taken in the order in which they began to wait."
		declined = "A lease under which no handler was entered is given back as if it had never been: start, entry, deadline and place."
	)
	return []rule{
		{"P5", "OfOneMoment", p5, p5OfOneMoment},
		{"P5", "NotOvertaken", "A task that is resumed again and again does not overtake those that wait.", p5NotOvertaken},
		{"P5", "DelayIsWaiting", p5, p5DelayIsWaiting},
		{"P5", "ShortenedKeepsItsPlace", "A retry that a steer brings forward keeps its place.", p5ShortenedKeepsItsPlace},
		{"P5", "ReleasedGoesBehind", "A turn that was given back begins to wait again.", p5ReleasedGoesBehind},
		{"P5", "DeclinedKeepsItsPlace", "A task that was claimed and not entered keeps its place.", p5DeclinedKeepsItsPlace},
		{"Declined", "Fresh", declined, declinedFresh},
		{"Declined", "Resumed", declined, declinedResumed},
		{"Declined", "Retried", declined, declinedRetried},
		{"Declined", "Recovered", declined, declinedRecovered},
		{"Declined", "Unparked", declined, declinedUnparked},
		{"Declined", "Overdue", declined, declinedOverdue},
		{"Declined", "Cancelled", "A cancel ends a turn at once whose lease is given back and whose handler was never entered.", declinedCancelled},
	}
}

// first claims one task and returns its ID.
func (s *suite) first(worker string) string {
	s.Helper()
	req := s.claimRequest(worker)
	req.Limit = 1
	c, err := s.Claim(s.Context(), req)
	return order(must(s, c, err).Entries)
}

func p5OfOneMoment(s *suite) {
	for _, id := range []string{"f3", "g1", "f1", "g3", "f2", "g2"} {
		req := s.request(id, "x")
		req.Func = id[:1]
		s.offer(req)
	}
	s.worker("w1")
	req := s.claimRequest("w1")
	req.Funcs, req.Limit = []store.ClaimFunc{{Name: "f", Limit: 2}, {Name: "g", Limit: 10}}, 4
	c, err := s.Claim(s.Context(), req)
	equal(s, "claimed", order(must(s, c, err).Entries), "f3 g1 f1 g3")
}

func p5NotOvertaken(s *suite) {
	e := s.start("old", multiTurn)
	for _, id := range []string{"a", "b", "c"} {
		s.offer(s.request(id, "x"))
		s.suspend(e)
		s.offer(s.request("old", "after "+id))
		equal(s, "taken first", s.first("w1"), id)
		e = s.claimOne("w1")
		equal(s, "taken next", e.Task.ID, "old")
	}
}

func p5DelayIsWaiting(s *suite) {
	e := s.start("a")
	s.offer(s.request("before", "x"))
	s.settle(retry(e, time.Second, false))
	s.offer(s.request("after", "x"))
	advance(time.Second)
	equal(s, "claimed", order(s.claim("w1")), "before a after")
}

func p5ShortenedKeepsItsPlace(s *suite) {
	s.settle(retry(s.start("a"), time.Hour, false))
	s.offer(s.request("b", "x"))
	advance(time.Second)
	s.queue("a", "steer")
	equal(s, "claimed", order(s.claim("w1")), "a b")
}

func p5ReleasedGoesBehind(s *suite) {
	e := s.start("a")
	s.offer(s.request("b", "x"))
	s.settle(release(e, store.ReleaseWrapped))
	equal(s, "claimed", order(s.claim("w1")), "b a")
}

func p5DeclinedKeepsItsPlace(s *suite) {
	direct := s.start("direct")
	for _, id := range []string{"a", "b", "c"} {
		s.offer(s.request(id, "x"))
	}
	entries := s.claim("w1")
	advance(time.Second)
	for _, e := range []*store.Entry{entries[1], entries[0], direct} {
		d := s.settle(release(e, store.ReleaseDeclined))
		equal(s, "status", d.Status, store.Pending)
		equal(s, "due", d.Due, true)
	}
	s.offer(s.request("d", "x"))
	equal(s, "claimed", order(s.claim("w1")), "a b direct d")
}

// declined gives a lease back as the engine does that has not entered the handler, a while later; it returns the task.
func (s *suite) declined(e *store.Entry) *store.Task {
	s.Helper()
	advance(time.Second)
	s.settle(release(e, store.ReleaseDeclined))
	_, err := s.Settle(s.Context(), ending(e, store.Completed, store.Completed))
	must(s, 0, err) // it is recognised: the lease is gone, and nothing ends
	_, err = s.Checkpoint(s.Context(), &store.CheckpointRequest{Lease: e.Lease, Number: 1})
	s.fails("checkpoint under the declined lease", err, store.ErrLeaseLost)
	t := s.task(e.Task.ID)
	equal(s, "recoveries", t.Turn.Recoveries, 0)
	equal(s, "stops", t.Turn.Stops, 0)
	equal(s, "suspect", t.Suspect, false)
	if t.Epoch <= e.Lease.Epoch {
		s.Errorf("epoch %d is not higher than the declined lease's %d", t.Epoch, e.Lease.Epoch)
	}
	return t
}

func declinedFresh(s *suite) {
	e := s.start("t", timed)
	for range 5 {
		t := s.declined(e)
		equal(s, "entered", t.Entered, false)
		equal(s, "entry", t.Turn.Entry, "")
		equal(s, "started at", t.Turn.StartedAt, time.Time{})
		equal(s, "deadline", t.Turn.Deadline, time.Time{})
		e = s.claimOne("w1")
		equal(s, "entry", e.Task.Turn.Entry, store.EntryFresh)
		equal(s, "deadline from the entry", e.Task.Turn.Deadline.Sub(e.Task.EnteredAt), 20*time.Second)
		equal(s, "started at the entry", e.Task.Turn.StartedAt, e.Task.EnteredAt)
	}
	s.declined(e)
	d := s.signal(&store.SignalRequest{TaskID: "t", Kind: store.Cancel})
	equal(s, "cancel of what was never entered", d.Status, store.Cancelled)
}

func declinedResumed(s *suite) {
	s.suspend(s.start("t", multiTurn, timed))
	s.offer(s.request("t", "b"))
	t := s.declined(s.claimOne("w1"))
	equal(s, "entered", t.Entered, true)
	equal(s, "started at", t.Turn.StartedAt, time.Time{})
	e := s.claimOne("w1")
	equal(s, "entry", e.Task.Turn.Entry, store.EntryResumed)
	equal(s, "deadline from the entry", e.Task.Turn.Deadline.Sub(e.Task.EnteredAt), 20*time.Second)
}

func declinedRetried(s *suite) {
	first := s.start("t", timed)
	advance(time.Second)
	s.settle(retry(first, 0, false))
	t := s.declined(s.claimOne("w1"))
	equal(s, "attempt", t.Turn.Attempt, 2)
	equal(s, "started at", t.Turn.StartedAt, first.Task.Turn.StartedAt)
	equal(s, "deadline", t.Turn.Deadline, first.Task.Turn.Deadline)
	e := s.claimOne("w1")
	equal(s, "entry", e.Task.Turn.Entry, store.EntryFresh)
	equal(s, "deadline", e.Task.Turn.Deadline, first.Task.Turn.Deadline)
	equal(s, "error of the attempt before", e.Task.Turn.Error.Message, "again")
}

func declinedRecovered(s *suite) {
	first := s.start("t", timed)
	advance(time.Second)
	s.settle(release(first, store.ReleaseWrapped))
	t := s.declined(s.claimOne("w1"))
	equal(s, "started at", t.Turn.StartedAt, first.Task.Turn.StartedAt)
	equal(s, "deadline", t.Turn.Deadline, first.Task.Turn.Deadline)
	equal(s, "entry", s.claimOne("w1").Task.Turn.Entry, store.EntryRecovered)
}

func declinedUnparked(s *suite) {
	first := s.start("t", timed)
	advance(time.Second)
	s.settle(&store.SettleRequest{Lease: first.Lease, Kind: store.SettlePark, Reason: "bad"})
	s.signal(&store.SignalRequest{TaskID: "t", Kind: store.Resume})
	t := s.declined(s.claimOne("w1"))
	equal(s, "started at", t.Turn.StartedAt, first.Task.Turn.StartedAt)
	equal(s, "deadline", t.Turn.Deadline, time.Time{})
	e := s.claimOne("w1")
	equal(s, "entry", e.Task.Turn.Entry, store.EntryRecovered)
	equal(s, "deadline from the entry", e.Task.Turn.Deadline.Sub(e.Task.EnteredAt), 20*time.Second)
}

func declinedOverdue(s *suite) {
	s.serve("w2", "f")
	s.settle(release(s.start("t", timed), store.ReleaseWrapped))
	advance(20 * time.Second)
	e := s.claimOne("w2")
	equal(s, "overdue", e.Task.Turn.Overdue, true)
	equal(s, "overdue when declined", s.declined(e).Turn.Overdue, false)
	equal(s, "overdue at the entry that counts", s.claimOne("w2").Task.Turn.Overdue, true)
}

func declinedCancelled(s *suite) {
	e := s.start("t", multiTurn)
	s.offer(s.request("t", "b"))
	d := s.signal(&store.SignalRequest{TaskID: "t", Kind: store.Cancel, Turn: 1})
	equal(s, "marked", d.Marked, true)
	done := s.settle(release(e, store.ReleaseDeclined))
	if done.Ended == nil || done.Ended.Number != 1 || done.Ended.Status != store.Cancelled {
		s.Errorf("declined: got %+v, want turn 1 cancelled", done.Ended)
	}
	next := s.claimOne("w1")
	equal(s, "turn", next.Task.Turn.Number, 2)
	equal(s, "cancel", next.Task.Turn.Cancel, false)
}
