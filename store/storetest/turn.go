package storetest

import (
	"fmt"
	"time"

	"github.com/perdure/perdure/store"
)

func turnRules() []rule {
	const t4 = "What is still queued when a task ends is refused with the reason; nothing accepted is dropped."
	return []rule{
		{"T1", "Promotion", "The end of a turn and the beginning of the next queued one are a single write.", t1Promotion},
		{"T1", "KeepLease", "The next turn is leased to the same worker in the same write.", t1KeepLease},
		{"T2", "Stored", "Outcomes are stored: the caller of any turn can ask for it later.", t2Stored},
		{"T4", "QueueRefused", t4, t4QueueRefused},
		{"T4", "PromotedNotDropped", "With inputs still queued the next is promoted instead of the task's end.", t4PromotedNotDropped},
		{"T5", "MultiTurn", "A multi-turn func's return suspends the task for the next input.", t5MultiTurn},
		{"T5", "FailedTurn", "An error fails the turn, and the task goes on.", t5FailedTurn},
		{"Y2", "DelayStored", "Attempt number and next-attempt time are stored; a back-off holds no lease.", y2DelayStored},
		{"Y2", "SteerEndsDelay", "A steer ends the wait early; enqueue does not.", y2SteerEndsDelay},
		{"Y2", "StrictDelay", "A steer does not end the delay of RetryAfter.", y2StrictDelay},
		{"Y2", "CancelEndsDelay", "Cancel ends a turn in back-off as cancelled, at once.", y2CancelEndsDelay},
		{"Y2", "CancelledBeforeRetry", "A turn that was asked to cancel is not retried.", y2CancelledBeforeRetry},
		{"Y3", "ErrorStored", "The error is the same stored as returned.", y3ErrorStored},
		{"C5", "DeadlineInBackoff", "A back-off past its deadline is ended by any worker's sweep.", c5DeadlineInBackoff},
		{"C5", "Overdue", "A recovered turn past its deadline is entered once; a later re-entry is terminated.", c5Overdue},
		{"KeepTurns", "Pruned", "With KeepTurns only the last turns are kept, and older input IDs are forgotten.", keepTurnsPruned},
	}
}

func t1Promotion(s *suite) {
	e := s.start("t", multiTurn)
	s.queue("t", "b")
	d := s.suspend(e)
	equal(s, "status", d.Status, store.Pending)
	equal(s, "due", d.Due, true)
	equal(s, "superseded", d.Ended.Superseded, true)
	t := s.task("t")
	equal(s, "current turn", t.Turn.Number, 2)
	equal(s, "queued", t.Queued, 0)
	s.turnIs("t", 1, store.Completed)
	s.turnIs("t", 2, store.Pending)
}

func t1KeepLease(s *suite) {
	e := s.start("t")
	s.queue("t", "b")
	req := ending(e, store.Completed, store.Completed)
	req.KeepLease, req.Request = true, 50
	next := s.settle(req).Entry
	if next == nil {
		s.Fatal("no entry")
	}
	equal(s, "epoch", next.Lease.Epoch, e.Lease.Epoch+1)
	equal(s, "worker", next.Lease.Worker, "w1")
	equal(s, "input", string(next.Input), `"b"`)
	equal(s, "previous", string(next.Previous), `"t-1"`)
	s.statusIs("t", store.InProgress)
}

func t2Stored(s *suite) {
	e := s.start("t")
	advance(time.Second)
	d := s.complete(e)
	for what, q := range map[string]store.TurnQuery{
		"number": {TaskID: "t", Number: 1}, "input ID": {TaskID: "t", InputID: "t-1"}, "last": {TaskID: "t"},
	} {
		light, err := s.Turn(s.Context(), q)
		equal(s, what+": payload that was not asked for", string(must(s, light, err).Input)+string(light.Output), "")
		q.Output = true
		turn, err := s.Turn(s.Context(), q)
		must(s, 0, err)
		equal(s, what+": output", string(turn.Output), `"out"`)
		equal(s, what+": status", turn.Status, store.Completed)
		equal(s, what+": task status", turn.TaskStatus, store.Completed)
		equal(s, what+": input that was not asked for", len(turn.Input), 0)
		equal(s, what+": ended at", turn.EndedAt, d.Ended.EndedAt)
	}
	equal(s, "ran for", d.Ended.EndedAt.Sub(d.Ended.StartedAt), time.Second)
}

func t4QueueRefused(s *suite) {
	e := s.start("t")
	s.queue("t", "b", "c")
	req := ending(e, store.Failed, store.Failed)
	req.Refuse = true
	d := s.settle(req)
	equal(s, "refused", fmt.Sprint(d.Refused), "[2 3]")
	s.statusIs("t", store.Failed)
	s.turnIs("t", 2, store.Refused)
	s.turnIs("t", 3, store.Refused)
	if s.turn("t", 2).Reason == "" {
		s.Error("no reason")
	}
}

func t4PromotedNotDropped(s *suite) {
	e := s.start("t")
	s.queue("t", "b")
	equal(s, "status", s.complete(e).Status, store.Pending)
	e = s.claimOne("w1")
	equal(s, "input", e.Task.Turn.InputID, "b")
	equal(s, "status", s.complete(e).Status, store.Completed)
}

func t5MultiTurn(s *suite) {
	d := s.suspend(s.start("t", multiTurn))
	equal(s, "status", d.Status, store.Suspended)
	equal(s, "due", d.Due, false)
	s.claimNone("w1")
	s.turnIs("t", 1, store.Completed)
	equal(s, "ended at", s.task("t").EndedAt, time.Time{})
}

func t5FailedTurn(s *suite) {
	d := s.settle(ending(s.start("t", multiTurn), store.Failed, store.Suspended))
	equal(s, "status", d.Status, store.Suspended)
	s.turnIs("t", 1, store.Failed)
}

func retry(e *store.Entry, delay time.Duration, strict bool) *store.SettleRequest {
	return &store.SettleRequest{
		Lease: e.Lease, Kind: store.SettleRetry, Delay: delay, Strict: strict, Error: &store.TaskError{Type: "T", Message: "again"},
	}
}

func y2DelayStored(s *suite) {
	e := s.start("t")
	d := s.settle(retry(e, 10*time.Second, false))
	equal(s, "status", d.Status, store.Pending)
	t := s.task("t")
	equal(s, "attempt", t.Turn.Attempt, 2)
	equal(s, "worker", t.Worker, "")
	advance(10*time.Second - time.Microsecond)
	s.claimNone("w1")
	advance(time.Microsecond)
	e = s.claimOne("w1")
	equal(s, "entry", e.Task.Turn.Entry, store.EntryFresh)
	equal(s, "error", e.Task.Turn.Error.Message, "again")
}

func y2SteerEndsDelay(s *suite) {
	s.settle(retry(s.start("t"), time.Hour, false))
	req := s.request("t", "b")
	req.Deliver = store.DeliverEnqueue
	s.offer(req)
	s.claimNone("w1")
	equal(s, "due", s.offer(s.request("t", "c")).Due, true)
	e := s.claimOne("w1")
	equal(s, "input", e.Task.Turn.InputID, "t-1")
	equal(s, "nudging", e.Task.Nudging, 1)
	s.settle(retry(e, time.Hour, false))
	s.claimOne("w1")
}

func y2StrictDelay(s *suite) {
	s.settle(retry(s.start("t"), 10*time.Second, true))
	s.queue("t", "b")
	s.claimNone("w1")
	advance(10 * time.Second)
	s.claimOne("w1")
}

func y2CancelEndsDelay(s *suite) {
	s.settle(retry(s.start("t"), time.Hour, false))
	d := s.signal(&store.SignalRequest{TaskID: "t", Kind: store.Cancel, Reason: "enough"})
	equal(s, "status", d.Status, store.Cancelled)
	turn := s.turn("t", 1)
	equal(s, "turn", turn.Status, store.Cancelled)
	equal(s, "reason", turn.Reason, "enough")
}

func y2CancelledBeforeRetry(s *suite) {
	e := s.start("t")
	s.signal(&store.SignalRequest{TaskID: "t", Kind: store.Cancel})
	equal(s, "status", s.settle(retry(e, time.Second, false)).Status, store.Cancelled)
	s.turnIs("t", 1, store.Cancelled)
}

func y3ErrorStored(s *suite) {
	req := ending(s.start("t"), store.Failed, store.Failed)
	req.Error = &store.TaskError{Type: "T", Message: "broken", Attempts: 3, Stack: "a\nb"}
	s.settle(req)
	equal(s, "error", *s.turn("t", 1).Error, *req.Error)
}

func timed(set *store.Settings) { set.Timeout, set.TimeoutGrace = 20*time.Second, time.Second }

func c5DeadlineInBackoff(s *suite) {
	s.settle(retry(s.start("t", timed), time.Hour, false))
	advance(20*time.Second - time.Microsecond)
	swept, err := s.Sweep(s.Context(), 10)
	equal(s, "ended before the deadline", must(s, swept, err).Ended, 0)
	advance(time.Microsecond)
	swept, err = s.Sweep(s.Context(), 10)
	equal(s, "ended", must(s, swept, err).Ended, 1)
	s.statusIs("t", store.Terminated)
	turn := s.turn("t", 1)
	equal(s, "turn", turn.Status, store.Terminated)
	equal(s, "reason", turn.Reason, "deadline")
	equal(s, "error", turn.Error.Message, "again")
}

func c5Overdue(s *suite) {
	s.start("t", timed)
	advance(leaseTime)
	s.crash("w2")
	e := s.claimOne("w2")
	equal(s, "overdue", e.Task.Turn.Overdue, true)
	s.crash("w3")
	s.claimNone("w3")
	s.statusIs("t", store.Terminated)
}

func keepTurnsPruned(s *suite) {
	e := s.start("t", multiTurn, func(set *store.Settings) { set.KeepTurns = 2 })
	for _, in := range []string{"b", "c", "d"} {
		s.suspend(e)
		req := s.request("t", in)
		req.Lease = true
		e = s.offer(req).Entry
	}
	s.suspend(e)
	turns, err := s.Turns(s.Context(), store.TurnsQuery{TaskID: "t", Limit: 10})
	must(s, 0, err)
	if got := turns.Turns; len(got) != 2 || got[0].InputID != "c" || got[1].InputID != "d" {
		s.Fatalf("got %d turns, want c and d", len(got))
	}
	equal(s, "decision on a forgotten input", s.offer(s.request("t", "t-1")).Decision, store.Resumed)
}
