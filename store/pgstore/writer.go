package pgstore

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

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
	claim  *store.ClaimRequest
	beat   *store.HeartbeatRequest
	size   int

	taken atomic.Bool // by a writer, or by a caller who gave up
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

// do queues an operation and waits for its result. When ctx ends first, an operation that has not begun
// is left out.
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
		return o.err
	case <-o.ctx.Done():
		o.taken.Store(true)
		return o.ctx.Err()
	}
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
			if batch = w.take(batch[:0]); len(batch) == 0 {
				break
			}
			w.apply(batch)
			clear(batch)
			runtime.Gosched() // whom we have answered may have more for the next batch
		}
	}
	for batch = w.take(batch[:0]); len(batch) > 0; batch = w.take(batch[:0]) {
		w.apply(batch)
	}
}

// take moves the next batch from the queue.
func (w *writer) take(batch []*op) []*op {
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
	batch = slices.DeleteFunc(batch, func(o *op) bool { return o.taken.Swap(true) })
	if len(batch) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), batchTime)
	defer cancel()
	busy, err := w.s.transact(ctx, batch, false)
	for range tries {
		if !contended(err) {
			break
		}
		busy, err = w.s.transact(ctx, batch, false)
	}
	for _, o := range batch {
		switch {
		case slices.Contains(busy, o), err != nil && len(batch) > 1 && refused(err):
			w.goAlone(o)
		default:
			o.answer(err)
		}
	}
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
		w.alone <- struct{}{}
		defer func() { <-w.alone }()
		ctx, cancel := context.WithTimeout(o.ctx, batchTime)
		defer cancel()
		o.answer(w.s.single(ctx, o))
	})
}

// single runs one operation in a transaction of its own, more than once if the database refuses it for reasons of
// others.
func (s *Store) single(ctx context.Context, o *op) error {
	var err error
	for range tries {
		var busy []*op
		busy, err = s.transact(ctx, []*op{o}, true)
		if err == nil && len(busy) > 0 {
			err = errBusy
		}
		if !contended(err) || ctx.Err() != nil {
			break
		}
	}
	return err
}

// direct runs one operation beside the batches, on the caller's goroutine.
func direct[T any](ctx context.Context, s *Store, o *op, f func(rules.Rows, time.Time) (T, error)) (T, error) {
	var out, none T
	o.run = func(t *tx) (err error) {
		out, err = f(t, t.now)
		return err
	}
	if s.writer.isClosed() {
		return none, store.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return none, err
	}
	err := s.single(ctx, o)
	if err == nil {
		err = o.err
	}
	if err != nil {
		if ctx.Err() != nil && !store.Definite(err) {
			err = ctx.Err()
		}
		return none, s.explain(err)
	}
	return out, nil
}

func (w *writer) isClosed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed
}

// transact applies operations in one transaction. Each has its own answer in op.err; the error is of all. Busy ones
// have not been applied.
func (s *Store) transact(ctx context.Context, ops []*op, wait bool) (busy []*op, err error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
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
		return nil, err
	}
	s.news.add(&t.news)
	return busy, nil
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

// contended reports whether the database did not apply a transaction because of what others did at the same time.
func contended(err error) bool {
	if errors.Is(err, errBusy) {
		return true
	}
	answer, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return false
	}
	switch answer.Code {
	case pgerrUnique, pgerrSerialization, pgerrDeadlock, pgerrLockTimeout, pgerrIdle:
		return true
	}
	return false
}

// Codes of errors that another try may not have.
const (
	pgerrUnique        = "23505" // somebody else has made the same task
	pgerrSerialization = "40001"
	pgerrDeadlock      = "40P01"
	pgerrLockTimeout   = "55P03"
	pgerrIdle          = "25P03" // this process was too slow
)

// refused reports whether it was the content of a transaction that the database did not take: then one operation is
// at fault, or a few.
func refused(err error) bool {
	answer, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return contended(err)
	}
	switch answer.Code[:2] {
	case "08", "53", "57", "58": // connection, resources, shutdown, system
		return false
	}
	return true
}
