package pgstore

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/perdure/perdure/internal/pgtest"
	"github.com/perdure/perdure/store"
)

// counting returns a store that counts the bytes that come from the server.
func counting(t *testing.T) (*Store, *atomic.Int64) {
	t.Helper()
	url := pgtest.URL(t)
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	read := &atomic.Int64{}
	config.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		return counted{conn, read}, err
	}
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
	return s, read
}

type counted struct {
	net.Conn
	read *atomic.Int64
}

func (c counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.read.Add(int64(n))
	return n, err
}

const mega = 1 << 20

// long makes a task with 12 turns, whose inputs and outputs have half a megabyte each and whose first has 12 rows of events
// of a megabyte in 4 events.
func long(t *testing.T, s *Store) {
	t.Helper()
	register(t, s, "w")
	half := bytes.Repeat([]byte("x"), mega/2)
	var lease store.Lease
	for i := range 12 {
		req := offerReq("t")
		req.Lease, req.Worker, req.Request, req.Input, req.InputID = true, "w", int64(i+1), half, fmt.Sprint("i", i)
		lease = mustOffer(t, s, req).Entry.Lease
		for n := range int64(12) {
			if i > 0 {
				break
			}
			quarter := half[:mega/4]
			_, err := s.Checkpoint(t.Context(), &store.CheckpointRequest{Lease: lease, Number: n + 1, Commit: true, Events: [][]byte{quarter, quarter, quarter, quarter}})
			if err != nil {
				t.Fatal(err)
			}
		}
		settle(t, s, &store.SettleRequest{Lease: lease, Kind: store.SettleEnd, Outcome: store.Completed, Then: store.Suspended, Output: half})
	}
}

func TestPagesReadNoMoreThanTheySend(t *testing.T) {
	s, read := counting(t)
	long(t, s)
	ctx := t.Context()
	for name, c := range map[string]struct {
		page        func() (int, error)
		items, most int // bytes
	}{
		"Events":       {events(ctx, s, store.EventsQuery{TaskID: "t", Limit: 1000}), 16, 5 * mega},
		"EventsAfter":  {events(ctx, s, store.EventsQuery{TaskID: "t", After: 2, Limit: 1000}), 16, 6 * mega},
		"FourEvents":   {events(ctx, s, store.EventsQuery{TaskID: "t", Limit: 4}), 4, mega},
		"OneEvent":     {events(ctx, s, store.EventsQuery{TaskID: "t", Limit: 1}), 1, mega},
		"OneLater":     {events(ctx, s, store.EventsQuery{TaskID: "t", After: 5, Limit: 1}), 1, mega},
		"LastEvents":   {events(ctx, s, store.EventsQuery{TaskID: "t", After: 47, Limit: 1000}), 13, mega},
		"Committed":    {events(ctx, s, store.EventsQuery{TaskID: "t", Limit: 1000, Committed: true}), 16, 5 * mega},
		"Turns":        {turns(ctx, s, store.TurnsQuery{TaskID: "t", Limit: 100}), 4, 4 * mega},
		"OneTurn":      {turns(ctx, s, store.TurnsQuery{TaskID: "t", After: 3, Limit: 1}), 1, mega},
		"Turn":         {turn(ctx, s, store.TurnQuery{TaskID: "t", Number: 3}), 0, 0},
		"TurnByInput":  {turn(ctx, s, store.TurnQuery{TaskID: "t", InputID: "i3"}), 0, 0},
		"CurrentInput": {turn(ctx, s, store.TurnQuery{TaskID: "t", Input: true}), 1, mega / 2},
		"Output":       {turn(ctx, s, store.TurnQuery{TaskID: "t", Number: 3, Output: true}), 1, mega / 2},
	} {
		before := read.Load()
		items, err := c.page()
		if got := int(read.Load() - before); err != nil || items != c.items || got > c.most+mega/8 {
			t.Errorf("%s: %d items of %d bytes, %v; want %d of at most %d", name, items, got, err, c.items, c.most)
		}
	}
	// A known input, and one who attaches, need neither the input nor the output.
	attach := offerReq("t")
	attach.Attach, attach.InputID = true, "new"
	known := offerReq("t")
	known.InputID = "i3"
	for _, req := range []*store.OfferRequest{attach, known} {
		before := read.Load()
		if mustOffer(t, s, req); read.Load()-before > mega/8 {
			t.Errorf("an offer of %s has read %d bytes", req.InputID, read.Load()-before)
		}
	}
}

func events(ctx context.Context, s *Store, q store.EventsQuery) func() (int, error) {
	return func() (int, error) {
		page, err := s.Events(ctx, q)
		if err != nil {
			return 0, err
		}
		return len(page.Events), nil
	}
}

func turns(ctx context.Context, s *Store, q store.TurnsQuery) func() (int, error) {
	return func() (int, error) {
		page, err := s.Turns(ctx, q)
		if err != nil {
			return 0, err
		}
		if !page.More {
			return 0, fmt.Errorf("nothing more after %d turns", len(page.Turns))
		}
		return len(page.Turns), nil
	}
}

// turn reads a turn, and returns how many payloads came with it.
func turn(ctx context.Context, s *Store, q store.TurnQuery) func() (int, error) {
	return func() (n int, err error) {
		t, err := s.Turn(ctx, q)
		if err != nil {
			return 0, err
		}
		for _, payload := range [][]byte{t.Input, t.Output} {
			if payload != nil {
				n++
			}
		}
		return n, nil
	}
}

// A list ends early where tasks are large, and goes on below.
func TestListsEndEarlyWhereTasksAreLarge(t *testing.T) {
	s, read := counting(t)
	statuses := []store.Status{store.Pending, store.Suspended}
	const tasks = 200
	for i := range tasks {
		mustOffer(t, s, offerReq(fmt.Sprint("t", i)))
	}
	_, err := s.pool.Exec(t.Context(), s.sql(`UPDATE perdure.tasks SET turn_error = '{"message":"'||repeat('x', 65536)||'"}',
		status = CASE WHEN key % 3 = 0 THEN 'suspended' ELSE 'pending' END`))
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []store.ListQuery{{Limit: tasks}, {Limit: tasks, Statuses: statuses}} {
		seen, pages := 0, 0
		for more := true; more; pages++ {
			before := read.Load()
			page, err := s.List(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			if got := read.Load() - before; got > 2*store.PageBytes+mega {
				t.Errorf("a page of %d bytes", got)
			}
			for _, task := range page.Tasks {
				if q.Before != 0 && task.Incarnation != q.Before-1 {
					t.Fatalf("task %d after %d", task.Incarnation, q.Before)
				}
				q.Before = task.Incarnation
				seen++
			}
			more = page.More
		}
		if seen != tasks || pages < 3 {
			t.Errorf("%d tasks in %d pages, want %d in some", seen, pages, tasks)
		}
	}
}
