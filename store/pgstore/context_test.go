package pgstore

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/perdure/perdure/internal/pgtest"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/storetest"
)

func TestContexts(t *testing.T) {
	url := pgtest.URL(t)
	storetest.RunContexts(t, func(t *testing.T) store.Store { return openAt(t, url, Options{Schema: pgtest.Schema(t, url)}) })
}

// lockedTask locks rows until the returned function is called.
func lockedTask(t *testing.T, s *Store, sql string) (unlock func()) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), pgtest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { hangUp(conn) })
	tx, err := conn.Begin(t.Context())
	if err == nil {
		_, err = tx.Exec(t.Context(), s.sql(sql))
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() { commit(t, tx) }
}

// waiting is how many operations of a store wait for what others hold.
func (w *writer) waiting() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, of := range w.held {
		n += of.waiting
	}
	return n
}

// untilWaits waits until an operation of a store waits for a lock.
func untilWaits(t *testing.T, s *Store) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), pgtest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer hangUp(conn)
	for n := 0; n == 0 && (s.writer == nil || s.writer.waiting() == 0); {
		err := conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%'||$1||'%'`, s.opts.Schema).Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
	}
}

// What has begun goes to its end although its caller's context has ended, and its answer is heard of.
func TestWhatHasBegunOutlivesItsContext(t *testing.T) {
	const worker, task = `SELECT FROM perdure.workers FOR UPDATE`, `SELECT FROM perdure.tasks FOR UPDATE`
	for name, c := range map[string]struct {
		lock  string
		write func(context.Context, *Store, store.Lease) error
	}{
		"Heartbeat": {worker, func(ctx context.Context, s *Store, _ store.Lease) error {
			_, err := s.Heartbeat(ctx, &store.HeartbeatRequest{Worker: "w", Lease: time.Minute})
			return err
		}},
		"Claim": {worker, func(ctx context.Context, s *Store, _ store.Lease) error {
			_, err := s.Claim(ctx, &store.ClaimRequest{Worker: "w", Request: 2})
			return err
		}},
		"Settle": {task, func(ctx context.Context, s *Store, lease store.Lease) error {
			_, err := s.Settle(ctx, completing(lease, "1"))
			return err
		}},
		"Offer": {worker, func(ctx context.Context, s *Store, _ store.Lease) error {
			req := offerReq("two")
			req.Lease, req.Worker, req.Request = true, "w", 2
			_, err := s.Offer(ctx, req)
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := guarded(t)
			lease := leased(t, s, "one", "w", 0)
			unlock := lockedTask(t, s, c.lock)
			ctx, cancel := context.WithCancel(t.Context())
			answer := make(chan error, 1)
			go func() { answer <- c.write(ctx, s, lease) }()
			untilWaits(t, s)
			cancel()
			unlock()
			if err := <-answer; err != nil {
				t.Errorf("got %v, want the answer", err)
			}
		})
	}
}

// onOne returns a store on a pool of one connection, and that connection.
func onOne(t *testing.T) (*Store, *pgxpool.Conn) {
	t.Helper()
	url := pgtest.URL(t)
	s := openAt(t, url+"&pool_max_conns=1", Options{Schema: pgtest.Schema(t, url), PollOnly: true})
	register(t, s, "w")
	conn, err := s.writes.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s, conn
}

// What waits for a connection is left out when its context ends.
func TestWhatWaitsForAConnectionEndsWithItsContext(t *testing.T) {
	s, taken := onOne(t)
	beats, err := s.beats.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer beats.Release()
	for name, write := range map[string]func(context.Context) error{
		"Heartbeat": func(ctx context.Context) error {
			_, err := s.Heartbeat(ctx, &store.HeartbeatRequest{Worker: "late", Lease: time.Minute, First: true})
			return err
		},
		"Offer": func(ctx context.Context) error {
			_, err := s.Offer(ctx, offerReq("late"))
			return err
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		began := time.Now()
		if err := write(ctx); err != context.DeadlineExceeded || time.Since(began) > batchTime/2 {
			t.Errorf("%s that waits for a connection: %v after %v", name, err, time.Since(began))
		}
		cancel()
	}
	taken.Release()
	if _, err := s.Get(t.Context(), "late"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an input that was left out: %v", err)
	}
	if workers, err := s.Workers(t.Context()); err != nil || len(workers) != 1 {
		t.Errorf("a worker that was left out: %v, %v", workers, err)
	}
	mustOffer(t, s, offerReq("next"))
}

// What waits for its turn to go alone is left out when its context ends.
func TestWhatWaitsToGoAloneEndsWithItsContext(t *testing.T) {
	s := guarded(t)
	for range aloneOps {
		s.writer.alone <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	o := &op{ctx: ctx, done: make(chan struct{}), run: func(*tx) error {
		t.Error("it was run")
		return nil
	}}
	s.writer.goAlone(o)
	cancel()
	if <-o.done; o.err != context.Canceled {
		t.Errorf("got %v, want the context's error", o.err)
	}
	for range aloneOps {
		<-s.writer.alone
	}
}

// A database that does not answer in time is not told as the end of a caller's context.
func TestNoAnswerIsNoContextsError(t *testing.T) {
	for _, err := range []error{context.Canceled, context.DeadlineExceeded} {
		if got := unanswered(err); errors.Is(got, err) || store.Definite(got) {
			t.Errorf("%v is told as %v", err, got)
		}
	}
}

// A server that does not accept a connection holds up heartbeats and polls, of one connection each, for seconds.
func TestNoConnectionIsWaitedForLong(t *testing.T) {
	s := onPool(t, func(*pgxpool.Config) {})
	for name, lane := range map[string]*pgxpool.Pool{"heartbeats": s.beats, "polls": s.polls} {
		c := lane.Config()
		same(t, "time to connect for "+name, c.ConnConfig.ConnectTimeout, answerWithin)
		same(t, "time to answer for "+name, c.PingTimeout, answerWithin)
	}
}
