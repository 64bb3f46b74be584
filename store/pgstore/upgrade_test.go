package pgstore

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/perdure/perdure/store"
)

// fill makes a task in each state, as version 1 has them.
func fill(o *old) {
	now := o.clock.now()
	at := func(d time.Duration) int64 { return now.Add(d).UnixMicro() }
	begun := row{"turn_started_at": at(-time.Minute), "entered": true, "epoch": int64(1), "turn_entry": "fresh"}
	running := begun.with(row{"status": "in_progress", "wait": "", "due_at": int64(0)})
	o.worker("gone", true)
	o.worker("w1", false)
	o.insert("pending", nil)
	o.insert("delayed", begun.with(row{"wait": "retry", "due_at": at(time.Hour), "turn_attempt": int64(2)}))
	o.insert("late", begun.with(row{"wait": "strict", "due_at": at(time.Hour), "turn_deadline": at(-time.Second)}))
	o.insert("suspect", begun.with(row{"wait": "recovery", "due_at": at(-time.Second), "suspect": true, "turn_streak": int64(3)}))
	o.insert("released", begun.with(row{"status": "in_progress", "wait": "", "due_at": at(-time.Hour), "turn_entry": "recovered"}))
	o.insert("orphan", running.with(row{"worker": "gone"}))
	o.insert("running", running.with(row{"worker": "w1"}))
	o.insert("parked", begun.with(row{"status": "parked", "wait": "", "due_at": int64(0), "reason": "bad"}))
	for id, changes := range map[string]row{
		"suspended": {"status": "suspended"}, "completed": {"status": "completed", "ended_at": at(0)},
		"expired": {"status": "failed", "ended_at": at(-time.Hour), "expires_at": at(-time.Minute)},
	} {
		o.insert(id, running.with(row{"worker": "w1"}))
		o.end(id, "completed", changes)
	}
	o.exec(oldInsertMail, []string{"w1"}, []string{"running"}, []int64{o.task("running")["key"].(int64)}, []int64{1}, []string{"steered"}, []string{""})
}

func TestMigrationKeepsWhatVersion1HasWritten(t *testing.T) {
	o, url := oldSchema(t)
	fill(o)
	s := openAt(t, url, Options{Schema: o.x.schema, UnsafeClock: o.clock.now})
	serve(t, s, "w2")

	// The first claim puts back what a dead worker held. What waited by the clock comes in the order of keys.
	c, err := s.Claim(t.Context(), &store.ClaimRequest{Worker: "w2", Request: 1})
	if err != nil || c.Put != 1 {
		t.Fatalf("a claim of nothing has put back %+v, %v", c, err)
	}
	names(t, "claimed", claimed(t, s, "w2", 10), "pending", "suspect", "released", "orphan")
	for id, want := range map[string]store.EntryMode{"pending": store.EntryFresh, "suspect": store.EntryFresh, "released": store.EntryRecovered, "orphan": store.EntryRecovered} {
		same(t, "entry of "+id, get(t, s, id).Turn.Entry, want)
	}
	swept := sweep(t, s)
	same(t, "ended", swept.Ended, 1)
	same(t, "removed", swept.Removed, 1)
	same(t, "status of late", get(t, s, "late").Status, store.Terminated)
	if _, err := s.Get(t.Context(), "expired"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an expired task: %v", err)
	}

	running := get(t, s, "running")
	mail, err := mailOf(t, s, "w1")
	if err != nil || len(mail) != 1 || mail[0].Incarnation != running.Incarnation {
		t.Errorf("mail of version 1: %+v, %v", mail, err)
	}
	lease := store.Lease{Incarnation: running.Incarnation, Worker: "w1", Epoch: running.Epoch}
	settle(t, s, &store.SettleRequest{Lease: lease, Kind: store.SettleEnd, Outcome: store.Completed, Then: store.Suspended})
	for id, decision := range map[string]store.Decision{"suspended": store.Resumed, "running": store.Resumed, "completed": store.Known} {
		req := offerReq(id)
		if decision == store.Resumed {
			req.InputID, req.Digests = "next", []store.Digest{{Sum: "other"}}
		}
		same(t, "decision on "+id, mustOffer(t, s, req).Decision, decision)
	}
	resumed, err := s.Signal(t.Context(), &store.SignalRequest{TaskID: "parked", Kind: store.Resume, RequestID: "r"})
	if err != nil || !resumed.Due {
		t.Errorf("resume: %+v, %v", resumed, err)
	}
	o.clock.advance(time.Hour)
	serve(t, s, "w3")
	names(t, "claimed an hour later", claimed(t, s, "w3", 1), "delayed")
}

// A program whose user may not make tables says so, and works once somebody else has brought them up to date.
func TestNoMigrateWaitsForTheNewVersion(t *testing.T) {
	o, url := oldSchema(t)
	opts := &Options{Schema: o.x.schema, NoMigrate: true}
	if _, err := Open(t.Context(), url, opts); err == nil {
		t.Error("version 1 of the schema was taken for this program's")
	}
	script, err := Missing(t.Context(), url, o.x.schema)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.conn.PgConn().Exec(t.Context(), script).ReadAll(); err != nil {
		t.Fatal(err)
	}
	mustOffer(t, openAt(t, url, *opts), offerReq("one"))
}

// While a migration waits for a transaction that somebody has left open, programs go on: it lets them pass.
func TestMigrationMakesNobodyWaitForLong(t *testing.T) {
	o, url := oldSchema(t)
	o.insert("one", nil)
	s := &Store{opts: Options{Schema: o.x.schema}}
	s.texts.schema = o.x.schema
	unlock := lockedTask(t, s, `SELECT FROM perdure.tasks FOR UPDATE`)
	opened := make(chan error, 1)
	go func() {
		s, err := Open(context.Background(), url, &Options{Schema: o.x.schema})
		if err == nil {
			err = s.Close()
		}
		opened <- err
	}()
	untilWaits(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for range 3 {
		if _, err := o.conn.Exec(ctx, o.x.text(`SELECT FROM perdure.workers FOR UPDATE`), pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Errorf("a heartbeat meanwhile: %v", err)
		}
	}
	unlock()
	if err := <-opened; err != nil {
		t.Error(err)
	}
}

// A task that was exported by version 1 has no time at which a sweep looks at it.
func TestSweepsEndWhatWasImportedFromVersion1(t *testing.T) {
	o, s := sideBySide(t)
	task := &store.Task{
		ID: "one", Incarnation: 7, Func: "f", Status: store.Pending, Wait: store.WaitRetry, Due: true, NotBefore: o.clock.now().Add(time.Hour),
		Turn: store.Current{Number: 1, InputID: "i", StartedAt: o.clock.now(), Deadline: o.clock.now().Add(time.Minute)}, LastTurn: 1, Version: 3,
	}
	turn := &store.Turn{Incarnation: 7, Number: 1, InputID: "i", Status: store.TurnQueued, Input: []byte("1")}
	_, err := s.Import(t.Context(), &store.ImportRequest{TaskID: "one", Incarnation: 7, Task: task, Turns: []*store.Turn{turn}, Last: task})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "ended before its deadline", sweep(t, s).Ended, 0)
	o.clock.advance(time.Minute)
	same(t, "ended at its deadline", sweep(t, s).Ended, 1)
}
