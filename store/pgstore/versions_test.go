package pgstore

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/perdure/perdure/store"
)

func get(t *testing.T, s *Store, id string) *store.Task {
	t.Helper()
	task, err := s.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return task
}

func sweep(t *testing.T, s *Store) *store.Swept {
	t.Helper()
	swept, err := s.Sweep(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	return swept
}

// serve registers a worker that runs the func f.
func serve(t *testing.T, s *Store, worker string) {
	t.Helper()
	_, err := s.Heartbeat(t.Context(), &store.HeartbeatRequest{
		Worker: worker, Lease: 24 * time.Hour, First: true, Funcs: []store.PublishedFunc{{Name: "f"}},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// leased offers a task to a worker of version 2.
func leased(t *testing.T, s *Store, id, worker string, timeout time.Duration) store.Lease {
	t.Helper()
	req := offerReq(id)
	req.Lease, req.Worker, req.Request = true, worker, 1
	req.Settings.Timeout, req.Settings.TimeoutGrace = timeout, time.Minute
	e := mustOffer(t, s, req).Entry
	if e == nil {
		t.Fatalf("%s was not leased", id)
	}
	return e.Lease
}

func settle(t *testing.T, s *Store, req *store.SettleRequest) *store.Settled {
	t.Helper()
	settled, err := s.Settle(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return settled
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func names(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func TestVersion2TakesWhatVersion1HasMadeDue(t *testing.T) {
	o, s := sideBySide(t)
	serve(t, s, "w2")
	mustOffer(t, s, offerReq("two"))
	o.insert("one", nil)
	o.insert("later", row{"due_at": o.clock.now().Add(time.Minute).UnixMicro()})
	waiting, err := s.Waiting(t.Context(), nil, 10)
	if err != nil || waiting["f"] != 2 {
		t.Errorf("%v wait, %v; want 2 of f", waiting, err)
	}
	names(t, "claimed", claimed(t, s, "w2", 10), "one", "two")
	o.clock.advance(time.Minute)
	names(t, "claimed a minute later", claimed(t, s, "w2", 10), "later")
	task := get(t, s, "one")
	lease := store.Lease{Incarnation: task.Incarnation, Worker: "w2", Epoch: task.Epoch}
	settle(t, s, &store.SettleRequest{Lease: lease, Kind: store.SettleEnd, Outcome: store.Completed, Then: store.Completed, Detail: "d"})
	same(t, "status for version 1", o.task("one")["status"], "completed")
}

func TestVersion1TakesWhatVersion2HasMadeDue(t *testing.T) {
	o, s := sideBySide(t)
	serve(t, s, "w2")
	o.worker("w1", false)
	mustOffer(t, s, offerReq("two"))
	same(t, "tasks that wait for version 1", o.rows(oldWaiting, o.clock.micros.Load())[0]["count"], int64(1))
	names(t, "claimed by version 1", o.claim("w1"), "two")
	names(t, "claimed by version 2 meanwhile", claimed(t, s, "w2", 10))
	o.release("two", nil)
	mustOffer(t, s, offerReq("three"))
	names(t, "claimed by version 2", claimed(t, s, "w2", 10), "two", "three")
	same(t, "entry", get(t, s, "two").Turn.Entry, store.EntryRecovered)
}

func TestVersion1DeletesWhatVersion2HasMade(t *testing.T) {
	o, s := sideBySide(t)
	serve(t, s, "w2")
	lease := leased(t, s, "two", "w2", 0)
	_, err := s.Checkpoint(t.Context(), &store.CheckpointRequest{
		Lease: lease, Number: 1, Commit: true, Events: [][]byte{[]byte("1")}, Metadata: []store.Change{{Key: "k", Value: []byte("1")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	o.delete("two")
	if _, err := s.Get(t.Context(), "two"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a task that version 1 has deleted: %v", err)
	}
	same(t, "decision", mustOffer(t, s, offerReq("two")).Decision, store.Created)

	// What version 2 deletes is gone for version 1 at once, and its rows after a sweep.
	key := get(t, s, "two").Incarnation
	if _, err := s.Delete(t.Context(), &store.DeleteRequest{TaskID: "two"}); err != nil {
		t.Fatal(err)
	}
	same(t, "tasks for version 1", len(o.rows(oldTaskByID, []string{"two"})), 0)
	left := `SELECT 1 FROM perdure.turns WHERE task = $1`
	same(t, "turns before a sweep", len(o.rows(left, key)), 1)
	sweep(t, s)
	same(t, "turns after a sweep", len(o.rows(left, key)), 0)
}

func TestVersion1CancelsWhatVersion2Runs(t *testing.T) {
	o, s := sideBySide(t)
	serve(t, s, "w2")
	lease := leased(t, s, "two", "w2", 0)
	r := o.task("two")
	o.update(r, row{"turn_cancel": true, "cancel_reason": "stop"})
	o.exec(oldInsertMail, []string{"w2"}, []string{"two"}, []int64{lease.Incarnation}, []int64{lease.Epoch}, []string{"cancel"}, []string{"stop"})
	mail, err := mailOf(t, s, "w2")
	if err != nil || len(mail) != 1 || mail[0].Kind != store.MailCancel || mail[0].Version != 0 {
		t.Fatalf("got mail %+v, %v", mail, err)
	}
	settled := settle(t, s, &store.SettleRequest{Lease: lease, Kind: store.SettleEnd, Outcome: store.Cancelled, Then: store.Cancelled})
	same(t, "status", settled.Status, store.Cancelled)
}

// A turn that has begun, was released, and is cancelled, waits for a worker. That nobody runs its func is seen by sweeps.
func TestSweepsEndWhatVersion1HasCancelled(t *testing.T) {
	o, s := sideBySide(t)
	register(t, s, "w2")
	settle(t, s, &store.SettleRequest{Lease: leased(t, s, "two", "w2", 0), Kind: store.SettleRelease})
	o.insert("one", row{"status": "in_progress", "wait": "", "turn_started_at": o.clock.micros.Load(), "entered": true})
	for _, id := range []string{"one", "two"} {
		o.update(o.task(id), row{"turn_cancel": true, "cancel_reason": "stop"})
	}
	same(t, "ended", sweep(t, s).Ended, 2)
	for _, id := range []string{"one", "two"} {
		task := get(t, s, id)
		same(t, "status of "+id, task.Status, store.Cancelled)
		same(t, "reason of "+id, task.Reason, "stop")
	}
}

func TestSweepsEndWhatVersion1HasLeftPastItsDeadline(t *testing.T) {
	o, s := sideBySide(t)
	deadline := o.clock.now().Add(time.Minute).UnixMicro()
	o.insert("one", row{"wait": "retry", "turn_started_at": o.clock.micros.Load(), "turn_deadline": deadline, "due_at": deadline * 2, "entered": true})
	same(t, "ended before the deadline", sweep(t, s).Ended, 0)
	same(t, "its end as a sweep has noted it", o.rows(`SELECT end_by FROM perdure.tasks`)[0]["end_by"], deadline)
	same(t, "version after a sweep", get(t, s, "one").Version, int64(1))
	o.clock.advance(time.Minute)
	same(t, "ended at the deadline", sweep(t, s).Ended, 1)
	same(t, "status", get(t, s, "one").Status, store.Terminated)
}

// What version 2 has noted of a turn is not taken for what it says of a later one, which version 1 has begun.
func TestSweepsLeaveAloneWhatVersion1HasMovedOn(t *testing.T) {
	o, s := sideBySide(t)
	serve(t, s, "w2")
	lease := leased(t, s, "two", "w2", 2*time.Hour)
	settle(t, s, &store.SettleRequest{Lease: lease, Kind: store.SettleRetry, Delay: time.Hour})
	end := `SELECT end_by FROM perdure.tasks`
	same(t, "its end", o.rows(end)[0]["end_by"], o.clock.now().Add(2*time.Hour).UnixMicro())
	o.clock.advance(time.Hour)
	names(t, "claimed by version 1", o.claim("w1"), "two")
	o.clock.advance(2 * time.Hour)
	same(t, "ended while version 1 runs it", sweep(t, s).Ended, 0)
	o.end("two", "completed", row{"status": "suspended"})
	o.resume("two")
	same(t, "ended when its next turn waits", sweep(t, s).Ended, 0)
	same(t, "its end after a sweep", o.rows(end)[0]["end_by"], int64(0))
	names(t, "claimed", claimed(t, s, "w2", 10), "two")
	same(t, "turn", get(t, s, "two").Turn.Number, int64(2))
}

// A turn that a sweep has left to the workers, and that version 1 has entered since, is left to them once more.
func TestSweepsCallAgainWhatVersion1HasEntered(t *testing.T) {
	o, s := sideBySide(t)
	serve(t, s, "w2")
	settle(t, s, &store.SettleRequest{Lease: leased(t, s, "two", "w2", 0), Kind: store.SettleRelease})
	if _, err := s.Signal(t.Context(), &store.SignalRequest{TaskID: "two", Kind: store.Cancel}); err != nil {
		t.Fatal(err)
	}
	same(t, "ended at first", sweep(t, s).Ended, 0)
	same(t, "called", get(t, s, "two").Turn.Called, true)
	names(t, "claimed by version 1", o.claim("w1"), "two")
	o.release("two", nil)
	o.clock.advance(time.Hour)
	same(t, "ended when version 1 has given it back", sweep(t, s).Ended, 0)
	same(t, "called again", get(t, s, "two").Turn.Called, true)
	o.clock.advance(time.Hour)
	same(t, "ended when nobody came", sweep(t, s).Ended, 1)
}
