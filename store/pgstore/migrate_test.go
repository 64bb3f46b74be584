package pgstore

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/perdure/perdure/internal/pgtest"
	"github.com/perdure/perdure/store"
)

func TestManyOpenAnEmptyDatabaseAtOnce(t *testing.T) {
	url := pgtest.URL(t)
	schema := pgtest.Schema(t, url)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			s, err := Open(t.Context(), url, &Options{Schema: schema})
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// nextVersion is what a migration of the next version may do: add columns with defaults, indexes and tables.
const nextVersion = `ALTER TABLE perdure.tasks ADD COLUMN colour text NOT NULL DEFAULT 'blue';
ALTER TABLE perdure.turns ADD COLUMN note text;
CREATE INDEX tasks_colour ON perdure.tasks (colour, key);
CREATE TABLE perdure.colours (name text PRIMARY KEY);`

// During a deployment programs of two versions work on the same tables.
func TestTwoVersionsWorkSideBySide(t *testing.T) {
	url := pgtest.URL(t)
	schema := pgtest.Schema(t, url)
	before := openAt(t, url, Options{Schema: schema})
	o := mustOffer(t, before, offerReq("old"))

	steps, err := migrations()
	if err != nil {
		t.Fatal(err)
	}
	x, conn, err := connect(t.Context(), url, schema)
	if err != nil {
		t.Fatal(err)
	}
	defer hangUp(conn)
	if err := x.migrate(t.Context(), conn, append(steps, nextVersion)); err != nil {
		t.Fatal(err)
	}
	after := openAt(t, url, Options{Schema: schema}) // a program of this version starts again meanwhile
	for i, s := range []*Store{before, after} {
		worker := []string{"w0", "w1"}[i]
		register(t, s, worker)
		mustOffer(t, s, offerReq("new-"+worker))
		c, err := s.Claim(t.Context(), &store.ClaimRequest{Worker: worker, Limit: 1, Request: 1, Funcs: []store.ClaimFunc{{Name: "f", Limit: 1}}})
		if err != nil || len(c.Entries) != 1 {
			t.Fatalf("claim: %+v, %v", c, err)
		}
		lease := store.Lease{Incarnation: c.Entries[0].Task.Incarnation, Worker: worker, Epoch: c.Entries[0].Task.Epoch}
		_, err = s.Checkpoint(t.Context(), &store.CheckpointRequest{Lease: lease, Number: 1, Events: [][]byte{[]byte("1")}})
		if err != nil {
			t.Error(err)
		}
		_, err = s.Settle(t.Context(), &store.SettleRequest{Lease: lease, Kind: store.SettleEnd, Outcome: store.Completed, Then: store.Completed})
		if err != nil {
			t.Error(err)
		}
		if task, err := s.Get(t.Context(), "old"); err != nil || task.Incarnation != o.Incarnation {
			t.Errorf("got %+v, %v", task, err)
		}
		if page, err := s.Events(t.Context(), store.EventsQuery{TaskID: c.Entries[0].Task.ID, Limit: 10}); err != nil || len(page.Events) == 0 {
			t.Errorf("events: %+v, %v", page, err)
		}
		if list, err := s.List(t.Context(), store.ListQuery{Limit: 10}); err != nil || len(list.Tasks) == 0 {
			t.Errorf("list: %v", err)
		}
	}
	if err := before.Close(); err != nil {
		t.Error(err)
	}

	// A version whose tables this program does not understand says so.
	if _, err := conn.Exec(t.Context(), x.text(`UPDATE perdure.schema_version SET works_with = version`)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), url, &Options{Schema: schema}); err == nil || !strings.Contains(err.Error(), "is newer than") {
		t.Errorf("open of a newer version: %v", err)
	}
}

func TestOpenOnAPoolOfTheCallersLeavesItOpen(t *testing.T) {
	url := pgtest.URL(t)
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	s, err := New(t.Context(), pool, &Options{Schema: pgtest.Schema(t, url)})
	if err != nil {
		t.Fatal(err)
	}
	mustOffer(t, s, offerReq("one"))
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := pool.Ping(t.Context()); err != nil {
		t.Errorf("the pool after Close: %v", err)
	}
	if _, err := Open(t.Context(), url, &Options{Schema: strings.Repeat("x", 64)}); err == nil {
		t.Error("a schema whose name Postgres would cut off")
	}
}

// A worker that freezes in the middle of a transaction holds its locks no longer than idleLimit.
func TestAFrozenTransactionLosesItsLocks(t *testing.T) {
	a, b := pair(t)
	register(t, a, "w")
	req := offerReq("one")
	req.Lease, req.Worker, req.Request = true, "w", 1
	mustOffer(t, a, req)
	conn, err := a.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	frozen := a.newTx(t.Context(), conn.Conn(), direct)
	if _, err := frozen.begin([]*op{{id: "one"}, {worker: "w"}}); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, err := b.Delete(t.Context(), &store.DeleteRequest{TaskID: "one"}); err != nil {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
	if err := frozen.send(&pgx.Batch{}); err == nil {
		if err = frozen.send(committing(t, frozen)); err == nil {
			t.Error("the frozen transaction has committed")
		}
	}
}
