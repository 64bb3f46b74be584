// Package storetest holds stores to the rules of the model: a suite with one function for each rule, random
// operations compared with memstore, a check of concurrent histories, and a store that fails on demand.
package storetest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/store"
)

// Run runs the conformance suite: one subtest for each rule, each on a store of its own and in virtual
// time. open is called inside a synctest bubble; the store it returns must live in it, and be empty.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for _, r := range slices.Concat(startRules(), steerRules(), leaseRules(), recoverRules(), turnRules(),
		signalRules(), eventRules(), readRules(), pageRules(), lineRules(), onceRules(), unrunRules(), unparkRules(), stoppedRules(),
		sweepRules(), textRules(), refuseRules()) {
		t.Run(r.id+"/"+r.name, func(t *testing.T) {
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("rule %s: %s", r.id, r.sentence)
				}
			})
			bubble.Test(t, func(t *testing.T) { r.test(&suite{T: t, Store: open(t)}) })
		})
	}
}

// rule is one thing that every store must do.
type rule struct {
	id, name, sentence string
	test               func(*suite)
}

// suite is a store under test, with helpers that fail the test.
type suite struct {
	*testing.T
	store.Store
	requests int64
}

// advance lets virtual time pass.
func advance(d time.Duration) { <-time.After(d) }

const leaseTime = 15 * time.Second

func equal[T comparable](s *suite, what string, got, want T) {
	s.Helper()
	if got != want {
		s.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func (s *suite) fails(what string, err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Errorf("%s: got error %v, want %v", what, err, want)
	}
}

// conflicts checks for a *ConflictError with a status.
func (s *suite) conflicts(what string, err error, status store.Status) *store.ConflictError {
	s.Helper()
	var conflict *store.ConflictError
	if !errors.As(err, &conflict) {
		s.Fatalf("%s: got error %v, want a conflict", what, err)
	}
	equal(s, what+": status", conflict.Status, status)
	return conflict
}

func must[T any](s *suite, v T, err error) T {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
	return v
}

// request returns an offer of a steerable func, to be changed by the caller.
func (s *suite) request(task, input string) *store.OfferRequest {
	s.requests++
	return &store.OfferRequest{
		TaskID: task, Func: "f", InputID: input, Input: []byte(`"` + input + `"`), Request: s.requests, Worker: "w1",
		Digests:  []store.Digest{{Sum: "digest of " + input}},
		Settings: &store.Settings{Steerable: true, MaxPending: 3, MaxRecoveries: 3},
	}
}

func (s *suite) offer(req *store.OfferRequest) *store.Offered {
	s.Helper()
	o, err := s.Offer(s.Context(), req)
	return must(s, o, err)
}

func (s *suite) refused(req *store.OfferRequest) error {
	s.Helper()
	o, err := s.Offer(s.Context(), req)
	if err == nil {
		s.Fatalf("Offer %s: got decision %s, want an error", req.InputID, o.Decision)
	}
	return err
}

// start offers a task's first input, leased to w1.
func (s *suite) start(task string, change ...func(*store.Settings)) *store.Entry {
	s.Helper()
	req := s.request(task, task+"-1")
	req.Lease = true
	for _, f := range change {
		f(req.Settings)
	}
	s.worker("w1")
	e := s.offer(req).Entry
	if e == nil {
		s.Fatal("Offer with Lease gave no entry")
	}
	return e
}

func multiTurn(set *store.Settings) { set.MultiTurn = true }
func rigid(set *store.Settings)     { set.Steerable = false }

// worker registers a worker.
func (s *suite) worker(id string) {
	s.Helper()
	must(s, struct{}{}, s.beat(id, true))
}

func (s *suite) beat(id string, first bool) error {
	_, err := s.Heartbeat(s.Context(), &store.HeartbeatRequest{Worker: id, First: first, Lease: leaseTime})
	return err
}

// serve registers a worker that is there for an hour and runs the given funcs.
func (s *suite) serve(id string, funcs ...string) {
	s.Helper()
	req := &store.HeartbeatRequest{Worker: id, First: true, Lease: time.Hour}
	for _, name := range funcs {
		req.Funcs = append(req.Funcs, store.PublishedFunc{Name: name})
	}
	_, err := s.Heartbeat(s.Context(), req)
	must(s, 0, err)
}

func (s *suite) claimRequest(worker string) *store.ClaimRequest {
	s.requests++
	return &store.ClaimRequest{
		Worker: worker, Request: s.requests, Limit: 10, Suspect: true, Funcs: []store.ClaimFunc{{Name: "f", Limit: 10}},
	}
}

// claim claims for a worker, which it keeps alive.
func (s *suite) claim(worker string) []*store.Entry {
	s.Helper()
	c, err := s.Claim(s.Context(), s.claimRequest(worker))
	return must(s, c, err).Entries
}

// claimOne claims the only task that is due.
func (s *suite) claimOne(worker string) *store.Entry {
	s.Helper()
	entries := s.claim(worker)
	if len(entries) != 1 {
		s.Fatalf("Claim: got %d entries, want 1", len(entries))
	}
	return entries[0]
}

func (s *suite) claimNone(worker string) {
	s.Helper()
	if entries := s.claim(worker); len(entries) != 0 {
		s.Fatalf("Claim: got task %s, want none", entries[0].Task.ID)
	}
}

func ending(e *store.Entry, outcome, then store.Status) *store.SettleRequest {
	return &store.SettleRequest{Lease: e.Lease, Kind: store.SettleEnd, Outcome: outcome, Then: then, Output: []byte(`"out"`)}
}

// mail returns all mail of a worker, after what it has seen is forgotten.
func (s *suite) mail(worker string, seen ...int64) []store.Mail {
	s.Helper()
	p, err := s.Poll(s.Context(), &store.PollRequest{Worker: worker, Seen: seen})
	return must(s, p, err).Mail
}

func (s *suite) settle(req *store.SettleRequest) *store.Settled {
	s.Helper()
	d, err := s.Settle(s.Context(), req)
	return must(s, d, err)
}

// complete ends the turn and the task; suspend ends the turn.
func (s *suite) complete(e *store.Entry) *store.Settled {
	s.Helper()
	return s.settle(ending(e, store.Completed, store.Completed))
}

func (s *suite) suspend(e *store.Entry) *store.Settled {
	s.Helper()
	return s.settle(ending(e, store.Completed, store.Suspended))
}

func (s *suite) checkpoint(e *store.Entry, number int64, commit bool, events ...string) *store.Checkpointed {
	s.Helper()
	c, err := s.Checkpoint(s.Context(), &store.CheckpointRequest{Lease: e.Lease, Number: number, Commit: commit, Events: blobs(events)})
	return must(s, c, err)
}

func blobs(texts []string) [][]byte {
	var all [][]byte
	for _, t := range texts {
		all = append(all, []byte(t))
	}
	return all
}

func (s *suite) signal(req *store.SignalRequest) *store.Signalled {
	s.Helper()
	d, err := s.Signal(s.Context(), req)
	return must(s, d, err)
}

func (s *suite) delete(id string) *store.Removed {
	s.Helper()
	d, err := s.Delete(s.Context(), &store.DeleteRequest{TaskID: id})
	return must(s, d, err)
}

func (s *suite) task(id string) *store.Task {
	s.Helper()
	t, err := s.Get(s.Context(), id)
	return must(s, t, err)
}

func (s *suite) turn(id string, number int64) *store.Turn {
	s.Helper()
	t, err := s.Turn(s.Context(), store.TurnQuery{TaskID: id, Number: number, Input: true, Output: true})
	return must(s, t, err)
}

// turnIs checks the status of a turn.
func (s *suite) turnIs(id string, number int64, want store.Status) {
	s.Helper()
	equal(s, "status of turn "+string(rune('0'+number)), s.turn(id, number).Status, want)
}

func (s *suite) statusIs(id string, want store.Status) {
	s.Helper()
	equal(s, "status of task "+id, s.task(id).Status, want)
}

func (s *suite) events(id string, after int64) *store.EventPage {
	s.Helper()
	p, err := s.Events(s.Context(), store.EventsQuery{TaskID: id, After: after, Limit: 100})
	return must(s, p, err)
}

// crash lets w1's lease lapse while the given worker, registered again, is alive.
func (s *suite) crash(next string) {
	s.Helper()
	advance(leaseTime)
	s.worker(next)
}
