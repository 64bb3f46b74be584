package pgstore

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/perdure/perdure/internal/pgtest"
	"github.com/perdure/perdure/store"
)

// trips counts batches, each of which is a round trip.
type trips struct{ n atomic.Int64 }

func (c *trips) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}
func (c *trips) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (c *trips) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	c.n.Add(1)
	return ctx
}
func (c *trips) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (c *trips) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

// of returns how many round trips a call takes.
func (c *trips) of(t *testing.T, call func() error) int64 {
	t.Helper()
	before := c.n.Load()
	if err := call(); err != nil {
		t.Fatal(err)
	}
	return c.n.Load() - before
}

func traced(t *testing.T) (*Store, *trips) {
	t.Helper()
	c := &trips{}
	return onPool(t, func(config *pgxpool.Config) { config.ConnConfig.Tracer = c }), c
}

// onPool returns a store on a pool of the test's, in which the worker w is registered.
func onPool(t *testing.T, change func(*pgxpool.Config)) *Store {
	t.Helper()
	url := pgtest.URL(t)
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	change(config)
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	s, err := New(t.Context(), pool, &Options{Schema: pgtest.Schema(t, url), PollOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	register(t, s, "w")
	return s
}

// What callers wait for takes two round trips as a rule: one that reads and locks, and one that writes and commits. Statements that
// are new to a connection take one more.
func TestOperationsTakeTwoRoundTrips(t *testing.T) {
	s, c := traced(t)
	for _, step := range operations(t, s, "new-") {
		c.of(t, step.call)
	}
	for _, step := range operations(t, s, "") {
		same(t, step.what, c.of(t, step.call), step.want)
	}
}

// operation is one of a sequence, and the round trips that it takes.
type operation struct {
	what string
	want int64
	call func() error
}

// operations are a sequence of operations, on tasks whose IDs have a prefix.
func operations(t *testing.T, s *Store, prefix string) []operation {
	ctx := t.Context()
	var lease store.Lease
	offer := func(id, input string, leased bool) func() error {
		req := offerReq(prefix + id)
		req.InputID, req.Lease, req.Worker, req.Request = input, leased, "w", 1
		return func() error {
			o, err := s.Offer(ctx, req)
			if err == nil && o.Entry != nil {
				lease = o.Entry.Lease
			}
			return err
		}
	}
	end := func(change func(*store.SettleRequest)) func() error {
		return func() error {
			req := completing(lease, "1")
			change(req)
			_, err := s.Settle(ctx, req)
			return err
		}
	}
	signal := func(id string, kind store.SignalKind) func() error {
		return func() error {
			_, err := s.Signal(ctx, &store.SignalRequest{TaskID: prefix + id, Kind: kind, RequestID: string(kind)})
			return err
		}
	}
	return []operation{
		{"an offer that waits", 2, offer("waits", "a", false)},
		{"a delete", 2, func() error {
			_, err := s.Delete(ctx, &store.DeleteRequest{TaskID: prefix + "waits", RequestID: "r"})
			return err
		}},
		{"an offer that is leased", 2, offer("t", "a", true)},
		{"a cancel", 2, signal("t", store.Cancel)},
		{"a repeat", 2, signal("t", store.Cancel)},
		{"a suspension", 2, end(func(req *store.SettleRequest) { req.Then = store.Suspended })},
		{"a resumption that waits", 2, offer("t", "b", false)},
		{"an offer of another", 2, offer("u", "a", true)},
		{"a steer", 2, offer("u", "b", false)},
		{"an end that promotes, and gives the lease away", 3, end(func(*store.SettleRequest) {})},
		{"an offer of a third", 2, offer("v", "a", true)},
		{"a quarantine", 2, end(func(req *store.SettleRequest) { req.Kind = store.SettlePark })},
		{"an unpark", 2, signal("v", store.Resume)},
		{"an offer of a fourth", 2, offer("w", "a", true)},
		{"a release", 2, end(func(req *store.SettleRequest) { req.Kind = store.SettleRelease })},
	}
}

// Small tasks are removed together, in a number of round trips that does not depend on theirs.
func TestSweepsRemoveSmallTasksTogether(t *testing.T) {
	s, c := traced(t)
	for name, remove := range map[string]func(string) error{
		"Deleted": func(id string) error {
			_, err := s.Delete(t.Context(), &store.DeleteRequest{TaskID: id})
			return err
		},
		"Expired": func(id string) error {
			_, err := s.pool.Exec(t.Context(), s.sql(`UPDATE perdure.tasks SET expires_at = 1 WHERE id = $1`), id)
			return err
		},
	} {
		take := func(tasks int) int64 {
			for i := range tasks {
				id := fmt.Sprint("t", i)
				mustOffer(t, s, offerReq(id))
				if err := remove(id); err != nil {
					t.Fatal(err)
				}
			}
			return c.of(t, func() error {
				same(t, name+": removed rows", sweep(t, s).Dropped, tasks)
				return nil
			})
		}
		if few, many := take(2), take(50); few != many {
			t.Errorf("%s: %d round trips for 2 tasks, and %d for 50", name, few, many)
		}
	}
}

// A sweep asks once whether a func is served.
func TestSweepsAskOnceOfAFunc(t *testing.T) {
	s, c := traced(t)
	serve(t, s, "w2")
	take := func(tasks int) int64 {
		for i := range tasks {
			id := fmt.Sprint("t", i, "of", tasks)
			settle(t, s, &store.SettleRequest{Lease: leased(t, s, id, "w", time.Hour), Kind: store.SettleRelease})
			if _, err := s.Signal(t.Context(), &store.SignalRequest{TaskID: id, Kind: store.Cancel}); err != nil {
				t.Fatal(err)
			}
		}
		return c.of(t, func() error {
			same(t, "ended", sweep(t, s).Ended, 0)
			return nil
		})
	}
	if few, many := take(2), take(20); few != many {
		t.Errorf("%d round trips for 2 tasks, and %d for 20", few, many)
	}
}
