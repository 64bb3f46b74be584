package storetest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/perdure/perdure/store"
)

func startRules() []rule {
	const s1 = "Start decides in one atomic store operation, by status and input ID."
	return []rule{
		{"S1", "Created", s1, s1Created},
		{"S1", "Resumed", s1, s1Resumed},
		{"S1", "Queued", s1, s1Queued},
		{"S1", "NotSteerable", s1, s1NotSteerable},
		{"S1", "Known", s1, s1Known},
		{"S1", "KnownBeforeAllElse", "A repeat is never refused by IfLastInputID, status or MaxPending.", s1KnownBeforeAllElse},
		{"S1", "KnownMailsAgain", "A repeat of an input that still waits mails the owner again: who accepted it may not have come to that.", s1KnownMailsAgain},
		{"S1", "Ended", s1, s1Ended},
		{"S1", "Attached", "Attach gives the current (else last) turn's handle and adds no input.", s1Attached},
		{"S1", "OtherFunc", "A task of another func is a conflict that names its func.", s1OtherFunc},
		{"S1", "UnknownFunc", "An absent task takes its settings from the caller, else from what workers publish, else ErrUnknownFunc.", s1UnknownFunc},
		{"S1", "Lingering", "A terminal, ephemeral task that still lingers is created again, another incarnation.", s1Lingering},
		{"S1", "Expired", "From ExpiresAt every operation treats a task as absent.", s1Expired},
		{"S2", "Mismatch", "The same input ID with a different input is an error.", s2Mismatch},
		{"S2", "Keys", "The digest is compared under the key it was made with; a missing key is an error, never a mismatch.", s2Keys},
		{"S3", "IfLastInputID", "IfLastInputID is checked inside S1; with no input accepted yet it passes.", s3IfLastInputID},
		{"S4", "Create", "N concurrent starts of one absent ID: exactly one creates.", s4Create},
		{"S4", "Resume", "N concurrent starts on a suspended task: exactly one resumes, the others queue or conflict.", s4Resume},
	}
}

func s1Created(s *suite) {
	req := s.request("t", "a")
	req.Tags, req.Title, req.Description = map[string]string{"k": "v"}, "title", "text"
	req.Session, req.Agent, req.Source = "s", "a", store.Source{Program: "p", Host: "h"}
	o := s.offer(req)
	equal(s, "decision", o.Decision, store.Created)
	equal(s, "status", o.Status, store.Pending)
	equal(s, "turn", o.Turn, 1)
	equal(s, "due", o.Due, true)
	t := s.task("t")
	equal(s, "tag", t.Tags["k"], "v")
	equal(s, "labels", t.Title+t.Description+t.Session+t.Agent, "titletextsa")
	equal(s, "source", t.Source, req.Source)
	equal(s, "settings", t.Settings, *req.Settings)
	s.worker("w1")
	e := s.claimOne("w1")
	equal(s, "entry", e.Task.Turn.Entry, store.EntryFresh)
	equal(s, "input", string(e.Input), `"a"`)
}

func s1Resumed(s *suite) {
	s.suspend(s.start("t", multiTurn))
	req := s.request("t", "b")
	req.Lease = true
	o := s.offer(req)
	equal(s, "decision", o.Decision, store.Resumed)
	equal(s, "turn", o.Turn, 2)
	if o.Entry == nil {
		s.Fatal("no entry")
	}
	equal(s, "entry", o.Entry.Task.Turn.Entry, store.EntryResumed)
	equal(s, "input", string(o.Entry.Input), `"b"`)
	equal(s, "previous", string(o.Entry.Previous), `"t-1"`)
}

func s1Queued(s *suite) {
	s.start("t")
	o := s.offer(s.request("t", "b"))
	equal(s, "decision", o.Decision, store.Queued)
	equal(s, "turn status", o.TurnStatus, store.TurnQueued)
	equal(s, "steered", o.Steered, true)
	s.statusIs("t", store.InProgress)
	s.turnIs("t", 2, store.TurnQueued)
	s.offer(s.request("p", "a"))
	equal(s, "decision on a pending task", s.offer(s.request("p", "b")).Decision, store.Queued)
}

func s1NotSteerable(s *suite) {
	s.start("t", rigid)
	s.conflicts("offer", s.refused(s.request("t", "b")), store.InProgress)
	req := s.request("t", "b")
	req.Attach = true
	o := s.offer(req)
	equal(s, "decision", o.Decision, store.Attached)
	equal(s, "input ID", o.InputID, "t-1")
	equal(s, "last turn", s.task("t").LastTurn, 1)
}

func s1Known(s *suite) {
	e := s.start("t", multiTurn)
	check := func(when string) {
		s.Helper()
		o := s.offer(s.request("t", "t-1"))
		equal(s, when+": decision", o.Decision, store.Known)
		equal(s, when+": turn", o.Turn, 1)
		equal(s, when+": last turn", s.task("t").LastTurn, 1)
	}
	check("in progress")
	s.suspend(e)
	check("suspended")
	s.signal(&store.SignalRequest{TaskID: "t", Kind: store.Terminate})
	check("terminated")
	equal(s, "turn status", s.offer(s.request("t", "t-1")).TurnStatus, store.Completed)
}

func s1KnownBeforeAllElse(s *suite) {
	s.start("t", func(set *store.Settings) { set.MaxPending = 1 })
	s.offer(s.request("t", "b"))
	req := s.request("t", "t-1")
	req.IfLastInputID, req.Deliver = "nothing", store.DeliverReject
	equal(s, "decision", s.offer(req).Decision, store.Known)
}

func s1KnownMailsAgain(s *suite) {
	e := s.start("t", multiTurn)
	req := s.request("t", "b")
	req.Worker = "other"
	s.offer(req)
	quiet := s.request("t", "c")
	quiet.Worker, quiet.Deliver = "other", store.DeliverEnqueue
	s.offer(quiet)
	equal(s, "mail of the first tries", s.mailOf("w1"), "steered queue ")
	o := s.offer(req)
	equal(s, "decision", o.Decision, store.Known)
	equal(s, "steered", o.Steered, true)
	equal(s, "mail after a repeat", s.mailOf("w1"), "steered queue steered ")
	equal(s, "steered by an input that interrupts nothing", s.offer(quiet).Steered, false)
	equal(s, "mail after its repeat", s.mailOf("w1"), "steered queue steered ")
	s.suspend(e)
	e = s.claimOne("w1")
	equal(s, "steered by an input that has come", s.offer(req).Steered, false)
	equal(s, "mail after that", s.mailOf("w1"), "steered queue steered ")
	s.suspend(e)
}

func s1Ended(s *suite) {
	s.complete(s.start("t"))
	s.conflicts("offer to a completed task", s.refused(s.request("t", "b")), store.Completed)
	e := s.start("p")
	s.settle(&store.SettleRequest{Lease: e.Lease, Kind: store.SettlePark, Reason: "bad"})
	s.conflicts("offer to a parked task", s.refused(s.request("p", "b")), store.Parked)
}

func s1Attached(s *suite) {
	s.suspend(s.start("t", multiTurn))
	req := s.request("t", "b")
	req.Attach = true
	o := s.offer(req)
	equal(s, "decision", o.Decision, store.Attached)
	equal(s, "turn", o.Turn, 1)
	equal(s, "turn status", o.TurnStatus, store.Completed)
	s.statusIs("t", store.Suspended)
}

func s1OtherFunc(s *suite) {
	s.start("t")
	req := s.request("t", "t-1")
	req.Func = "g"
	equal(s, "func", s.conflicts("offer", s.refused(req), store.InProgress).Func, "f")
}

func s1UnknownFunc(s *suite) {
	req := s.request("t", "a")
	req.Settings = nil
	s.fails("offer", s.refused(req), store.ErrUnknownFunc)
	published := store.PublishedFunc{Name: "f", Settings: store.Settings{MaxPending: 7}}
	_, err := s.Heartbeat(s.Context(), &store.HeartbeatRequest{
		Worker: "w1", First: true, Lease: leaseTime, Funcs: []store.PublishedFunc{published},
	})
	must(s, 0, err)
	s.offer(req)
	equal(s, "settings", s.task("t").Settings, published.Settings)
}

func ephemeral(set *store.Settings) { set.Ephemeral, set.Keep = true, 10*time.Second }

func s1Lingering(s *suite) {
	e := s.start("t", ephemeral)
	s.complete(e)
	equal(s, "decision on the known input", s.offer(s.request("t", "t-1")).Decision, store.Known)
	o := s.offer(s.request("t", "b"))
	equal(s, "decision", o.Decision, store.Created)
	if o.Incarnation <= e.Lease.Incarnation {
		s.Errorf("incarnation %d is not higher than %d", o.Incarnation, e.Lease.Incarnation)
	}
	_, err := s.Turn(s.Context(), store.TurnQuery{TaskID: "t", Incarnation: e.Lease.Incarnation})
	s.fails("turn of the old incarnation", err, store.ErrDeleted)
}

func s1Expired(s *suite) {
	e := s.start("t", func(set *store.Settings) { set.Keep = time.Minute })
	s.complete(e)
	advance(time.Minute - time.Microsecond)
	s.statusIs("t", store.Completed)
	advance(time.Microsecond)
	_, err := s.Get(s.Context(), "t")
	s.fails("get", err, store.ErrNotFound)
	_, err = s.Turn(s.Context(), store.TurnQuery{TaskID: "t", Incarnation: e.Lease.Incarnation})
	s.fails("turn", err, store.ErrDeleted)
	_, err = s.Signal(s.Context(), &store.SignalRequest{TaskID: "t", Kind: store.Cancel})
	s.fails("signal", err, store.ErrNotFound)
	equal(s, "decision", s.offer(s.request("t", "t-1")).Decision, store.Created)
}

func s2Mismatch(s *suite) {
	s.start("t")
	req := s.request("t", "t-1")
	req.Digests = []store.Digest{{Sum: "another"}}
	s.fails("offer", s.refused(req), store.ErrInputMismatch)
	equal(s, "last turn", s.task("t").LastTurn, 1)
}

func s2Keys(s *suite) {
	req := s.request("t", "a")
	req.Digests = []store.Digest{{Key: "k2", Sum: "new"}, {Key: "k1", Sum: "old"}}
	s.offer(req)
	req.Digests = []store.Digest{{Key: "k3", Sum: "newest"}, {Key: "k2", Sum: "new"}}
	equal(s, "decision", s.offer(req).Decision, store.Known)
	req.Digests = []store.Digest{{Key: "k1", Sum: "old"}}
	s.fails("offer without the key", s.refused(req), store.ErrDigestKey)
	req.Digests = []store.Digest{{Key: "k2", Sum: "other"}}
	s.fails("offer of another input", s.refused(req), store.ErrInputMismatch)
}

func s3IfLastInputID(s *suite) {
	req := s.request("t", "a")
	req.IfLastInputID = "anything"
	equal(s, "decision on an absent task", s.offer(req).Decision, store.Created)
	req = s.request("t", "b")
	req.IfLastInputID = "other"
	var precondition *store.PreconditionError
	if err := s.refused(req); !errors.As(err, &precondition) {
		s.Fatalf("got error %v, want a precondition error", err)
	}
	equal(s, "actual", precondition.Actual, "a")
	req.IfLastInputID = "a"
	equal(s, "decision", s.offer(req).Decision, store.Queued)
}

// together makes n offers at once and counts their decisions; a conflict counts under its text.
func (s *suite) together(n int, task string, change func(*store.OfferRequest)) map[store.Decision]int {
	counts := map[store.Decision]int{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for i := range n {
		req := s.request(task, task+"-many-"+string(rune('a'+i)))
		change(req)
		all.Go(func() {
			o, err := s.Offer(context.Background(), req)
			mu.Lock()
			defer mu.Unlock()
			var conflict *store.ConflictError
			switch {
			case err == nil:
				counts[o.Decision]++
			case errors.As(err, &conflict):
				counts["conflict"]++
			default:
				s.Error(err)
			}
		})
	}
	all.Wait()
	return counts
}

func s4Create(s *suite) {
	s.worker("w1")
	counts := s.together(10, "t", func(req *store.OfferRequest) { req.Lease, req.Settings.MaxPending = true, 100 })
	equal(s, "created", counts[store.Created], 1)
	equal(s, "queued", counts[store.Queued], 9)
	equal(s, "epoch", s.task("t").Epoch, 1)
	counts = s.together(10, "r", func(req *store.OfferRequest) { req.Settings.Steerable = false })
	equal(s, "created", counts[store.Created], 1)
	equal(s, "conflicts", counts["conflict"], 9)
}

func s4Resume(s *suite) {
	s.suspend(s.start("t", multiTurn, rigid))
	counts := s.together(10, "t", func(req *store.OfferRequest) { req.Lease = true })
	equal(s, "resumed", counts[store.Resumed], 1)
	equal(s, "conflicts", counts["conflict"], 9)
}
