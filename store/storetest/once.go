package storetest

import (
	"errors"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/perdure/perdure/store"
)

func onceRules() []rule {
	const o6 = "A signal or delete that is repeated with its request ID changes nothing that came later, and returns the first answer."
	return []rule{
		{"O6", "Cancel", o6, o6Cancel},
		{"O6", "CancelOfATask", o6, o6CancelOfATask},
		{"O6", "Terminate", o6, o6Terminate},
		{"O6", "Resume", o6, o6Resume},
		{"O6", "Delete", o6, o6Delete},
		{"O6", "DeleteOfAnAbsentTask", o6, o6DeleteOfAnAbsentTask},
		{"O6", "OtherOperation", "A request ID that was another operation's on the task is a conflict that names it.", o6OtherOperation},
		{"O6", "OtherTask", "Request IDs are remembered per task ID.", o6OtherTask},
		{"O6", "Forgotten", "Request IDs are remembered for 24 h.", o6Forgotten},
		{"O6", "Refused", "An operation that was refused is not remembered: it left no trace.", o6Refused},
		{"O6", "Unnamed", "An operation without a request ID is never taken for a repeat.", o6Unnamed},
	}
}

// alike compares two answers.
func (s *suite) alike(what string, got, want any) {
	s.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		s.Errorf("%s differs, got + and want -:\n%s", what, diff)
	}
}

// again resumes a suspended task with another input, and returns its lease.
func (s *suite) again(task, input string) *store.Entry {
	s.Helper()
	req := s.request(task, input)
	req.Lease = true
	e := s.offer(req).Entry
	if e == nil {
		s.Fatalf("no entry for %s", input)
	}
	return e
}

func o6Cancel(s *suite) {
	e := s.start("t", multiTurn)
	req := &store.SignalRequest{TaskID: "t", Kind: store.Cancel, Reason: "stop", RequestID: "r"}
	first := s.signal(req)
	equal(s, "marked", first.Marked, true)
	s.settle(ending(e, store.Cancelled, store.Suspended))
	s.again("t", "b")
	before := s.task("t")
	s.alike("answer to the repeat", s.signal(req), first)
	equal(s, "cancel of the turn that came later", s.task("t").Turn.Cancel, false)
	equal(s, "version", s.task("t").Version, before.Version)
	equal(s, "mail", s.mailOf("w1"), "cancel ")
}

func o6CancelOfATask(s *suite) {
	s.start("t", multiTurn)
	s.queue("t", "b", "c")
	req := &store.SignalRequest{TaskID: "t", Kind: store.Cancel, RequestID: "r"}
	first := s.signal(req)
	s.queue("t", "d")
	s.alike("answer to the repeat", s.signal(req), first)
	equal(s, "ended", len(first.Ended), 2)
	s.turnIs("t", 4, store.TurnQueued)
}

func o6Terminate(s *suite) {
	s.start("t")
	req := &store.SignalRequest{TaskID: "t", Kind: store.Terminate, RequestID: "r"}
	first := s.signal(req)
	equal(s, "status", first.Status, store.Terminated)
	s.delete("t")
	s.alike("answer after a delete", s.signal(req), first)
	s.start("t")
	s.alike("answer in the time of another incarnation", s.signal(req), first)
	s.statusIs("t", store.InProgress)
}

func o6Resume(s *suite) {
	park := func(e *store.Entry) {
		s.settle(&store.SettleRequest{Lease: e.Lease, Kind: store.SettlePark, Reason: "bad"})
	}
	park(s.start("t"))
	req := &store.SignalRequest{TaskID: "t", Kind: store.Resume, RequestID: "r"}
	first := s.signal(req)
	equal(s, "due", first.Due, true)
	s.alike("answer while it waits", s.signal(req), first)
	park(s.claimOne("w1"))
	s.alike("answer when it is parked again", s.signal(req), first)
	s.statusIs("t", store.Parked)
}

func o6Delete(s *suite) {
	e := s.start("t")
	req := &store.DeleteRequest{TaskID: "t", RequestID: "r"}
	first, err := s.Delete(s.Context(), req)
	equal(s, "incarnation", must(s, first, err).Incarnation, e.Lease.Incarnation)
	again, err := s.Delete(s.Context(), req)
	s.alike("answer to the repeat", must(s, again, err), first)
	s.start("t")
	again, err = s.Delete(s.Context(), req)
	s.alike("answer in the time of another incarnation", must(s, again, err), first)
	s.statusIs("t", store.InProgress)
	equal(s, "mail", s.mailOf("w1"), "deleted ")
}

func o6DeleteOfAnAbsentTask(s *suite) {
	req := &store.DeleteRequest{TaskID: "t", RequestID: "r"}
	first, err := s.Delete(s.Context(), req)
	equal(s, "incarnation", must(s, first, err).Incarnation, 0)
	s.start("t")
	again, err := s.Delete(s.Context(), req)
	s.alike("answer to the repeat", must(s, again, err), first)
	s.statusIs("t", store.InProgress)
}

// reused checks for the conflict of a request ID that was another operation's.
func (s *suite) reused(what string, err error) {
	s.Helper()
	var conflict *store.ConflictError
	if !errors.As(err, &conflict) || conflict.RequestID != "r" || conflict.TaskID != "t" {
		s.Errorf("%s: got error %v, want a conflict about request ID r of task t", what, err)
	}
}

func o6OtherOperation(s *suite) {
	e := s.start("t")
	s.signal(&store.SignalRequest{TaskID: "t", Kind: store.Cancel, Turn: 1, RequestID: "r"})
	for what, req := range map[string]*store.SignalRequest{
		"terminate":             {Kind: store.Terminate, Turn: 1},
		"cancel of the task":    {Kind: store.Cancel},
		"cancel of an input":    {Kind: store.Cancel, Turn: 1, InputID: "t-1"},
		"of an incarnation":     {Kind: store.Cancel, Turn: 1, Incarnation: e.Lease.Incarnation},
		"resume":                {Kind: store.Resume},
		"of one that is absent": {Kind: store.Cancel, Turn: 99},
	} {
		req.TaskID, req.RequestID = "t", "r"
		_, err := s.Signal(s.Context(), req)
		s.reused(what, err)
	}
	_, err := s.Delete(s.Context(), &store.DeleteRequest{TaskID: "t", RequestID: "r"})
	s.reused("delete", err)
	s.statusIs("t", store.InProgress)
	s.delete("t")
	_, err = s.Delete(s.Context(), &store.DeleteRequest{TaskID: "t", RequestID: "r"})
	s.reused("delete after the task is gone", err)
}

func o6OtherTask(s *suite) {
	s.start("t")
	s.start("u")
	s.signal(&store.SignalRequest{TaskID: "t", Kind: store.Terminate, RequestID: "r"})
	d := s.signal(&store.SignalRequest{TaskID: "u", Kind: store.Cancel, RequestID: "r"})
	equal(s, "changed", d.Changed, true)
}

func o6Forgotten(s *suite) {
	s.serve("w1")
	for _, sweep := range []bool{false, true} {
		id := map[bool]string{false: "unswept", true: "swept"}[sweep]
		req := &store.DeleteRequest{TaskID: id, RequestID: "r"}
		_, err := s.Delete(s.Context(), req)
		must(s, 0, err)
		advance(store.RequestsKept - time.Microsecond)
		s.swept()
		s.offer(s.request(id, "x"))
		again, err := s.Delete(s.Context(), req)
		equal(s, id+": removed by a repeat within 24 h", must(s, again, err).Incarnation, 0)
		advance(time.Microsecond)
		if sweep {
			s.swept()
		}
		anew, err := s.Delete(s.Context(), req)
		equal(s, id+": removed after 24 h", must(s, anew, err).Incarnation != 0, true)
		s.offer(s.request(id, "y"))
		again, err = s.Delete(s.Context(), req)
		s.alike(id+": the new answer", must(s, again, err), anew)
	}
}

func o6Refused(s *suite) {
	cancel := &store.SignalRequest{TaskID: "t", Kind: store.Cancel, RequestID: "c"}
	_, err := s.Signal(s.Context(), cancel)
	s.fails("cancel of an absent task", err, store.ErrNotFound)
	e := s.start("t")
	resume := &store.SignalRequest{TaskID: "t", Kind: store.Resume, RequestID: "r"}
	_, err = s.Signal(s.Context(), resume)
	s.conflicts("resume of a running task", err, store.InProgress)
	remove := &store.DeleteRequest{TaskID: "t", RequestID: "d", Version: s.task("t").Version + 1}
	_, err = s.Delete(s.Context(), remove)
	var precondition *store.PreconditionError
	equal(s, "delete of another version is refused", errors.As(err, &precondition), true)

	equal(s, "cancel", s.signal(cancel).Marked, true)
	d, err := s.Delete(s.Context(), remove) // the cancel has made the version
	equal(s, "delete", must(s, d, err).Incarnation, e.Lease.Incarnation)
	s.settle(&store.SettleRequest{Lease: s.start("t").Lease, Kind: store.SettlePark, Reason: "bad"})
	equal(s, "resume", s.signal(resume).Changed, true)
}

func o6Unnamed(s *suite) {
	cancel := &store.SignalRequest{TaskID: "t", Kind: store.Cancel}
	s.settle(ending(s.start("t", multiTurn), store.Completed, store.Suspended))
	for _, in := range []string{"b", "c"} {
		e := s.again("t", in)
		equal(s, "marked", s.signal(cancel).Marked, true)
		s.settle(ending(e, store.Cancelled, store.Suspended))
	}
}
