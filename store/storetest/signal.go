package storetest

import (
	"errors"
	"fmt"

	"github.com/perdure/perdure/store"
)

func signalRules() []rule {
	const c7 = "Cancel ends a suspended or parked task; terminate ends any that has not ended; both are no-ops on one that has."
	return []rule{
		{"C3", "Marks", "Cancel of a running turn is durable, reaches the owner and survives a crash.", c3Marks},
		{"C3", "PendingEnds", "What has not been entered ends cancelled at once, without a handler.", c3PendingEnds},
		{"C3", "Task", "Cancel of a task means its current turn and all that is queued now.", c3Task},
		{"C3", "Again", "A cancel of a task that is marked already ends what was queued since, and tells the owner.", c3Again},
		{"C3", "OldTurn", "A handle cancels its own turn only.", c3OldTurn},
		{"C4", "Terminate", "Terminate is forced: the status is written at once, the queue is refused, late writes are discarded.", c4Terminate},
		{"C6", "Delete", "Delete removes task, turns and events and tells the owner; deleting again is a no-op.", c6Delete},
		{"C6", "DeleteVersion", "Delete with a version removes that version only.", c6DeleteVersion},
		{"C7", "Suspended", c7, c7Suspended},
		{"C7", "Parked", c7, c7Parked},
		{"C7", "Ended", c7, c7Ended},
		{"C7", "Absent", "A signal to an absent task is ErrNotFound, to another incarnation ErrDeleted.", c7Absent},
		{"Mail", "Order", "Mail comes in order, again and again until it is seen, and each piece is forgotten alone.", mailOrder},
		{"R2", "Poll", "A poll tells whether a claim would find something: a due task, a suspect, a dead worker's.", r2Poll},
	}
}

func c3Marks(s *suite) {
	e := s.start("t")
	cancel := &store.SignalRequest{TaskID: "t", Kind: store.Cancel, Reason: "enough"}
	d := s.signal(cancel)
	equal(s, "marked", d.Marked, true)
	equal(s, "changed", d.Changed, true)
	equal(s, "status", d.Status, store.InProgress)
	equal(s, "changed again", s.signal(cancel).Changed, false)
	mail := s.mail("w1")
	if len(mail) != 1 || mail[0].Kind != store.MailCancel || mail[0].Reason != "enough" || mail[0].Epoch != e.Lease.Epoch {
		s.Errorf("got mail %+v", mail)
	}
	s.crash("w2")
	e = s.claimOne("w2")
	equal(s, "cancel at entry", e.Task.Turn.Cancel, true)
	equal(s, "reason at entry", e.Task.Turn.CancelReason, "enough")
}

func c3PendingEnds(s *suite) {
	s.offer(s.request("t", "a"))
	d := s.signal(&store.SignalRequest{TaskID: "t", Kind: store.Cancel})
	equal(s, "status", d.Status, store.Cancelled)
	equal(s, "ended", fmt.Sprint(d.Ended), "[1]")
	s.worker("w1")
	s.claimNone("w1")
	s.turnIs("t", 1, store.Cancelled)
}

func c3Task(s *suite) {
	s.start("t", multiTurn)
	s.queue("t", "b", "c")
	d := s.signal(&store.SignalRequest{TaskID: "t", Kind: store.Cancel})
	equal(s, "ended", fmt.Sprint(d.Ended), "[2 3]")
	equal(s, "marked", d.Marked, true)
	s.turnIs("t", 2, store.Cancelled)
	equal(s, "queued", s.task("t").Queued, 0)
}

func c3Again(s *suite) {
	s.start("t")
	cancel := &store.SignalRequest{TaskID: "t", Kind: store.Cancel, Worker: "other"}
	s.signal(cancel)
	s.queue("t", "b")
	d := s.signal(cancel)
	equal(s, "ended", fmt.Sprint(d.Ended), "[2]")
	equal(s, "marked", d.Marked, true)
	equal(s, "changed", d.Changed, true)
	s.signal(cancel) // which changes nothing, and is no news
	mail := s.mail("w1")
	if len(mail) != 2 || mail[0].Kind != store.MailCancel || mail[1].Kind != store.MailQueue {
		s.Fatalf("got mail %+v, want of the cancel and of the queue", mail)
	}
	equal(s, "behind the turn", mail[1].Behind, 0)
	equal(s, "version", mail[1].Version, s.task("t").Version)
}

func c3OldTurn(s *suite) {
	s.suspend(s.start("t", multiTurn))
	s.offer(s.request("t", "b"))
	d := s.signal(&store.SignalRequest{TaskID: "t", Kind: store.Cancel, InputID: "t-1"})
	equal(s, "changed", d.Changed, false)
	s.statusIs("t", store.Pending)
	_, err := s.Signal(s.Context(), &store.SignalRequest{TaskID: "t", Kind: store.Cancel, InputID: "never"})
	s.fails("cancel of an unknown input", err, store.ErrNotFound)
}

func c4Terminate(s *suite) {
	e := s.start("t", multiTurn)
	s.queue("t", "b")
	d := s.signal(&store.SignalRequest{TaskID: "t", Kind: store.Terminate, Reason: "stop"})
	equal(s, "status", d.Status, store.Terminated)
	equal(s, "ended", fmt.Sprint(d.Ended), "[1 2]")
	s.turnIs("t", 1, store.Terminated)
	s.turnIs("t", 2, store.Refused)
	equal(s, "mail", s.mailOf("w1"), "terminated ")
	_, err := s.Settle(s.Context(), ending(e, store.Completed, store.Completed))
	s.fails("settle", err, store.ErrLeaseLost)
	_, err = s.Checkpoint(s.Context(), &store.CheckpointRequest{Lease: e.Lease, Number: 1})
	s.fails("checkpoint", err, store.ErrLeaseLost)
	s.crash("w2")
	s.claimNone("w2")
}

func c6Delete(s *suite) {
	e := s.start("t")
	s.checkpoint(e, 1, true, "x")
	equal(s, "removed", s.delete("t").Incarnation, e.Lease.Incarnation)
	equal(s, "removed again", s.delete("t").Incarnation, 0)
	_, err := s.Get(s.Context(), "t")
	s.fails("get", err, store.ErrNotFound)
	_, err = s.Events(s.Context(), store.EventsQuery{TaskID: "t", Incarnation: e.Lease.Incarnation, Limit: 10})
	s.fails("events", err, store.ErrDeleted)
	equal(s, "mail", s.mailOf("w1"), "deleted ")
	_, err = s.Checkpoint(s.Context(), &store.CheckpointRequest{Lease: e.Lease, Number: 2})
	s.fails("checkpoint", err, store.ErrLeaseLost)
	s.start("t")
	equal(s, "events of the new task", len(s.events("t", 0).Events), 0)
}

func c6DeleteVersion(s *suite) {
	s.start("t")
	version := s.task("t").Version
	var precondition *store.PreconditionError
	_, err := s.Delete(s.Context(), &store.DeleteRequest{TaskID: "t", Version: version + 1})
	if !errors.As(err, &precondition) {
		s.Fatalf("got error %v, want a precondition error", err)
	}
	equal(s, "actual", precondition.Actual, fmt.Sprint(version))
	d, err := s.Delete(s.Context(), &store.DeleteRequest{TaskID: "t", Version: version})
	equal(s, "removed", must(s, d, err).Incarnation > 0, true)
}

func c7Suspended(s *suite) {
	s.suspend(s.start("t", multiTurn))
	equal(s, "cancel", s.signal(&store.SignalRequest{TaskID: "t", Kind: store.Cancel}).Status, store.Cancelled)
	s.turnIs("t", 1, store.Completed)
	s.suspend(s.start("u", multiTurn))
	equal(s, "terminate", s.signal(&store.SignalRequest{TaskID: "u", Kind: store.Terminate}).Status, store.Terminated)
	s.turnIs("u", 1, store.Completed)
}

func c7Parked(s *suite) {
	for id, want := range map[string]store.Status{"t": store.Cancelled, "u": store.Terminated} {
		s.settle(&store.SettleRequest{Lease: s.start(id).Lease, Kind: store.SettlePark})
		kind := store.Cancel
		if want == store.Terminated {
			kind = store.Terminate
		}
		equal(s, string(kind), s.signal(&store.SignalRequest{TaskID: id, Kind: kind}).Status, want)
		s.turnIs(id, 1, want)
	}
}

func c7Ended(s *suite) {
	s.complete(s.start("t"))
	before := s.task("t").Version
	for _, kind := range []store.SignalKind{store.Cancel, store.Terminate} {
		d := s.signal(&store.SignalRequest{TaskID: "t", Kind: kind})
		equal(s, string(kind)+": status", d.Status, store.Completed)
		equal(s, string(kind)+": changed", d.Changed, false)
	}
	equal(s, "version", s.task("t").Version, before)
}

func c7Absent(s *suite) {
	_, err := s.Signal(s.Context(), &store.SignalRequest{TaskID: "t", Kind: store.Cancel})
	s.fails("cancel", err, store.ErrNotFound)
	e := s.start("t")
	_, err = s.Signal(s.Context(), &store.SignalRequest{TaskID: "t", Kind: store.Cancel, Incarnation: e.Lease.Incarnation + 1})
	s.fails("cancel of another incarnation", err, store.ErrDeleted)
}

func mailOrder(s *suite) {
	s.start("t", func(set *store.Settings) { set.MaxPending = 10 })
	for _, in := range []string{"b", "c", "d"} {
		req := s.request("t", in)
		req.Worker = ""
		s.offer(req)
	}
	all := s.mail("w1")
	if len(all) != 3 || all[0].Seq >= all[1].Seq || all[1].Seq >= all[2].Seq {
		s.Fatalf("got mail %+v", all)
	}
	equal(s, "read again", len(s.mail("w1")), 3)
	equal(s, "of another worker", len(s.mail("w2", all[0].Seq)), 0)
	rest := s.mail("w1", all[1].Seq)
	if len(rest) != 2 || rest[0].Seq != all[0].Seq || rest[1].Seq != all[2].Seq {
		s.Fatalf("got mail %+v, want what was not seen, whatever its number", rest)
	}
	equal(s, "left", len(s.mail("w1", all[0].Seq, all[2].Seq)), 0)
}
