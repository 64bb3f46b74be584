package pgstore

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/perdure/perdure/internal/pgtest"
	"github.com/perdure/perdure/store"
)

// soon is within what a database's limits say, on a slow machine, and before any context of the store's ends.
const soon = batchTime / 2

// newOffers are operations on new tasks that are not to be run.
func newOffers(t *testing.T, n int) (ops []*op) {
	t.Helper()
	for i := range n {
		req := offerReq(fmt.Sprint("new-", i))
		ops = append(ops, &op{ctx: t.Context(), id: req.TaskID, offer: req, done: make(chan struct{}), run: func(tx *tx) error {
			return errors.New("it was run")
		}})
	}
	return ops
}

// The limits of a transaction hold for a table that somebody has locked, though the connection does not know the statements.
func TestLimitsHoldForStatementsThatAreNew(t *testing.T) {
	direct := pgtest.URL(t)
	for way, url := range map[string]string{"direct": direct, "PgBouncer": pgtest.Bouncer(t, direct)} {
		s := openAt(t, url, Options{Schema: pgtest.Schema(t, direct), PollOnly: true})
		s.limit = "50ms"
		unlock := lockedTask(t, s, `LOCK TABLE perdure.tasks, perdure.mail IN ACCESS EXCLUSIVE MODE`)
		for name, meet := range map[string]func(context.Context) error{
			"batch": func(ctx context.Context) error {
				conn, err := s.writes.Acquire(ctx)
				if err == nil {
					_, err = s.transact(ctx, conn, newOffers(t, 1), inBatch)
				}
				return err
			},
			"read": func(ctx context.Context) error { _, err := s.Get(ctx, "one"); return err },
			"poll": func(ctx context.Context) error {
				_, err := s.Poll(ctx, &store.PollRequest{Worker: "w", Funcs: []string{"f"}})
				return err
			},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), batchTime)
			defer cancel()
			began := time.Now()
			err := meet(ctx)
			if took := time.Since(began); !ofTheDatabase(err) && !maybeTable(err) || took > soon {
				t.Errorf("%s, %s: %v after %v; want an error of a limit", way, name, err, took)
			}
		}
		unlock()
	}
}

func TestLimitsHoldForStatementsThatAreNewToACallersTransaction(t *testing.T) {
	s, _ := pair(t)
	unlock := lockedTask(t, s, `LOCK TABLE perdure.tasks IN ACCESS EXCLUSIVE MODE`)
	tx := begin(t)
	ctx, cancel := context.WithTimeout(t.Context(), batchTime)
	defer cancel()
	_, err := s.OfferTx(ctx, tx, offerReq("theirs"))
	if held, ok := errors.AsType[*store.LockedError](err); !ok || held.What != "a table" {
		t.Errorf("got %v, want an error that says that a table is held", err)
	}
	unlock()
	if _, err := s.OfferTx(t.Context(), tx, offerReq("theirs")); err != nil {
		t.Errorf("the transaction goes on: %v", err)
	}
	commit(t, tx)
}

// A connection of which more was asked than pgx keeps is taken to know nothing.
func TestWhatAConnectionKnowsIsBounded(t *testing.T) {
	s, c := traced(t)
	conn, err := s.polls.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	ask := func(n int) int {
		return int(c.of(t, func() error {
			b := s.newTx(t.Context(), conn.Conn(), direct).opening()
			b.Queue(fmt.Sprint("SELECT ", n))
			b.Queue(sqlCommit)
			return s.sendFirst(t.Context(), conn.Conn(), b, openings)
		}))
	}
	same(t, "round trips for what is new", ask(0), 2)
	same(t, "round trips for what is known", ask(0), 1)
	for n := range maxKnown {
		ask(n)
	}
	same(t, "round trips after many others", ask(0), 2)
	s.forgets = true
	same(t, "round trips where statements are forgotten", ask(0), 2)
}

// What all operations of a batch meet is not looked for by writing its halves apart.
func TestWhatAllMeetIsNotLookedForInHalves(t *testing.T) {
	s, c := traced(t)
	for name, hinder := range map[string]func() (cure func()){
		"a table that is missing": func() func() {
			rename := func(from, to string) {
				if err := execute(t, s.sql(`ALTER TABLE perdure.`+from+` RENAME TO `+to)); err != nil {
					t.Fatal(err)
				}
			}
			rename("turns", "away")
			return func() { rename("away", "turns") }
		},
		"a table that is locked": func() func() { return lockedTask(t, s, `LOCK TABLE perdure.turns IN ACCESS EXCLUSIVE MODE`) },
	} {
		t.Run(name, func(t *testing.T) {
			cure := hinder()
			defer cure()
			ops := newOffers(t, 64)
			within, cancel := context.WithTimeout(t.Context(), maxPause)
			defer cancel()
			conn, err := s.writes.Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			trips := c.of(t, func() error { s.writer.write(within, conn, ops); return nil })
			for _, o := range ops {
				if <-o.done; !errors.As(s.explain(o.err), new(*store.TroubleError)) {
					t.Fatalf("got %v, want a *store.TroubleError", o.err)
				}
			}
			if trips > 16 {
				t.Errorf("%d round trips for what all have met", trips)
			}
		})
	}
}

// A connection that was given up is closed soon, whatever the server does: its place in the pool is free then.
func TestAConnectionThatWasGivenUpIsClosedSoon(t *testing.T) {
	s := onPool(t, func(*pgxpool.Config) {})
	conn, err := s.writes.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := conn.Exec(ctx, `SELECT pg_sleep(60)`); err == nil {
		t.Fatal("it did not wait")
	}
	began := time.Now()
	pg := conn.Conn().PgConn()
	conn.Release()
	<-pg.CleanupDone()
	if took := time.Since(began); took > 4*closeWithin {
		t.Errorf("it was closed after %v", took)
	}
}

// Readers who leave, however many, take nothing of what writers need.
func TestReadersWhoLeaveTakeNothingFromWriters(t *testing.T) {
	s, _ := pair(t)
	mustOffer(t, s, offerReq("row"))
	unlock := lockedTask(t, s, `LOCK TABLE perdure.metadata IN ACCESS EXCLUSIVE MODE`)
	defer unlock()
	before := s.writes.Stat().AcquireCount()
	var reads started
	for range 4 * int(s.writes.Config().MaxConns) {
		reads.send(func() error {
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
			defer cancel()
			_, err := s.Get(ctx, "row")
			return err
		})
	}
	for _, err := range reads.all() {
		if err != context.DeadlineExceeded {
			t.Errorf("a reader who left: %v", err)
		}
	}
	same(t, "connections of writers taken", s.writes.Stat().AcquireCount(), before)
	mustOffer(t, s, offerReq("another"))
}

// A commit that is late when the store has been closed is hung up on.
func TestACommitThatIsLateAfterCloseIsHungUpOn(t *testing.T) {
	s := onPool(t, func(*pgxpool.Config) {})
	var c commits
	late := func() bool {
		var closed atomic.Bool
		conn, err := s.writes.Acquire(t.Context())
		if err != nil {
			t.Error(err)
			return false
		}
		own := conn.Hijack()
		c.add(own, "server", func() { // ends with the connection
			_, err := own.PgConn().Conn().Read(make([]byte, 1))
			closed.Store(err != nil)
			hangUp(own)
		})
		return closed.Load()
	}
	var adding started
	for range 4 {
		adding.send(func() error { late(); return nil })
	}
	c.close() // whatever comes before it or meanwhile
	adding.all()
	if !late() {
		t.Error("it goes on")
	}
	all, _ := c.waiting("")
	same(t, "commits that wait", all, 0)
}
