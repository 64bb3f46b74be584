package pgstore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/rules"
)

// Bounds of one transaction (rule P3), and of what goes beside the batches.
const (
	batchOps   = 512
	batchBytes = 8 << 20
	batchTime  = 10 * time.Second // with a database that does not answer
	aloneOps   = 8
	tries      = 5 // of a transaction that the database refuses for reasons of others
)

// writer collects operations. Its goroutines take what has been queued, apply it in one transaction, and answer each
// caller (group commit): they begin at once when idle, and a batch grows only while those before it are written.
type writer struct {
	s     *Store
	wake  chan struct{}
	alone chan struct{} // holds a token for each operation that goes alone
	wg    sync.WaitGroup

	mu     sync.Mutex
	queue  []*op
	closed bool
}

// op is one operation, and what it names: what is locked and read before it runs. Its run may be called again after
// a rollback.
type op struct {
	ctx    context.Context
	run    func(*tx) error
	id     string // of its task
	key    int64  // its task's incarnation
	worker string
	offer  *store.OfferRequest
	settle *store.SettleRequest
	beat   *store.HeartbeatRequest
	size   int

	request string // by which a repeat is recognised
	waits   bool   // its task is likely to begin to wait for a worker

	taken atomic.Bool // by a writer, which will answer it, or by its caller, whose context has ended
	err   error
	done  chan struct{}
}

func newWriter(s *Store) *writer {
	n := s.opts.Writers
	w := &writer{s: s, wake: make(chan struct{}, n), alone: make(chan struct{}, aloneOps)}
	for range n {
		w.wg.Go(w.loop)
	}
	return w
}

// do queues an operation and waits for its result. When its context ends first, an operation that has not begun is
// left out.
func (w *writer) do(o *op) error {
	o.done = make(chan struct{})
	if err := o.ctx.Err(); err != nil {
		return err
	}
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return store.ErrClosed
	}
	w.queue = append(w.queue, o)
	w.signal()
	w.mu.Unlock()
	select {
	case <-o.done:
	case <-o.ctx.Done():
		if !o.taken.Swap(true) {
			return o.ctx.Err()
		}
		<-o.done
	}
	return o.err
}

// signal wakes a writer. w.mu is held, so that the channel is not closed meanwhile.
func (w *writer) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// close lets what is queued end, and ends the goroutines.
func (w *writer) close() {
	w.mu.Lock()
	if !w.closed {
		close(w.wake)
	}
	w.closed = true
	w.mu.Unlock()
	w.wg.Wait()
}

// loop is a writer's goroutine.
func (w *writer) loop() {
	var batch []*op
	for range w.wake {
		for {
			if batch = w.fill(batch[:0]); len(batch) == 0 {
				break
			}
			w.apply(batch)
			clear(batch)
			runtime.Gosched() // whom we have answered may have more for the next batch
		}
	}
	for batch = w.fill(batch[:0]); len(batch) > 0; batch = w.fill(batch[:0]) {
		w.apply(batch)
	}
}

// fill moves the next batch from the queue.
func (w *writer) fill(batch []*op) []*op {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, size := 0, 0
	for n < len(w.queue) && n < batchOps && (n == 0 || size+w.queue[n].size <= batchBytes) {
		size += w.queue[n].size
		n++
	}
	batch = append(batch, w.queue[:n]...)
	w.queue = slices.Delete(w.queue, 0, n)
	return batch
}

// apply writes a batch and answers it. An operation whose task others have locked goes again alone and waits; when
// the batch fails as a whole, each goes again alone, so that the failure of one does not become its neighbours'.
func (w *writer) apply(batch []*op) {
	within, cancel := bounded()
	defer cancel()
	conn, err := w.s.connection(context.Background(), within)
	batch = slices.DeleteFunc(batch, func(o *op) bool { return o.taken.Swap(true) })
	if len(batch) == 0 && err == nil {
		conn.Release()
		return
	}
	var busy []*op
	for n := 0; err == nil; n++ {
		busy, err = w.s.transact(within, conn, batch, false)
		if !contended(err) || n == tries {
			break
		}
		conn, err = w.s.connection(context.Background(), within)
	}
	for _, o := range batch {
		switch {
		case slices.Contains(busy, o), refused(err) && (len(batch) > 1 || ofContent(err)):
			w.goAlone(o)
		default:
			o.answer(err)
		}
	}
}

// bounded returns a context for what has begun, whatever becomes of its caller's.
func bounded() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), batchTime)
}

// answer answers an operation whose transaction has ended.
func (o *op) answer(err error) {
	if err != nil {
		o.err = err
	}
	close(o.done)
}

// goAlone writes one operation in a transaction of its own, which waits for locks.
func (w *writer) goAlone(o *op) {
	w.wg.Go(func() {
		select {
		case w.alone <- struct{}{}:
		case <-o.ctx.Done():
			o.answer(o.ctx.Err())
			return
		}
		defer func() { <-w.alone }()
		o.answer(w.s.judge(w.s.single(o)))
	})
}

// single runs one operation in a transaction of its own, more than once if the database refuses it for reasons of
// others. It is left out when its context ends while it waits for a connection.
func (s *Store) single(o *op) (err error) {
	within, cancel := bounded()
	defer cancel()
	for n := 0; n == 0 || contended(err) && n < tries; n++ {
		var conn *pgxpool.Conn
		if conn, err = s.connection(o.ctx, within); err != nil {
			break
		}
		var busy []*op
		if busy, err = s.transact(within, conn, []*op{o}, true); len(busy) > 0 {
			err = errBusy
		}
	}
	return err
}

// direct runs one operation beside the batches, on the caller's goroutine.
func direct[T any](ctx context.Context, s *Store, o *op, req request, f func(rules.Rows, time.Time) (T, error)) (T, error) {
	var out, none T
	if err := req.Valid(); err != nil {
		return none, err
	}
	o.ctx = ctx
	o.run = func(t *tx) (err error) {
		out, err = f(t, t.now)
		return err
	}
	if s.writer.isClosed() {
		return none, store.ErrClosed
	}
	err := s.single(o)
	if err == nil {
		err = o.err
	}
	if err != nil {
		return none, s.explain(err)
	}
	return out, nil
}

func (w *writer) isClosed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed
}

// connection waits for a connection while both contexts live, the caller's and that of what it is for.
func (s *Store) connection(caller, within context.Context) (*pgxpool.Conn, error) {
	ctx, stop := context.WithCancel(within)
	defer stop()
	defer context.AfterFunc(caller, stop)()
	conn, err := s.pool.Acquire(ctx)
	switch {
	case caller.Err() != nil:
		if err == nil {
			conn.Release()
		}
		return nil, caller.Err()
	case err != nil:
		return nil, unanswered(err)
	}
	return conn, nil
}

// transact applies operations in one transaction, and gives the connection back. Each has its own answer in op.err; the
// error is of all. Busy ones have not been applied.
func (s *Store) transact(ctx context.Context, conn *pgxpool.Conn, ops []*op, wait bool) (busy []*op, err error) {
	defer conn.Release()
	t := s.newTx(ctx, conn.Conn(), wait)
	if busy, err = t.begin(ops); err == nil {
		err = t.apply(ops, busy)
	}
	if err == nil {
		err = t.commit()
	}
	if err != nil {
		rollback(conn.Conn())
		return nil, unanswered(err)
	}
	s.news.add(&t.news)
	return busy, nil
}

// unanswered returns an error of the database. That the time for an answer was up, or for a connection, is not told as the
// end of a caller's context.
func unanswered(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer in time: %v", err)
	}
	return err
}

// apply runs the operations' rules. Only an answer of the store lets the others go on.
func (t *tx) apply(ops, busy []*op) error {
	for _, o := range ops {
		if slices.Contains(busy, o) {
			continue
		}
		o.err = o.run(t)
		if o.err != nil && !store.Definite(o.err) {
			return o.err
		}
	}
	return nil
}
