package sqlitestore

import (
	"fmt"
	"testing"
	"time"

	"github.com/perdure/perdure/store"
)

const manyFlushes = `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
	INSERT INTO events (task, first, last, turn, attempt, epoch, at, data)
	SELECT %d, i, i, 1, 1, 1, %d, x'0178' FROM n`

// flush gives a task many flushes of one event, all of one moment.
func flush(t *testing.T, s *Store, incarnation int64, flushes int, at time.Time) {
	t.Helper()
	onWriterRun(t, s, fmt.Sprintf(manyFlushes, flushes, incarnation, at.UnixMicro()))
}

// put inserts a task as it is, or changes one.
func put(t *testing.T, s *Store, task *store.Task) {
	t.Helper()
	onWriter(t, s, func(c *conn) error {
		if task.Incarnation != 0 {
			return c.UpdateTask(task)
		}
		return c.InsertTask(task)
	})
}

// work is what a sweep has cost: rows that were looked at, and rows that were changed.
type work struct{ looked, changed int }

func (s *worked) costs(limit int) (*store.Swept, work) {
	s.Helper()
	measure := func() (w work) {
		onWriter(s.T, s.Store, func(c *conn) error {
			changed, err := c.number("SELECT total_changes()")
			w = work{c.rows, int(changed)}
			return err
		})
		return w
	}
	before := measure()
	swept := s.sweep(limit)
	after := measure()
	return swept, work{after.looked - before.looked, after.changed - before.changed}
}

func (s *worked) count(table string) (n int) {
	s.Helper()
	onWriter(s.T, s.Store, func(c *conn) error {
		count, err := c.number("SELECT count(*) FROM " + table)
		n = int(count)
		return err
	})
	return n
}

func TestSweepOfLongStreamsGoesInPieces(t *testing.T) {
	const tasks, long, limit, pieces = 100, 20_000, 200, 110
	s := &worked{T: t, Store: openTemp(t)}
	now := s.clock.Now()
	all := 0
	for i := range tasks {
		flushes := long
		if i > 1 { // the pieces do not come that far
			flushes = 500
		}
		all += flushes
		old := &store.Task{
			ID: fmt.Sprint("t", i), Func: "f", Status: store.Completed, FirstEvent: 1, LastEvent: int64(flushes),
			CreatedAt: now, UpdatedAt: now, ExpiresAt: now.Add(-time.Second),
		}
		put(t, s.Store, old)
		flush(t, s.Store, old.Incarnation, flushes, now)
	}
	dropped := 0
	for range pieces {
		swept, cost := s.costs(limit)
		dropped += swept.Dropped
		if !swept.More || swept.Dropped != limit || swept.Removed > 2 {
			t.Fatalf("a sweep of %d: %+v", limit, *swept)
		}
		// Beside the rows that it removes a sweep looks at the tasks that may have such, and a few more.
		if cost.changed > limit+10 || cost.looked > limit+tasks+20 {
			t.Fatalf("a sweep of %d has looked at %d rows, and changed %d", limit, cost.looked, cost.changed)
		}
		mustOffer(t, s.Store, fmt.Sprint("between ", dropped))
	}
	if left := s.count("events"); left != all-dropped {
		t.Errorf("%d flushes are left, of %d, and %d were removed", left, all, dropped)
	}
}

// Sweeps of a stream that is too old look at what they remove, and not at all that they will.
func TestTrimmingIsLinear(t *testing.T) {
	const flushes, limit = 40_000, 200
	inTime(t, func(s *worked, _ *wall) {
		s.register("w1")
		task := s.start("t", store.Settings{KeepEventsFor: time.Second}).Task
		flush(s.T, s.Store, task.Incarnation, flushes, s.clock.Now())
		task.LastEvent, task.LastEmitted, task.Mark = flushes, flushes, flushes
		task.EventEpoch, task.TrimAt = 1, s.clock.Now().Add(time.Second)
		put(s.T, s.Store, task)
		advance(time.Second)
		sweeps := 0
		for more := true; more; sweeps++ {
			swept, cost := s.costs(limit)
			more = swept.More
			if cost.looked > 2*limit+20 || cost.changed > limit+10 {
				s.Fatalf("sweep %d has looked at %d rows, and changed %d", sweeps, cost.looked, cost.changed)
			}
		}
		if left := s.count("events"); left != 0 || sweeps > flushes/limit+2 {
			s.Errorf("after %d sweeps %d flushes are left", sweeps, left)
		}
	})
}

// A commit mark that does not move does not make each sweep look at the whole stream.
func TestTrimmingBehindAMarkIsBounded(t *testing.T) {
	const flushes, limit = 5_000, 100
	inTime(t, func(s *worked, _ *wall) {
		s.register("w1")
		task := s.start("t", store.Settings{KeepEventsFor: time.Second}).Task
		flush(s.T, s.Store, task.Incarnation, flushes, s.clock.Now())
		task.LastEvent, task.LastEmitted, task.EventEpoch, task.TrimAt = flushes, flushes, 1, s.clock.Now().Add(time.Second)
		put(s.T, s.Store, task)
		for range 5 {
			advance(time.Minute)
			swept, cost := s.costs(limit)
			if swept.Dropped > 0 || swept.More || cost.looked > 2*limit {
				s.Errorf("%+v, having looked at %d rows", *swept, cost.looked)
			}
		}
	})
}

func TestRemovalIsBoundedInBytes(t *testing.T) {
	s := &worked{T: t, Store: openTemp(t)}
	s.register("w1")
	const mib = 1 << 20
	e := s.start("t", store.Settings{MultiTurn: true, Steerable: true, MaxPending: 10})
	for n := range int64(12) {
		_, err := s.Checkpoint(t.Context(), &store.CheckpointRequest{
			Lease: e.Lease, Number: n + 1, Commit: true, Events: [][]byte{make([]byte, mib-3)}, // with its length 1 MiB
			Metadata: []store.Change{{Key: fmt.Sprint("k", n), Value: make([]byte, mib-3)}},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for i, size := range []int{3 * mib, 3 * mib, 12 * mib, 1} {
		req := offerReq("t")
		req.InputID, req.Input = fmt.Sprint("i", i), make([]byte, size)
		if _, err := s.Offer(t.Context(), req); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Delete(t.Context(), &store.DeleteRequest{TaskID: "t"}); err != nil {
		t.Fatal(err)
	}
	// 8 flushes; 4 flushes and turns 1 and 2; turn 3; turn 4, which is larger than a piece; turn 5 and 8 values; 4 values.
	var pieces []int
	for more := true; more; {
		swept := s.sweep(1000)
		pieces, more = append(pieces, swept.Dropped), swept.More
	}
	if got, want := fmt.Sprint(pieces), "[8 6 1 1 9 4]"; got != want {
		t.Errorf("rows in pieces: %s, want %s", got, want)
	}
	for _, table := range []string{"events", "turns", "metadata", "abandoned"} {
		if n := s.count(table); n != 0 {
			t.Errorf("%d rows are left in %s", n, table)
		}
	}
}

func TestTrimmingIsBoundedInBytes(t *testing.T) {
	s := openTemp(t)
	const mib = 1 << 20
	onWriter(t, s, func(c *conn) error {
		for i, size := range []int{5 * mib, 3 * mib, mib, 20 * mib, 1} {
			e := store.Event{Number: int64(i + 1), Kind: store.EventMessage, At: time.UnixMicro(1), Data: make([]byte, size-10*(size/mib))}
			if err := c.AppendEvents(1, []store.Event{e}); err != nil {
				return err
			}
		}
		return nil
	})
	var pieces []int
	onWriter(t, s, func(c *conn) error {
		for more := true; more; {
			n, again, err := c.DropEvents(1, 5, 100)
			if err != nil {
				return err
			}
			pieces, more = append(pieces, n), again
		}
		return nil
	})
	if got, want := fmt.Sprint(pieces), "[2 1 1]"; got != want {
		t.Errorf("rows in pieces: %s, want %s", got, want)
	}
	if events, err := emittedBy(t, s, 0, 10); err != nil || len(events) != 1 || events[0].Number != 5 {
		t.Errorf("got %v, %v; want event 5", events, err)
	}
}

func emittedBy(t *testing.T, s *Store, after int64, limit int) (events []store.Event, err error) {
	t.Helper()
	onWriter(t, s, func(c *conn) error {
		events, err = c.emitted(1, after, limit)
		return err
	})
	return events, err
}
