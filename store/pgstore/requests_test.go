package pgstore

import (
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/rules"
)

// Where no task is there to be locked, the second who uses a request ID finds out when it writes, and is run again.
func TestARequestOnAnAbsentTaskIsAppliedOnce(t *testing.T) {
	a, b := pair(t)
	register(t, a, "w") // the server is proven
	conn, err := a.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	first := a.newTx(t.Context(), conn.Conn(), direct)
	if _, err := first.begin([]*op{{id: "one", request: "r"}}); err != nil {
		t.Fatal(err)
	}
	if err := first.Remember(&rules.Request{Task: "one", ID: "r", Op: "delete 0 0", Answer: []byte(`{"Incarnation":42}`), At: first.now}); err != nil {
		t.Fatal(err)
	}
	if err := first.flush(); err != nil {
		t.Fatal(err)
	}
	answer := make(chan *store.Removed, 1)
	go func() {
		removed, err := b.Delete(t.Context(), &store.DeleteRequest{TaskID: "one", RequestID: "r"})
		if err != nil {
			t.Error(err)
		}
		answer <- removed
	}()
	untilWaits(t, b)
	if err := first.send(committing(t, first)); err != nil {
		t.Fatal(err)
	}
	if removed := <-answer; removed == nil || removed.Incarnation != 42 {
		t.Errorf("got %+v, want the first's answer", removed)
	}
}

// Many at once, in the same batches and in different ones, of two stores: one deletes, and all have its answer.
func TestARequestIsAppliedOnceOfMany(t *testing.T) {
	a, b := pair(t)
	key := mustOffer(t, a, offerReq("one")).Incarnation
	var all sync.WaitGroup
	for i := range 40 {
		s := []*Store{a, b}[i%2]
		all.Go(func() {
			removed, err := s.Delete(t.Context(), &store.DeleteRequest{TaskID: "one", RequestID: "r"})
			if err != nil || removed.Incarnation != key {
				t.Errorf("got %+v, %v; want that %d was removed", removed, err, key)
			}
		})
	}
	all.Wait()
}

// One batch that uses an ID twice remembers it once.
func TestARequestTwiceInOneBatch(t *testing.T) {
	s := guarded(t)
	mustOffer(t, s, offerReq("one"))
	var answers []*store.Removed
	deleting := func() *op {
		return &op{id: "one", request: "r", ctx: t.Context(), done: make(chan struct{}), run: func(tx *tx) error {
			removed, err := rules.Delete(tx, tx.now, &store.DeleteRequest{TaskID: "one", RequestID: "r"})
			answers = append(answers, removed)
			return err
		}}
	}
	batch := []*op{deleting(), deleting()}
	s.writer.apply(batch)
	for _, o := range batch {
		if <-o.done; o.err != nil {
			t.Error(o.err)
		}
	}
	if len(answers) != 2 || *answers[0] != *answers[1] {
		t.Errorf("got %+v, want the same answer twice, at the first try", answers)
	}
}

// committing are the last statements of a transaction.
func committing(t *testing.T, of *tx) *pgx.Batch {
	t.Helper()
	b := &pgx.Batch{}
	if err := of.queueChanges(b); err != nil {
		t.Fatal(err)
	}
	b.Queue(sqlCommit)
	return b
}
