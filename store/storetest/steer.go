package storetest

import (
	"fmt"
	"time"

	"github.com/perdure/perdure/store"
)

func steerRules() []rule {
	const policies = "The delivery policy of an input says how it reaches a task whose turn is running."
	return []rule{
		{"G1", "Order", "First in, first out; each queued input gets its own turn.", g1Order},
		{"G2", "QueueFull", "Queue limit MaxPending: the next is ErrQueueFull and leaves no trace.", g2QueueFull},
		{"G3", "CancelQueued", "A queued input can be cancelled by its own handle; the running turn does not notice.", g3CancelQueued},
		{"G4", "SurvivesCrash", "The queue survives crashes: no accepted input is lost.", g4SurvivesCrash},
		{"G5", "Interrupt", policies, g5Interrupt},
		{"G5", "Enqueue", "enqueue sets no cause.", g5Enqueue},
		{"G5", "Reject", policies, g5Reject},
		{"G5", "Replace", "replace drops all queued inputs except the running turn; MaxPending is checked after the drop.", g5Replace},
		{"G6", "Steered", "Steered is true exactly for turns taken from the queue; Previous is the input of the turn before.", g6Steered},
	}
}

func (s *suite) queue(task string, inputs ...string) {
	s.Helper()
	for _, in := range inputs {
		equal(s, "decision on "+in, s.offer(s.request(task, in)).Decision, store.Queued)
	}
}

func g1Order(s *suite) {
	e := s.start("t", multiTurn)
	s.queue("t", "b", "c", "d")
	for i, want := range []string{"b", "c", "d"} {
		req := ending(e, store.Completed, store.Suspended)
		req.KeepLease, req.Request = true, int64(100+i)
		if e = s.settle(req).Entry; e == nil {
			s.Fatalf("no entry for %s", want)
		}
		equal(s, "input", e.Task.Turn.InputID, want)
		equal(s, "left in the queue", e.Task.Queued, 2-i)
		equal(s, "nudging", e.Task.Nudging, 2-i)
	}
	s.suspend(e)
	for n := range int64(4) {
		s.turnIs("t", n+1, store.Completed)
	}
}

func g2QueueFull(s *suite) {
	s.start("t")
	s.queue("t", "b", "c", "d")
	before := s.task("t")
	s.fails("offer", s.refused(s.request("t", "e")), store.ErrQueueFull)
	equal(s, "version", s.task("t").Version, before.Version)
	_, err := s.Turn(s.Context(), store.TurnQuery{TaskID: "t", InputID: "e"})
	s.fails("turn", err, store.ErrNotFound)
}

func g3CancelQueued(s *suite) {
	e := s.start("t", multiTurn)
	s.queue("t", "b", "c")
	d := s.signal(&store.SignalRequest{TaskID: "t", Kind: store.Cancel, InputID: "b", Reason: "no"})
	equal(s, "ended", fmt.Sprint(d.Ended), "[2]")
	s.turnIs("t", 2, store.Cancelled)
	equal(s, "marked", s.task("t").Turn.Cancel, false)
	s.suspend(e)
	equal(s, "next input", s.claimOne("w1").Task.Turn.InputID, "c")
}

func g4SurvivesCrash(s *suite) {
	s.start("t")
	s.queue("t", "b")
	s.crash("w2")
	e := s.claimOne("w2")
	equal(s, "input", e.Task.Turn.InputID, "t-1")
	equal(s, "queued", e.Task.Queued, 1)
	s.complete(e)
	equal(s, "input", s.claimOne("w2").Task.Turn.InputID, "b")
}

// mailOf returns the kinds of mail of w1.
func (s *suite) mailOf(worker string) string {
	s.Helper()
	kinds := ""
	for _, m := range s.mail(worker) {
		kinds += string(m.Kind) + " "
	}
	return kinds
}

func g5Interrupt(s *suite) {
	e := s.start("t")
	req := s.request("t", "b")
	req.Worker = "other"
	s.offer(req)
	mail := s.mail("w1")
	if len(mail) != 1 {
		s.Fatalf("got %d pieces of mail, want 1", len(mail))
	}
	equal(s, "kind", mail[0].Kind, store.MailSteered)
	equal(s, "epoch", mail[0].Epoch, e.Lease.Epoch)
	equal(s, "incarnation", mail[0].Incarnation, e.Lease.Incarnation)
	equal(s, "nudging", s.task("t").Nudging, 1)
	s.offer(s.request("t", "c"))
	equal(s, "mail of a worker that offered itself", s.mailOf("w1"), "steered ")
}

func g5Enqueue(s *suite) {
	s.start("t")
	req := s.request("t", "b")
	req.Deliver, req.Worker = store.DeliverEnqueue, "other"
	o := s.offer(req)
	equal(s, "decision", o.Decision, store.Queued)
	equal(s, "steered", o.Steered, false)
	equal(s, "nudging", s.task("t").Nudging, 0)
	equal(s, "mail", s.mailOf("w1"), "queue ")
}

func g5Reject(s *suite) {
	e := s.start("t", multiTurn)
	req := s.request("t", "b")
	req.Deliver = store.DeliverReject
	s.conflicts("offer", s.refused(req), store.InProgress)
	s.suspend(e)
	equal(s, "decision on a suspended task", s.offer(req).Decision, store.Resumed)
}

func g5Replace(s *suite) {
	s.start("t")
	s.queue("t", "b", "c", "d")
	req := s.request("t", "e")
	req.Deliver = store.DeliverReplace
	o := s.offer(req)
	equal(s, "replaced", fmt.Sprint(o.Replaced), "[2 3 4]")
	s.turnIs("t", 2, store.Refused)
	s.turnIs("t", 4, store.Refused)
	s.turnIs("t", 5, store.TurnQueued)
	equal(s, "queued", s.task("t").Queued, 1)
	s.turnIs("t", 1, store.InProgress)
}

func g6Steered(s *suite) {
	e := s.start("t", multiTurn)
	s.queue("t", "b", "c")
	s.signal(&store.SignalRequest{TaskID: "t", Kind: store.Cancel, InputID: "b"})
	s.suspend(e)
	advance(time.Second)
	e = s.claimOne("w1")
	equal(s, "steered", e.Task.Turn.Steered, true)
	equal(s, "entry", e.Task.Turn.Entry, store.EntryResumed)
	equal(s, "previous", string(e.Previous), `"t-1"`)
	s.suspend(e)
	equal(s, "steered", s.turn("t", 3).Steered, true)
	equal(s, "steered", s.turn("t", 1).Steered, false)
}
