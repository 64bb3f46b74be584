package sqlitestore

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perdure/perdure/store"
)

// oneReader opens a store whose reads all use one connection, and returns what counts the rows that they have read.
func oneReader(t *testing.T) (*worked, func() int) {
	t.Helper()
	s := openAt(t, filepath.Join(t.TempDir(), "store.db"), &Options{Readers: 1})
	return &worked{T: t, Store: s}, func() int {
		t.Helper()
		c, err := s.pool.get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer s.pool.put(c)
		return c.rows
	}
}

func TestPagesReadWhatTheyHold(t *testing.T) {
	const events, turns, size = 20, 10, 1_000_000
	s, rows := oneReader(t)
	s.register("w1")
	e := s.start("t", store.Settings{MultiTurn: true, Steerable: true, MaxPending: turns})
	for n := range int64(events) {
		_, err := s.Checkpoint(t.Context(), &store.CheckpointRequest{Lease: e.Lease, Number: n + 1, Events: [][]byte{make([]byte, size)}})
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range turns {
		req := offerReq("t")
		req.InputID, req.Input = fmt.Sprint("i", i), make([]byte, size)
		if _, err := s.Offer(t.Context(), req); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Get(t.Context(), "t"); err != nil { // from now on the connection knows settings and sources
		t.Fatal(err)
	}
	const task = 1 // the row that each read begins with
	for limit, want := range map[int]int{1: 1, 3: 3, 1000: 5} {
		before := rows()
		p, err := s.Events(t.Context(), store.EventsQuery{TaskID: "t", Limit: limit})
		if err != nil || len(p.Events) != min(limit, 4) {
			t.Errorf("%d events, %v", len(p.Events), err)
		}
		if got := rows() - before; got != task+want {
			t.Errorf("a page of up to %d events of 1 MB reads %d rows", limit, got)
		}
	}
	for limit, want := range map[int]int{1: 1, 3: 3, 1000: 5} { // the first of them is small
		before := rows()
		p, err := s.Turns(t.Context(), store.TurnsQuery{TaskID: "t", Limit: limit})
		if err != nil || len(p.Turns) != want || !p.More {
			t.Errorf("%d turns, more %v, %v", len(p.Turns), p.More, err)
		}
		if got, sizes := rows()-before, want+1; got != task+sizes+want {
			t.Errorf("a page of up to %d turns of 1 MB reads %d rows", limit, got)
		}
	}
}

func TestCommittedPageReadsAsManyRewindsAsItCanUse(t *testing.T) {
	s, rows := oneReader(t)
	s.register("w1")
	e := s.start("t", store.Settings{})
	const tries = 5000
	onWriterRun(t, s.Store, fmt.Sprintf(`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 2 FROM n WHERE i < %d)
		INSERT INTO events (task, first, last, turn, attempt, epoch, at, rewind, data)
		SELECT %d, i, i + 1, 1, 1, 1, 1, i - 1, x'0178' FROM n`, 2*tries-1, e.Lease.Incarnation))
	e.Task.LastEvent, e.Task.LastEmitted, e.Task.Mark = 2*tries, 2*tries, 2*tries
	put(t, s.Store, e.Task)
	before := rows()
	p, err := s.Events(t.Context(), store.EventsQuery{TaskID: "t", After: 100, Limit: 10, Committed: true})
	if err != nil || p.Next != 110 {
		t.Fatalf("next %d, %v", p.Next, err)
	}
	if got := rows() - before; got > 1+10+11 {
		t.Errorf("a page of 10 reads %d rows", got)
	}
}

func TestListsAreBoundedInBytes(t *testing.T) {
	s, rows := oneReader(t)
	now := s.clock.Now()
	const tasks = 200
	for i := range tasks {
		put(t, s.Store, &store.Task{
			ID: fmt.Sprint("t", i), Func: []string{"f", "g"}[i%2], Status: store.Failed, CreatedAt: now, UpdatedAt: now,
			Turn: store.Current{Error: &store.TaskError{Message: "m", Stack: strings.Repeat("x", 64<<10)}},
		})
	}
	if _, err := s.Get(t.Context(), "t0"); err != nil { // from now on the connection knows settings and sources
		t.Fatal(err)
	}
	for _, q := range []store.ListQuery{{}, {Funcs: []string{"f", "g"}}, {Statuses: []store.Status{store.Failed, store.Parked}}} {
		q.Limit = 1000
		next, pages := tasks, 0
		for more := true; more; pages++ {
			before := rows()
			page, err := s.List(t.Context(), q)
			if err != nil || len(page.Tasks) == 0 {
				t.Fatal(len(page.Tasks), err)
			}
			for _, task := range page.Tasks {
				if next--; task.ID != fmt.Sprint("t", next) {
					t.Fatalf("%s comes in the place of t%d", task.ID, next)
				}
				q.Before = task.Incarnation
			}
			if read := rows() - before; len(page.Tasks) > store.PageBytes>>16 || read > len(page.Tasks)+2 {
				t.Errorf("a page has %d tasks of 64 KiB, and has read %d rows", len(page.Tasks), read)
			}
			more = page.More
		}
		if next != 0 || pages < 3 {
			t.Errorf("%d pages, and %d tasks in none of them", pages, next)
		}
	}
}
