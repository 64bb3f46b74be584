package pgstore

import (
	"bytes"
	"testing"
	"time"

	"github.com/perdure/perdure/store"
)

// rowsOf counts what a task has beside its own row.
func rowsOf(t *testing.T, s *Store, key int64) (n int) {
	t.Helper()
	err := s.pool.QueryRow(t.Context(), s.sql(`SELECT (SELECT count(*) FROM perdure.events WHERE task = $1)
		+ (SELECT count(*) FROM perdure.turns WHERE task = $1) + (SELECT count(*) FROM perdure.metadata WHERE task = $1)`), key).Scan(&n)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// heavy makes a task with rows of events of a megabyte each.
func heavy(t *testing.T, s *Store, id string, rows int, change func(*store.Settings)) store.Lease {
	t.Helper()
	req := offerReq(id)
	req.Lease, req.Worker, req.Request = true, "w", 1
	change(req.Settings)
	lease := mustOffer(t, s, req).Entry.Lease
	for i := range rows {
		_, err := s.Checkpoint(t.Context(), &store.CheckpointRequest{
			Lease: lease, Number: int64(i + 1), Commit: true, Events: [][]byte{bytes.Repeat([]byte("x"), mega)},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return lease
}

// sweeps sweeps until there is nothing more to do, and returns how many rows each has removed.
func sweeps(t *testing.T, s *Store, limit int) (dropped []int) {
	t.Helper()
	for more := true; more; {
		swept, err := s.Sweep(t.Context(), limit)
		if err != nil {
			t.Fatal(err)
		}
		if more = swept.More; swept.Dropped > 0 {
			dropped = append(dropped, swept.Dropped)
		}
	}
	return dropped
}

func TestSweepsRemoveAPieceOfBytesAtATime(t *testing.T) {
	for name, remove := range map[string]func(*Store, store.Lease, *clock){
		"Deleted": func(s *Store, _ store.Lease, _ *clock) {
			if _, err := s.Delete(t.Context(), &store.DeleteRequest{TaskID: "t"}); err != nil {
				t.Fatal(err)
			}
		},
		"Expired": func(s *Store, lease store.Lease, c *clock) {
			settle(t, s, completing(lease, "1"))
			c.advance(time.Minute)
		},
	} {
		t.Run(name, func(t *testing.T) {
			o, s := sideBySide(t)
			serve(t, s, "w")
			lease := heavy(t, s, "t", 20, func(own *store.Settings) { own.Keep = time.Second })
			remove(s, lease, o.clock)
			dropped := sweeps(t, s, 1000)
			if len(dropped) < 2 || dropped[0] > 9 {
				t.Errorf("sweeps have removed %v rows of a megabyte", dropped)
			}
			same(t, "rows that are left", rowsOf(t, s, lease.Incarnation), 0)
		})
	}
}

func TestTrimsRemoveAPieceOfBytesAtATime(t *testing.T) {
	s := guarded(t)
	lease := heavy(t, s, "t", 20, func(own *store.Settings) { own.KeepEvents = 1 })
	dropped := sweeps(t, s, 1000)
	if len(dropped) < 2 || dropped[0] > 9 {
		t.Errorf("sweeps have removed %v rows of a megabyte", dropped)
	}
	same(t, "rows that are left", rowsOf(t, s, lease.Incarnation), 2) // an event and the turn
}

// A row that is larger than what a sweep removes goes all the same.
func TestSweepsRemoveOneRowAtLeast(t *testing.T) {
	s := guarded(t)
	req := offerReq("t")
	req.Input = bytes.Repeat([]byte("x"), 10*mega)
	key := mustOffer(t, s, req).Incarnation
	if _, err := s.Delete(t.Context(), &store.DeleteRequest{TaskID: "t"}); err != nil {
		t.Fatal(err)
	}
	if dropped := sweeps(t, s, 1000); len(dropped) != 1 || dropped[0] != 1 {
		t.Errorf("sweeps have removed %v rows", dropped)
	}
	same(t, "rows that are left", rowsOf(t, s, key), 0)
}

func TestTwoSweepsAtOnceRemoveDifferentTasks(t *testing.T) {
	a, b := pair(t)
	var keys []int64
	for _, id := range []string{"one", "two"} {
		keys = append(keys, mustOffer(t, a, offerReq(id)).Incarnation)
		if _, err := a.Delete(t.Context(), &store.DeleteRequest{TaskID: id}); err != nil {
			t.Fatal(err)
		}
	}
	unlock := lockedTask(t, a, `SELECT FROM perdure.removed ORDER BY task LIMIT 1 FOR UPDATE`)
	same(t, "rows removed beside the first", sweep(t, b).Dropped, 1)
	same(t, "rows of the first", rowsOf(t, a, keys[0]), 1)
	same(t, "rows of the second", rowsOf(t, a, keys[1]), 0)
	unlock()
	same(t, "rows removed of the first", sweep(t, b).Dropped, 1)
}
