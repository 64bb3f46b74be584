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

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/rules"
)

// Bounds of one transaction (rule P3), and of what goes beside the batches.
const (
	batchOps   = 512
	batchBytes = 8 << 20
	batchTime  = 10 * time.Second // with a database that does not answer
	aloneOps   = 3                // that go alone for the first time
	againOps   = 1                // that go alone and have met a lock before
	tries      = 5                // of a transaction that the database refuses for reasons of others
)

// How long an operation waits for what others have locked, before it is refused, and between two looks at it.
const (
	lockLimit  = 3 * time.Second
	firstPause = 2 * time.Millisecond
	maxPause   = 250 * time.Millisecond
)

// writer collects operations. Its goroutines take what has been queued, apply it in one transaction, and answer each
// caller (group commit): they begin at once when idle, and a batch grows only while those before it are written.
type writer struct {
	s     *Store
	wake  chan struct{}
	alone chan struct{} // holds a token for each operation that goes alone for the first time
	again chan struct{} // and for each that does once more
	limit time.Duration // how long an operation waits for what others have locked: lockLimit
	wg    sync.WaitGroup

	mu     sync.Mutex
	queue  []*op
	held   map[string]*held // tasks, as operations name them, of which others hold what operations wait for
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
	w := &writer{
		s: s, wake: make(chan struct{}, n), held: map[string]*held{},
		alone: make(chan struct{}, aloneOps), again: make(chan struct{}, againOps), limit: lockLimit,
	}
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
			w.drop(o)
			return o.ctx.Err()
		}
		<-o.done
	}
	return o.err
}

// drop lets go of what an operation that is left out wanted to write, while its place is still in the queue.
func (w *writer) drop(o *op) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o.run, o.offer, o.settle, o.size = nil, nil, nil, 0
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

// fill moves the next batch from the queue, without what has been left out.
func (w *writer) fill(batch []*op) []*op {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, size := 0, 0
	for n < len(w.queue) && len(batch) < batchOps && (len(batch) == 0 || size+w.queue[n].size <= batchBytes) {
		if o := w.queue[n]; !o.taken.Load() {
			batch = append(batch, o)
			size += o.size
		}
		n++
	}
	w.queue = slices.Delete(w.queue, 0, n)
	return batch
}

// apply writes a batch and answers it, without what has been left out while it waited for a connection. What is about a
// task that others hold goes alone.
func (w *writer) apply(batch []*op) {
	within, cancel := bounded()
	defer cancel()
	conn, err := w.s.connection(context.Background(), within, w.s.writes)
	batch = slices.DeleteFunc(batch, func(o *op) bool {
		if o.taken.Swap(true) {
			return true
		}
		held := err == nil && w.isHeld(o.about())
		if held {
			w.goAlone(o)
		}
		return held
	})
	switch {
	case err != nil:
		answer(batch, err)
	case len(batch) == 0:
		conn.Release()
	default:
		w.write(within, conn, batch)
	}
}

// write writes operations together, and answers them. It waits for nobody: an operation about a row that others have locked
// goes again alone. When the transaction fails as a whole, because of the content of one or of what others do, its halves
// are written apart, so that the failure of one does not become its neighbours'.
func (w *writer) write(within context.Context, conn *pgxpool.Conn, ops []*op) {
	busy, err := w.s.together(within, conn, ops)
	switch {
	case len(ops) > 1 && refused(err):
		for _, half := range [][]*op{ops[:len(ops)/2], ops[len(ops)/2:]} {
			w.writeHalf(half)
		}
	case ofContent(err) || locked(err) && !errors.Is(err, errTable):
		w.goAlone(ops[0])
	case err != nil:
		answer(ops, err)
	default:
		for _, o := range ops {
			if slices.Contains(busy, o) {
				w.goAlone(o)
			} else {
				o.answer(nil)
			}
		}
	}
}

func (w *writer) writeHalf(ops []*op) {
	within, cancel := bounded()
	defer cancel()
	conn, err := w.s.connection(context.Background(), within, w.s.writes)
	if err != nil {
		answer(ops, err)
		return
	}
	w.write(within, conn, ops)
}

// together makes one transaction of operations, more than once if the database refuses it for reasons of others. A table
// that somebody has locked is waited for: nothing can be written anyway.
func (s *Store) together(within context.Context, conn *pgxpool.Conn, ops []*op) (busy []*op, err error) {
	for n := 0; ; {
		busy, err = s.transact(within, conn, ops, inBatch)
		switch {
		case s.tableLocked(within, err):
			if !pause(within, maxPause) {
				return nil, fmt.Errorf("%w: %w", errTable, err)
			}
		case locked(err), !contended(err), n == tries:
			return busy, err
		default:
			n++
		}
		if conn, err = s.connection(context.Background(), within, s.writes); err != nil {
			return nil, err
		}
	}
}

// pause waits; it reports false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
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

// answer answers operations that have failed together.
func answer(ops []*op, err error) {
	for _, o := range ops {
		o.answer(err)
	}
}

// goAlone writes one operation in a transaction of its own.
func (w *writer) goAlone(o *op) {
	w.wg.Go(func() { o.answer(w.s.judge(w.insist(o))) })
}

// insist writes one operation alone. While others have locked what it is about it waits, and holds no connection
// meanwhile; in the end it gives up. It is left out when its context ends before the first time.
func (w *writer) insist(o *op) error {
	limit, cancel := context.WithTimeout(context.Background(), w.limit)
	defer cancel()
	met := errBusy
	if !w.isHeld(o.about()) {
		select {
		case w.alone <- struct{}{}:
		case <-o.ctx.Done():
			return o.ctx.Err()
		}
		err := errBusy
		if !w.isHeld(o.about()) { // since
			err = w.s.single(o.ctx, o, w.s.writes, goneAlone)
		}
		<-w.alone
		if !locked(err) {
			return err
		}
	}
	for limit.Err() == nil {
		if met = w.outlast(limit, o); !locked(met) {
			return met
		}
	}
	return &store.LockedError{TaskID: o.id, Incarnation: o.key, What: whatHeld(met, inBatch)}
}

// held is a task of which others hold what operations wait for. One of these looks whether it is free.
type held struct {
	waiting int
	met     error         // by who looked last: it tells what is held
	look    chan struct{} // has a token unless one looks
	free    chan struct{} // is closed when one has found it free
}

// outlast waits until others do not hold what an operation is about, and writes it. The error is of locked if they do again,
// or when the limit has come; then it is what has been met last by who looks.
func (w *writer) outlast(limit context.Context, o *op) error {
	h := w.wait(o.about())
	defer w.letGo(o.about(), h)
	select {
	case <-limit.Done():
		return w.noted(h)
	case <-h.free:
		return w.lookOnce(limit, o)
	case <-h.look:
	}
	for delay := firstPause; pause(limit, delay); delay = min(2*delay, maxPause) {
		err := w.lookOnce(limit, o)
		if !locked(err) {
			w.freed(o.about(), h)
			return err
		}
		w.note(h, err)
	}
	h.look <- struct{}{}
	return w.noted(h)
}

// note notes what has been met by who looks whether a task is free.
func (w *writer) note(h *held, met error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	h.met = met
}

func (w *writer) noted(h *held) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return h.met
}

// lookOnce writes an operation if nobody holds what it is about.
func (w *writer) lookOnce(limit context.Context, o *op) error {
	select {
	case w.again <- struct{}{}:
	case <-limit.Done():
		return errBusy
	}
	defer func() { <-w.again }()
	return w.s.single(context.WithoutCancel(o.ctx), o, w.s.writes, inBatch)
}

// wait notes that an operation waits for what others hold of a task.
func (w *writer) wait(task string) *held {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.held[task]
	if h == nil {
		h = &held{met: errBusy, look: make(chan struct{}, 1), free: make(chan struct{})}
		h.look <- struct{}{}
		w.held[task] = h
	}
	h.waiting++
	return h
}

// letGo notes that one waits no more.
func (w *writer) letGo(task string, h *held) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if h.waiting--; h.waiting == 0 && w.held[task] == h {
		delete(w.held, task)
	}
}

// freed has all who wait for a task try at once.
func (w *writer) freed(task string, h *held) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.held[task] == h {
		delete(w.held, task)
	}
	close(h.free)
}

func (w *writer) isHeld(task string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.held[task] != nil
}

// about names the task of an operation, for those that wait for what others hold of it: by its ID, or its incarnation.
func (o *op) about() string {
	if o.id == "" {
		return fmt.Sprint("#", o.key)
	}
	return o.id
}

// single runs one operation in a transaction of its own, more than once if the database refuses it for reasons of
// others. It is left out when ctx ends while it waits for a connection.
func (s *Store) single(ctx context.Context, o *op, pool *pgxpool.Pool, wait patience) (err error) {
	within, cancel := bounded()
	defer cancel()
	for n := 0; n == 0 || contended(err) && n < tries; n++ {
		var conn *pgxpool.Conn
		if conn, err = s.connection(ctx, within, pool); err != nil {
			break
		}
		var busy []*op
		if busy, err = s.transact(within, conn, []*op{o}, wait); len(busy) > 0 {
			err = errBusy
		}
		if locked(err) && wait != direct {
			break
		}
	}
	return err
}

// beside runs one operation beside the batches, on the caller's goroutine.
func beside[T any](ctx context.Context, s *Store, pool *pgxpool.Pool, o *op, req request, f func(rules.Rows, time.Time) (T, error)) (T, error) {
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
	err := s.single(ctx, o, pool, direct)
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
func (s *Store) connection(caller, within context.Context, pool *pgxpool.Pool) (*pgxpool.Conn, error) {
	ctx, stop := context.WithCancel(within)
	defer stop()
	defer context.AfterFunc(caller, stop)()
	if err := s.mayBegin(ctx); err != nil {
		return nil, err
	}
	conn, err := pool.Acquire(ctx)
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
func (s *Store) transact(ctx context.Context, conn *pgxpool.Conn, ops []*op, wait patience) (busy []*op, err error) {
	t := s.newTx(ctx, conn.Conn(), wait)
	if busy, err = t.begin(ops); err == nil {
		err = t.apply(ops, busy)
	}
	b := &pgx.Batch{}
	if err == nil {
		err = t.queueChanges(b)
	}
	if err != nil {
		s.release(conn, err)
		return nil, s.reconsidered(ctx, unanswered(err))
	}
	if err := s.commit(ctx, conn, t.server, b, &t.news); err != nil {
		return nil, s.reconsidered(ctx, err)
	}
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
