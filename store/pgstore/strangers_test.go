package pgstore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/store"
)

// steerReq is another input for a task that runs.
func steerReq(id string) *store.OfferRequest {
	req := offerReq(id)
	req.InputID, req.Digests = "steer", []store.Digest{{Sum: "other"}}
	return req
}

// started are operations that a test has sent and that have not been answered yet.
type started []chan error

func (s *started) send(op func() error) {
	c := make(chan error, 1)
	go func() { c <- op() }()
	*s = append(*s, c)
}

func (s started) none(t *testing.T) {
	t.Helper()
	for _, c := range s {
		select {
		case err := <-c:
			t.Errorf("an operation on what others hold was answered: %v", err)
		default:
		}
	}
}

// some reports whether one has been answered.
func (s started) some() bool {
	return slices.ContainsFunc(s, func(c chan error) bool { return len(c) > 0 })
}

// all waits until each has been answered, and returns the errors.
func (s started) all() (errs []error) {
	for _, c := range s {
		errs = append(errs, <-c)
	}
	return errs
}

// open has transactions of callers' begun that hold tasks: new ones, rows, and a steer of a running task. It returns
// operations that wait for them, more than there are connections to wait on, and what ends the transactions. On a slow
// machine the first may have been refused before the last waits.
func open(t *testing.T, s *Store) (waiting *started, end func()) {
	t.Helper()
	tx := begin(t)
	for _, req := range []*store.OfferRequest{offerReq("new-1"), offerReq("new-2"), steerReq("running-1")} {
		if _, err := s.OfferTx(t.Context(), tx, req); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := tx.Exec(t.Context(), s.sql(`SELECT FROM perdure.tasks WHERE id = 'row' FOR UPDATE`)); err != nil {
		t.Fatal(err)
	}
	waiting = &started{}
	for i := range 3 * (aloneOps + againOps) {
		for _, id := range []string{"new-1", "new-2", "running-1", "row"} {
			waiting.send(func() error {
				req := steerReq(id)
				req.InputID = fmt.Sprint("waits-", i)
				_, err := s.Offer(t.Context(), req)
				return err
			})
		}
	}
	waiting.send(func() error {
		_, err := s.Delete(t.Context(), &store.DeleteRequest{TaskID: "row", RequestID: "r"})
		return err
	})
	for s.writer.waiting() < len(*waiting) && !waiting.some() {
		runtime.Gosched()
	}
	return waiting, func() { commit(t, tx) }
}

// An open transaction of a caller's delays nobody but operations on the very rows that it holds.
func TestAnOpenTransactionHoldsUpNobodyElse(t *testing.T) {
	s, _ := pair(t)
	s.writer.limit = time.Hour // nobody is refused before the transaction ends
	register(t, s, "w")
	running := map[string]store.Lease{}
	for i := range 4 {
		id := fmt.Sprint("running-", i)
		running[id] = leased(t, s, id, "w", 0)
	}
	mustOffer(t, s, offerReq("row"))
	mustOffer(t, s, offerReq("due"))
	waiting, end := open(t, s)
	ctx := t.Context()
	for _, beside := range []struct {
		what string
		op   func() error
	}{
		{"a start", func() error { _, err := s.Offer(ctx, offerReq("free")); return err }},
		{"a steer of the same worker's", func() error { _, err := s.Offer(ctx, steerReq("running-0")); return err }},
		{"a cancel", func() error {
			_, err := s.Signal(ctx, &store.SignalRequest{TaskID: "running-2", Kind: store.Cancel, RequestID: "c"})
			return err
		}},
		{"the end of a turn", func() error { _, err := s.Settle(ctx, completing(running["running-3"], "1")); return err }},
		{"a heartbeat", func() error {
			_, err := s.Heartbeat(ctx, &store.HeartbeatRequest{Worker: "w", Lease: time.Minute})
			return err
		}},
		{"mail", func() error {
			for mail, err := mailOf(t, s, "w"); ; mail, err = mailOf(t, s, "w") {
				if err != nil || len(mail) > 0 {
					return err
				}
			}
		}},
		{"a claim", func() error {
			c, err := s.Claim(ctx, &store.ClaimRequest{Worker: "w", Request: 9, Limit: 10, Funcs: []store.ClaimFunc{{Name: "f", Limit: 10}}})
			if err == nil && len(c.Entries) == 0 {
				err = errors.New("nothing was claimed")
			}
			return err
		}},
		{"a sweep", func() error { _, err := s.Sweep(ctx, 100); return err }},
		{"a read", func() error { _, err := s.Get(ctx, "row"); return err }},
	} {
		if err := beside.op(); err != nil {
			t.Errorf("%s beside an open transaction: %v", beside.what, err)
		}
	}
	waiting.none(t)
	end()
	for _, err := range waiting.all() {
		if err != nil && !errors.Is(err, store.ErrQueueFull) {
			t.Errorf("an operation on what was held, after the commit: %v", err)
		}
	}
}

// An operation on a row that a stranger holds is refused in the end, with an error that names the task.
func TestWhatIsHeldTooLongIsRefusedByName(t *testing.T) {
	s, _ := pair(t)
	same(t, "the longest wait", s.writer.limit, 3*time.Second)
	register(t, s, "w")
	lease := leased(t, s, "running-1", "w", 0)
	mustOffer(t, s, offerReq("row"))
	waiting, end := open(t, s)
	for _, err := range waiting.all() {
		if held, ok := errors.AsType[*store.LockedError](err); !ok || held.TaskID == "" {
			t.Errorf("got %v, want an error that names the task", err)
		}
	}
	_, err := s.Settle(t.Context(), completing(lease, "1"))
	if held, ok := errors.AsType[*store.LockedError](err); !ok || held.Incarnation != lease.Incarnation {
		t.Errorf("got %v, want an error that names the incarnation", err)
	}
	end()
	mustOffer(t, s, offerReq("new-1"))
	if _, err := s.Settle(t.Context(), completing(lease, "1")); err != nil {
		t.Errorf("after the commit: %v", err)
	}
}

// However many operations wait for a task that somebody holds, one looks whether it is free. They leave the ways of others
// free, and have no more than their time.
func TestOneOfThoseThatWaitForATaskLooks(t *testing.T) {
	s, _ := pair(t)
	register(t, s, "w")
	lease := leased(t, s, "running-1", "w", 0)
	mustOffer(t, s, offerReq("row"))
	s.writer.limit = time.Hour
	waiting, end := open(t, s)
	for range aloneOps { // what waits must not need them
		s.writer.alone <- struct{}{}
	}
	s.writer.limit = 20 * time.Millisecond
	held := &started{}
	for i := range 100 {
		held.send(func() error {
			_, err := s.Signal(t.Context(), &store.SignalRequest{TaskID: "row", Kind: store.Cancel, RequestID: fmt.Sprint("c", i)})
			return err
		})
	}
	for _, err := range held.all() {
		if _, ok := errors.AsType[*store.LockedError](err); !ok {
			t.Errorf("got %v, want that the task is held", err)
		}
	}
	for range aloneOps {
		<-s.writer.alone
	}
	end()
	for _, err := range waiting.all() {
		if err != nil && !errors.Is(err, store.ErrQueueFull) {
			t.Errorf("after the commit: %v", err)
		}
	}
	if _, err := s.Settle(t.Context(), completing(lease, "1")); err != nil {
		t.Errorf("after the commit: %v", err)
	}
	same(t, "tasks that are still waited for", len(s.writer.held), 0)
}

// Tasks of a dead worker are put back beside one that a stranger holds, and that one when it is free.
func TestAHeldTaskDoesNotKeepOthersOfADeadWorker(t *testing.T) {
	s, _ := pair(t)
	register(t, s, "dead")
	for _, id := range []string{"one", "held", "two"} {
		leased(t, s, id, "dead", 0)
	}
	register(t, s, "w")
	if _, err := s.pool.Exec(t.Context(), s.sql(`UPDATE perdure.workers SET expires_at = 1, beat_at = 0 WHERE id = 'dead'`)); err != nil {
		t.Fatal(err)
	}
	tx := begin(t)
	if _, err := s.OfferTx(t.Context(), tx, steerReq("held")); err != nil {
		t.Fatal(err)
	}
	claim := func(request int64) *store.Claimed {
		t.Helper()
		c, err := s.Claim(t.Context(), &store.ClaimRequest{Worker: "w", Request: request, Limit: 10, Funcs: []store.ClaimFunc{{Name: "f", Limit: 10}}})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := claim(1)
	same(t, "put back beside what is held", c.Put, 2)
	same(t, "claimed", len(c.Entries), 2)
	same(t, "to be claimed again at once", c.More, false)
	same(t, "put back while it is held", claim(2).Put, 0)
	commit(t, tx)
	c = claim(3)
	same(t, "put back after the commit", c.Put, 1)
	same(t, "claimed after the commit", len(c.Entries), 1)
	p, err := s.Poll(t.Context(), &store.PollRequest{Worker: "w"})
	if err != nil || p.Due {
		t.Errorf("the dead worker is still there: %+v, %v", p, err)
	}
}

// What a caller's transaction cannot have, it is refused in time; and its own settings are as they were.
func TestOfferTxWaitsNoLongerThanItMay(t *testing.T) {
	s, _ := pair(t)
	mustOffer(t, s, offerReq("row"))
	unlock := lockedTask(t, s, `SELECT FROM perdure.tasks WHERE id = 'row' FOR UPDATE`)
	for own, want := range map[string]string{"0": "0", "20ms": "20ms", "1min": "1min"} {
		tx := begin(t)
		if _, err := tx.Exec(t.Context(), `SELECT set_config('lock_timeout', $1, true)`, own); err != nil {
			t.Fatal(err)
		}
		_, err := s.OfferTx(t.Context(), tx, steerReq("row"))
		if held, ok := errors.AsType[*store.LockedError](err); !ok || held.TaskID != "row" {
			t.Errorf("lock_timeout %s: got %v, want an error that names the task", own, err)
		}
		if _, err := s.OfferTx(t.Context(), tx, offerReq("beside-"+own)); err != nil {
			t.Errorf("lock_timeout %s: the transaction is of no use any more: %v", own, err)
		}
		var after string
		if err := tx.QueryRow(t.Context(), `SELECT current_setting('lock_timeout')`).Scan(&after); err != nil || after != want {
			t.Errorf("lock_timeout after it: %s, %v; want %s", after, err, want)
		}
		commit(t, tx)
	}
	unlock()
}

// Mail that was written first and committed last is read all the same.
func TestMailIsReadInWhateverOrderItIsCommitted(t *testing.T) {
	s, _ := pair(t)
	register(t, s, "w")
	leased(t, s, "one", "w", 0)
	leased(t, s, "two", "w", 0)
	tx := begin(t)
	if _, err := s.OfferTx(t.Context(), tx, steerReq("one")); err != nil {
		t.Fatal(err)
	}
	mustOffer(t, s, steerReq("two"))
	first, err := mailOf(t, s, "w")
	if err != nil || len(first) != 1 || first[0].TaskID != "two" {
		t.Fatalf("mail beside an open transaction: %v, %v", first, err)
	}
	commit(t, tx)
	p, err := s.Poll(t.Context(), &store.PollRequest{Worker: "w", Seen: []int64{first[0].Seq}})
	if err != nil || len(p.Mail) != 1 || p.Mail[0].TaskID != "one" || p.Mail[0].Seq >= first[0].Seq {
		t.Errorf("mail after the commit: %+v, %v", p, err)
	}
}

// A table that somebody has locked is waited for.
func TestALockedTableIsWaitedFor(t *testing.T) {
	s, _ := pair(t)
	unlock := lockedTask(t, s, `LOCK TABLE perdure.tasks IN ACCESS EXCLUSIVE MODE`)
	var waiting started
	for i := range 20 {
		waiting.send(func() error { _, err := s.Offer(context.Background(), offerReq(fmt.Sprint(i))); return err })
	}
	untilWaits(t, s)
	unlock()
	for _, err := range waiting.all() {
		if err != nil {
			t.Errorf("after the table was free again: %v", err)
		}
	}
}

// Readers take no more connections than they may, and no worker waits for them.
func TestReadersAreBounded(t *testing.T) {
	s, _ := pair(t)
	register(t, s, "w")
	mustOffer(t, s, offerReq("row"))
	unlock := lockedTask(t, s, `LOCK TABLE perdure.tags, perdure.tasks IN ACCESS EXCLUSIVE MODE`)
	var reads started
	for range 5 * s.opts.Readers {
		reads.send(func() error { _, err := s.Get(context.Background(), "row"); return err })
	}
	for len(s.readers) < s.opts.Readers {
		runtime.Gosched()
	}
	for range 10 {
		if _, err := s.Heartbeat(t.Context(), &store.HeartbeatRequest{Worker: "w", Lease: time.Minute}); err != nil {
			t.Errorf("a heartbeat beside readers: %v", err)
		}
	}
	if n := s.pool.Stat().AcquiredConns(); int(n) > s.opts.Readers {
		t.Errorf("readers hold %d connections, want %d", n, s.opts.Readers)
	}
	reads.none(t)
	unlock()
	for _, err := range reads.all() {
		if err != nil {
			t.Error(err)
		}
	}
}

// What is left out while it waits in the queue keeps nothing there of what it wanted to write.
func TestWhatIsLeftOutLeavesNothingInTheQueue(t *testing.T) {
	w := &writer{wake: make(chan struct{}, 1)} // nobody takes
	ctx, cancel := context.WithCancel(t.Context())
	gone := &op{ctx: ctx, offer: offerReq("gone"), size: batchBytes, run: func(*tx) error { return nil }}
	var sent started
	sent.send(func() error { return w.do(gone) })
	<-w.wake
	cancel()
	if err := sent.all()[0]; err != context.Canceled {
		t.Errorf("got %v, want the context's error", err)
	}
	if gone.offer != nil || gone.run != nil || gone.size != 0 {
		t.Errorf("the queue keeps %+v", gone)
	}
	if batch := w.fill(nil); len(batch) != 0 || len(w.queue) != 0 {
		t.Errorf("%d operations are written that were left out, and %d wait", len(batch), len(w.queue))
	}
}

// What a stranger holds beside the task is named, to all who wait: the mailbox of a worker of an older version's, say, which who
// sends mail to it locks.
func TestWhatIsHeldBesideATaskIsNamed(t *testing.T) {
	s, _ := pair(t)
	register(t, s, "w")
	leased(t, s, "one", "w", 0)
	if err := execute(t, s.sql(`INSERT INTO perdure.mailboxes (worker) VALUES ('w')`)); err != nil {
		t.Fatal(err)
	}
	for what, lock := range map[string]string{
		"a row of table mailboxes": `SELECT FROM perdure.mailboxes WHERE worker = 'w' FOR UPDATE`,
		"":                         `SELECT FROM perdure.tasks WHERE id = 'one' FOR UPDATE`,
	} {
		unlock := lockedTask(t, s, lock)
		var waiting started
		for i := range 4 {
			waiting.send(func() error {
				_, err := s.Signal(context.Background(), &store.SignalRequest{TaskID: "one", Kind: store.Cancel, RequestID: fmt.Sprint(what, i)})
				return err
			})
		}
		for _, err := range waiting.all() {
			held, ok := errors.AsType[*store.LockedError](err)
			if !ok || held.TaskID != "one" || held.What != what || !strings.Contains(err.Error(), what) {
				t.Errorf("%s: got %v", lock, err)
			}
		}
		unlock()
	}
}
