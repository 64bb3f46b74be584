package storetest

import (
	"fmt"
	"time"

	"github.com/perdure/perdure/store"
)

func recoverRules() []rule {
	const r1 = "A recovered turn has the same input, settings, metadata and events that were durable, attempt and started-at."
	const r4 = "From the third re-entry of a turn on it is delayed; after MaxRecoveries without a checkpoint the task is parked."
	return []rule{
		{"R1", "Same", r1, r1Same},
		{"R3", "OtherFuncs", "A func that is not bound here is left alone.", r3OtherFuncs},
		{"R4", "NotARetry", "A recovery does not use up a retry.", r4NotARetry},
		{"R4", "Delayed", r4, r4Delayed},
		{"R4", "SuspectsAlone", "A worker enters suspects one at a time.", r4SuspectsAlone},
		{"R4", "OneSuspectOfAllFuncs", "A claim brings one suspect at most, whichever funcs have some.", r4OneSuspectOfAllFuncs},
		{"R4", "SuspectWithinTheLimit", "A suspect counts against the limit of its func.", r4SuspectWithinTheLimit},
		{"R4", "CheckpointClears", "A checkpoint clears the consecutive count.", r4CheckpointClears},
		{"R4", "LifeClears", "A minute of life clears the consecutive count.", r4LifeClears},
		{"R4", "Parks", r4, r4Parks},
		{"R4", "ReleaseUncounted", "Releases at shutdown do not count.", r4ReleaseUncounted},
		{"H2", "ReleaseCounts", "A release outside shutdown counts like a recovery.", h2ReleaseCounts},
		{"Parked", "Resume", "resume sets pending, due now, recoveries 0, entry recovered; on another status it is a conflict.", parkedResume},
	}
}

func r1Same(s *suite) {
	e := s.start("t", func(set *store.Settings) { set.Timeout, set.Retry = time.Hour, store.Retry{Attempts: 4} })
	_, err := s.Checkpoint(s.Context(), &store.CheckpointRequest{
		Lease: e.Lease, Number: 1, Commit: true, Metadata: []store.Change{{Key: "k", Value: []byte("1")}},
	})
	must(s, 0, err)
	advance(time.Second)
	s.settle(&store.SettleRequest{Lease: e.Lease, Kind: store.SettleRetry, Error: &store.TaskError{Type: "T", Message: "m"}})
	e = s.claimOne("w1")
	s.crash("w2")
	again := s.claimOne("w2")
	equal(s, "input", string(again.Input), string(e.Input))
	equal(s, "settings", again.Task.Settings, e.Task.Settings)
	equal(s, "metadata", string(again.Task.Metadata["k"]), "1")
	equal(s, "attempt", again.Task.Turn.Attempt, 2)
	equal(s, "started at", again.Task.Turn.StartedAt, e.Task.Turn.StartedAt)
	equal(s, "deadline", again.Task.Turn.Deadline, e.Task.Turn.Deadline)
	equal(s, "error of the attempt before", *again.Task.Turn.Error, store.TaskError{Type: "T", Message: "m"})
	equal(s, "entry", again.Task.Turn.Entry, store.EntryRecovered)
}

func r3OtherFuncs(s *suite) {
	s.offer(s.request("t", "a"))
	s.worker("w1")
	req := s.claimRequest("w1")
	req.Funcs = []store.ClaimFunc{{Name: "ff", Limit: 10}, {Name: "F", Limit: 10}}
	c, err := s.Claim(s.Context(), req)
	equal(s, "entries", len(must(s, c, err).Entries), 0)
	equal(s, "next due", c.NextDue, time.Time{})
}

func r4NotARetry(s *suite) {
	s.start("t")
	s.crash("w2")
	e := s.claimOne("w2")
	equal(s, "attempt", e.Task.Turn.Attempt, 1)
	equal(s, "recoveries", e.Task.Turn.Recoveries, 1)
}

// crashes makes n workers in a row die with the task, and returns the one that is alive.
func (s *suite) crashes(n int) string {
	s.Helper()
	worker := "w1"
	for i := range n {
		if i > 0 {
			s.claimOne(worker)
		}
		worker = fmt.Sprintf("w%d", i+2)
		s.crash(worker)
	}
	return worker
}

func r4Delayed(s *suite) {
	s.start("t", func(set *store.Settings) { set.MaxRecoveries = 20 })
	w := s.crashes(3)
	c, err := s.Claim(s.Context(), s.claimRequest(w))
	must(s, 0, err)
	equal(s, "entries", len(c.Entries), 0)
	equal(s, "delay", c.NextDue.Sub(c.Now), time.Second)
	t := s.task("t")
	equal(s, "status", t.Status, store.Pending)
	equal(s, "wait", t.Wait, store.WaitRecovery)
	equal(s, "suspect", t.Suspect, true)
	s.queue("t", "b")
	s.claimNone(w)
	advance(time.Second)
	equal(s, "recoveries", s.claimOne(w).Task.Turn.Recoveries, 3)
	s.crash("w9")
	s.claimNone("w9")
	equal(s, "second delay", s.task("t").NotBefore.Sub(c.Now)-time.Second-leaseTime, 2*time.Second)
}

func r4SuspectsAlone(s *suite) {
	for _, id := range []string{"a", "b", "c"} {
		s.start(id, func(set *store.Settings) { set.MaxRecoveries = 20 })
	}
	for _, w := range []string{"w2", "w3", "w4"} {
		s.crash(w)
		s.claim(w)
	}
	advance(time.Second)
	if got := len(s.claim("w4")); got != 1 {
		s.Fatalf("got %d suspects at once, want 1", got)
	}
	req := s.claimRequest("w4")
	req.Suspect = false
	c, err := s.Claim(s.Context(), req)
	equal(s, "entries without Suspect", len(must(s, c, err).Entries), 0)
}

// suspect makes a task that is due at once as a suspect: it was parked for its first crash, and resumed.
func (s *suite) suspect(task, fn string) {
	s.Helper()
	req := s.request(task, "x")
	req.Func, req.Lease, req.Settings.MaxRecoveries = fn, true, 0
	s.settle(release(s.offer(req).Entry, store.ReleaseAsked))
	s.signal(&store.SignalRequest{TaskID: task, Kind: store.Resume})
	t := s.task(task)
	equal(s, "suspect", t.Suspect, true)
	equal(s, "due", t.Due, true)
}

// claimOf claims of the funcs f and g, each within the given limit.
func (s *suite) claimOf(limit int) string {
	s.Helper()
	req := s.claimRequest("w1")
	req.Funcs = []store.ClaimFunc{{Name: "f", Limit: limit}, {Name: "g", Limit: limit}}
	c, err := s.Claim(s.Context(), req)
	return order(must(s, c, err).Entries)
}

func r4OneSuspectOfAllFuncs(s *suite) {
	s.worker("w1")
	s.suspect("f1", "f")
	s.suspect("g1", "g")
	s.suspect("f2", "f")
	s.offer(s.request("ordinary", "x"))
	equal(s, "first claim", s.claimOf(10), "f1 ordinary")
	equal(s, "second claim", s.claimOf(10), "g1")
	equal(s, "third claim", s.claimOf(10), "f2")
}

// work reports whether a poll finds work, of the funcs and with room for a suspect or not.
func (s *suite) work(worker string, suspect bool, funcs ...string) bool {
	s.Helper()
	p, err := s.Poll(s.Context(), &store.PollRequest{Worker: worker, Funcs: funcs, Suspect: suspect})
	return must(s, p, err).Due
}

func r2Poll(s *suite) {
	s.worker("w1")
	equal(s, "nothing due", s.work("w1", true, "f"), false)
	s.offer(s.request("t", "x"))
	equal(s, "of no func", s.work("w1", true), false)
	equal(s, "of another func", s.work("w1", true, "g"), false)
	equal(s, "due", s.work("w1", false, "g", "f"), true)
	e := s.claimOne("w1")
	equal(s, "leased", s.work("w1", true, "f"), false)
	s.settle(release(e, store.ReleaseAsked))
	s.suspect("u", "g")
	equal(s, "a suspect, without room for one", s.work("w1", false, "g"), false)
	equal(s, "a suspect", s.work("w1", true, "f", "g"), true)
	s.claim("w1")
	s.crash("w2")
	equal(s, "of a dead worker, of no func", s.work("w2", false), true)
	s.claim("w2")
	equal(s, "put back and claimed", s.work("w2", false), false)
}

func r4SuspectWithinTheLimit(s *suite) {
	s.worker("w1")
	s.offer(s.request("a", "x"))
	s.suspect("b", "f")
	s.offer(s.request("c", "x"))
	equal(s, "first claim", s.claimOf(1), "a")
	equal(s, "second claim", s.claimOf(1), "b")
	equal(s, "third claim", s.claimOf(1), "c")
}

func r4CheckpointClears(s *suite) {
	s.start("t")
	w := s.crashes(2)
	e := s.claimOne(w)
	equal(s, "streak", e.Task.Turn.Streak, 2)
	s.checkpoint(e, 1, true)
	s.crash("w9")
	e = s.claimOne("w9")
	equal(s, "streak", e.Task.Turn.Streak, 1)
	equal(s, "recoveries", e.Task.Turn.Recoveries, 3)
}

func r4LifeClears(s *suite) {
	s.start("t")
	w := s.crashes(2)
	s.claimOne(w)
	for range 6 {
		advance(10 * time.Second)
		must(s, 0, s.beat(w, false))
	}
	s.crash("w9")
	equal(s, "streak", s.claimOne("w9").Task.Turn.Streak, 1)
}

func r4Parks(s *suite) {
	s.start("t", func(set *store.Settings) { set.MaxRecoveries = 2 })
	s.queue("t", "b")
	w := s.crashes(3)
	c, err := s.Claim(s.Context(), s.claimRequest(w))
	equal(s, "parked", must(s, c, err).Parked, 1)
	t := s.task("t")
	equal(s, "status", t.Status, store.Parked)
	equal(s, "queued", t.Queued, 1)
	if t.Reason == "" {
		s.Error("no reason")
	}
	s.turnIs("t", 1, store.Parked)
}

func release(e *store.Entry, why store.Release) *store.SettleRequest {
	return &store.SettleRequest{Lease: e.Lease, Kind: store.SettleRelease, Release: why}
}

func r4ReleaseUncounted(s *suite) {
	e := s.start("t")
	for range 10 {
		d := s.settle(release(e, store.ReleaseWrapped))
		equal(s, "due", d.Due, true)
		s.statusIs("t", store.InProgress)
		e = s.claimOne("w1")
	}
	equal(s, "recoveries", e.Task.Turn.Recoveries, 0)
	equal(s, "entry", e.Task.Turn.Entry, store.EntryRecovered)
}

func h2ReleaseCounts(s *suite) {
	e := s.start("t")
	s.settle(release(e, store.ReleaseAsked))
	e = s.claimOne("w1")
	equal(s, "recoveries", e.Task.Turn.Recoveries, 1)
	equal(s, "entry", e.Task.Turn.Entry, store.EntryRecovered)
}

func parkedResume(s *suite) {
	e := s.start("t")
	s.settle(&store.SettleRequest{Lease: e.Lease, Kind: store.SettlePark, Reason: "bad"})
	s.claimNone("w1")
	equal(s, "reason", s.turn("t", 1).Reason, "bad")
	d := s.signal(&store.SignalRequest{TaskID: "t", Kind: store.Resume})
	equal(s, "status", d.Status, store.Pending)
	equal(s, "due", d.Due, true)
	e = s.claimOne("w1")
	equal(s, "entry", e.Task.Turn.Entry, store.EntryRecovered)
	equal(s, "recoveries", e.Task.Turn.Recoveries, 0)
	_, err := s.Signal(s.Context(), &store.SignalRequest{TaskID: "t", Kind: store.Resume})
	s.conflicts("second resume", err, store.InProgress)
}
