package storetest

import (
	"time"

	"github.com/perdure/perdure/store"
)

// unrun is a way in which a turn waits while nobody runs it.
type unrun struct {
	name string
	make func(*suite)
	once bool // a handler has begun it and may be entered again now, for its clean-up
	late bool // its deadline comes while it waits
}

func unruns() []unrun {
	const never, once, late = false, true, true
	return []unrun{
		{"NeverEntered", (*suite).neverEntered, never, false},
		{"Retry", func(s *suite) { s.settle(retry(s.start("t", timed), time.Hour, false)) }, never, late},
		{"Strict", func(s *suite) { s.settle(retry(s.start("t", timed), time.Hour, true)) }, never, late},
		{"RecoveryDelay", (*suite).recoveryDelay, never, late},
		{"Released", func(s *suite) { s.settle(release(s.start("t", timed), store.ReleaseWrapped)) }, once, late},
		{"Reaped", (*suite).reaped, once, late},
		{"Unparked", (*suite).unparked, once, false},
	}
}

func unrunRules() []rule {
	const (
		c3    = "Cancel ends at once what nobody runs and no living worker can enter again; else the turn is entered once with the cause."
		c5    = "At its deadline a turn that nobody runs ends, unless a living worker can enter it once with the cause."
		grace = "If no living worker has taken such a turn for the grace of its timeout, a sweep ends it."
	)
	rules := []rule{
		{"C3", "Grace", grace, c3Grace},
		{"C3", "GraceAgain", "A turn that was taken within the grace and given back has it again.", c3GraceAgain},
		{"C3", "ServerGone", "When the last worker that serves the func is gone, a sweep ends what was cancelled.", c3ServerGone},
		{"C5", "Grace", grace, c5Grace},
		{"C5", "TakenInTheGrace", "A turn that was taken within the grace is not ended by sweeps while it runs.", c5TakenInTheGrace},
		{"C5", "OneEntry", "A turn is entered once past its deadline.", c5OneEntry},
	}
	served, unserved := []string{"other", "f"}, []string{"other"}
	for _, u := range unruns() {
		rules = append(rules,
			rule{"C3", u.name + "Served", c3, func(s *suite) { u.cancel(s, served, u.once) }},
			rule{"C3", u.name + "Unserved", c3, func(s *suite) { u.cancel(s, unserved, false) }},
			rule{"C5", u.name + "Served", c5, func(s *suite) { u.deadline(s, served, u.once) }},
			rule{"C5", u.name + "Unserved", c5, func(s *suite) { u.deadline(s, unserved, false) }})
	}
	return rules
}

func (s *suite) neverEntered() {
	req := s.request("t", "t-1")
	timed(req.Settings)
	s.offer(req)
}

// recoveryDelay brings a turn into a delay that begins before its deadline and ends after it.
func (s *suite) recoveryDelay() {
	s.serve("w0")
	e := s.start("t", timed, func(set *store.Settings) { set.MaxRecoveries = 20 })
	for {
		s.settle(release(e, store.ReleaseAsked))
		t := s.task("t")
		if t.NotBefore.After(t.Turn.Deadline) {
			return
		}
		if !t.NotBefore.IsZero() {
			advance(t.NotBefore.Sub(t.UpdatedAt))
		}
		e = s.claimOne("w0")
	}
}

func (s *suite) reaped() {
	s.start("t", timed)
	s.serve("w0")
	advance(leaseTime)
	req := s.claimRequest("w0")
	req.Limit = 0
	c, err := s.Claim(s.Context(), req)
	equal(s, "put back", must(s, c, err).Put, 1)
}

func (s *suite) unparked() {
	s.settle(&store.SettleRequest{Lease: s.start("t", timed).Lease, Kind: store.SettlePark, Reason: "bad"})
	equal(s, "due", s.signal(&store.SignalRequest{TaskID: "t", Kind: store.Resume}).Due, true)
}

// ended sweeps once and checks how many turns that has ended.
func (s *suite) ended(when string, want int) {
	s.Helper()
	swept, err := s.Sweep(s.Context(), 100)
	equal(s, "turns that a sweep ended "+when, must(s, swept, err).Ended, want)
}

// cancel cancels a waiting task; entered says whether a handler is to see that.
func (u unrun) cancel(s *suite, funcs []string, entered bool) {
	u.make(s)
	s.serve("w2", funcs...)
	d := s.signal(&store.SignalRequest{TaskID: "t", Kind: store.Cancel, Reason: "enough"})
	equal(s, "changed", d.Changed, true)
	equal(s, "marked", d.Marked, entered)
	equal(s, "due", d.Due, entered)
	if entered {
		e := s.claimOne("w2")
		equal(s, "cancel at entry", e.Task.Turn.Cancel, true)
		equal(s, "reason at entry", e.Task.Turn.CancelReason, "enough")
		equal(s, "entry", e.Task.Turn.Entry, store.EntryRecovered)
		s.ended("while it cleans up", 0)
		s.settle(ending(e, store.Cancelled, store.Cancelled))
	}
	s.statusIs("t", store.Cancelled)
	turn := s.turn("t", 1)
	equal(s, "turn", turn.Status, store.Cancelled)
	if !entered {
		equal(s, "reason", turn.Reason, "enough")
	}
	advance(2 * time.Hour)
	s.serve("w3", "f")
	s.claimNone("w3")
	s.ended("after all", 0)
}

// deadline lets the deadline of a waiting task come; entered says whether a handler is to see that.
func (u unrun) deadline(s *suite, funcs []string, entered bool) {
	u.make(s)
	s.serve("w2", funcs...)
	t := s.task("t")
	if !u.late {
		equal(s, "deadline", t.Turn.Deadline, time.Time{})
		advance(30 * time.Minute)
		s.ended("that has no deadline yet", 0)
		equal(s, "deadline at the entry", s.claimOne("w2").Task.Turn.Deadline.IsZero(), false)
		return
	}
	advance(t.Turn.StartedAt.Add(20*time.Second).Sub(t.UpdatedAt) - time.Microsecond)
	s.ended("before the deadline", 0)
	advance(time.Microsecond)
	if entered {
		s.ended("while a worker may enter it", 0)
		e := s.claimOne("w2")
		equal(s, "overdue", e.Task.Turn.Overdue, true)
		equal(s, "entry", e.Task.Turn.Entry, store.EntryRecovered)
		return
	}
	s.ended("at the deadline", 1)
	s.terminatedByDeadline()
}

func (s *suite) terminatedByDeadline() {
	s.Helper()
	s.statusIs("t", store.Terminated)
	turn := s.turn("t", 1)
	equal(s, "turn", turn.Status, store.Terminated)
	equal(s, "reason", turn.Reason, "deadline")
	s.claimNone("w2")
}

func c3Grace(s *suite) {
	s.settle(release(s.start("t", timed), store.ReleaseWrapped))
	s.serve("w2", "f")
	s.signal(&store.SignalRequest{TaskID: "t", Kind: store.Cancel, Reason: "enough"})
	version := s.task("t").Version
	s.ended("at once", 0)
	advance(time.Second - time.Microsecond) // of timed
	s.ended("in the grace", 0)
	equal(s, "version: nobody asked for a change", s.task("t").Version, version)
	advance(time.Microsecond)
	s.ended("after the grace", 1)
	s.statusIs("t", store.Cancelled)
	equal(s, "reason", s.turn("t", 1).Reason, "enough")
	s.claimNone("w2")
}

func c3GraceAgain(s *suite) {
	s.settle(release(s.start("t", timed), store.ReleaseWrapped))
	s.serve("w2", "f")
	s.signal(&store.SignalRequest{TaskID: "t", Kind: store.Cancel})
	s.ended("at once", 0)
	s.settle(release(s.claimOne("w2"), store.ReleaseWrapped))
	advance(time.Second)
	s.ended("that was given back", 0)
	advance(time.Second - time.Microsecond)
	s.ended("in the second grace", 0)
	advance(time.Microsecond)
	s.ended("after the second grace", 1)
	s.statusIs("t", store.Cancelled)
}

func c3ServerGone(s *suite) {
	s.settle(release(s.start("t"), store.ReleaseWrapped))
	_, err := s.Heartbeat(s.Context(), &store.HeartbeatRequest{
		Worker: "w2", First: true, Lease: leaseTime, Funcs: []store.PublishedFunc{{Name: "f"}},
	})
	must(s, 0, err)
	equal(s, "marked", s.signal(&store.SignalRequest{TaskID: "t", Kind: store.Cancel}).Marked, true)
	advance(leaseTime)
	s.ended("after the worker has lapsed", 1)
	s.statusIs("t", store.Cancelled)
}

func c5Grace(s *suite) {
	s.settle(release(s.start("t", timed), store.ReleaseWrapped))
	s.serve("w2", "f")
	advance(20 * time.Second)
	s.ended("at the deadline", 0)
	advance(time.Second - time.Microsecond)
	s.ended("in the grace", 0)
	advance(time.Microsecond)
	s.ended("after the grace", 1)
	s.terminatedByDeadline()
}

func c5TakenInTheGrace(s *suite) {
	s.settle(release(s.start("t", timed), store.ReleaseWrapped))
	s.serve("w2", "f")
	advance(20 * time.Second)
	s.ended("at the deadline", 0)
	e := s.claimOne("w2")
	advance(time.Minute)
	s.ended("while it runs", 0)
	s.settle(ending(e, store.Completed, store.Completed))
	s.turnIs("t", 1, store.Completed)
}

func c5OneEntry(s *suite) {
	s.serve("w2", "f")
	for _, why := range []store.Release{store.ReleaseAsked, store.ReleaseStopped, store.ReleaseWrapped} {
		id := "t" + string(why)
		s.settle(release(s.start(id, timed), store.ReleaseWrapped))
		advance(20 * time.Second)
		e := s.claimOne("w2")
		equal(s, id+": overdue", e.Task.Turn.Overdue, true)
		s.settle(release(e, why))
		if why == store.ReleaseStopped { // else the claim ends it
			s.ended("that was entered once", 1)
		}
		s.claimNone("w2")
		equal(s, id+": status", s.task(id).Status, store.Terminated)
		equal(s, id+": reason", s.turn(id, 1).Reason, "deadline")
	}
}
