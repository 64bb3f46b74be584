package sqlitestore

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/rules"
)

// Bounds of one transaction (rule P3).
const (
	batchOps   = 512
	batchBytes = 8 << 20
)

// writer owns the connection that writes. Its goroutine takes what has been queued, applies it in one
// transaction, syncs once, and answers each caller (group commit): it begins at once when idle, and a
// batch grows only while the commit before it runs.
type writer struct {
	conn  *conn
	clock *rules.Clock
	names *names        // of the files in which it will be looked for what has been written
	wake  chan struct{} // capacity 1
	done  chan struct{} // closed when the goroutine has ended

	mu     sync.Mutex
	queue  []*op
	closed bool
}

// op is one operation. Its run may be called again after a rollback.
type op struct {
	ctx   context.Context
	run   func(*conn, time.Time) error
	plain bool // a read that wants no transaction
	size  int
	taken atomic.Bool // by the writer, or by its caller who went
	err   error
	done  chan struct{}
}

func newWriter(c *conn, clock *rules.Clock, names *names) *writer {
	return &writer{conn: c, clock: clock, names: names, wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// do queues an operation and waits for its result. When the context ends, an operation that has not begun is left out;
// one that has is waited for: what it has written is never unheard of. That ends, because the wait for other processes
// has a bound.
func (w *writer) do(o *op) error {
	o.done = make(chan struct{})
	if err := o.ctx.Err(); err != nil {
		return err
	}
	if !w.enqueue(o) {
		return store.ErrClosed
	}
	return w.wait(o)
}

func (w *writer) wait(o *op) error {
	select {
	case <-o.done:
		return o.err
	case <-o.ctx.Done():
	}
	if o.taken.Swap(true) {
		<-o.done
		return o.err
	}
	o.run = nil // its place in the queue holds no payload
	return o.ctx.Err()
}

func (w *writer) enqueue(o *op) bool {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return false
	}
	w.queue = append(w.queue, o)
	first := len(w.queue) == 1
	w.mu.Unlock()
	if first {
		w.signal()
	}
	return true
}

func (w *writer) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// close lets what is queued end, and ends the goroutine.
func (w *writer) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.signal()
	<-w.done
}

// loop is the writer's goroutine.
func (w *writer) loop() {
	defer close(w.done)
	var batch []*op
	for {
		var closed bool
		if batch, closed = w.fill(batch[:0]); len(batch) > 0 {
			w.apply(batch)
			clear(batch)
			runtime.Gosched() // whom we have answered may have more for the next batch
			continue
		}
		if closed {
			return
		}
		<-w.wake
	}
}

// fill moves the next batch from the queue.
func (w *writer) fill(batch []*op) ([]*op, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, size := 0, 0
	for n < len(w.queue) && n < batchOps && (n == 0 || size+w.queue[n].size <= batchBytes) {
		size += w.queue[n].size
		n++
	}
	batch = append(batch, w.queue[:n]...)
	w.queue = slices.Delete(w.queue, 0, n)
	return batch, w.closed
}

// apply runs a batch and answers it. When the batch fails as a whole, each operation goes again alone, so
// that the failure of one does not become its neighbours'. Nothing is answered but what is where it will be looked for.
func (w *writer) apply(batch []*op) {
	batch = slices.DeleteFunc(batch, func(o *op) bool { return !w.begun(o) })
	if len(batch) == 0 {
		return
	}
	lost := w.names.look()
	if lost == nil {
		if err := w.together(batch); err != nil {
			w.alone(batch, err)
		}
		lost = w.names.look()
	}
	for _, o := range batch {
		if lost != nil {
			o.err = lost
		}
		close(o.done)
	}
}

// begun takes an operation for the batch, unless its caller has gone or it needs no transaction.
func (w *writer) begun(o *op) bool {
	if o.taken.Swap(true) {
		return false
	}
	if !o.plain {
		return true
	}
	if o.err = o.run(w.conn, w.clock.Now()); o.err == nil {
		o.err = w.names.look()
	}
	close(o.done)
	return false
}

// together applies a batch in one transaction. It returns an error when nothing of it was applied.
func (w *writer) together(batch []*op) error {
	if err := w.conn.exec(sqlBegin); err != nil {
		return &beginError{err}
	}
	if err := w.names.notBefore(w.conn); err != nil {
		w.rollback()
		return err
	}
	for _, o := range batch {
		w.conn.placed = placed{}
		o.err = o.run(w.conn, w.clock.Now())
		if o.err != nil && !store.Definite(o.err) {
			w.rollback()
			return o.err
		}
	}
	reached, err := w.conn.reach()
	if err == nil {
		err = w.conn.exec(sqlCommit)
	}
	if err != nil {
		w.rollback()
		return err
	}
	w.conn.reached = reached
	return nil
}

const (
	sqlBegin     = `BEGIN IMMEDIATE`
	sqlBeginRead = `BEGIN`
	sqlCommit    = `COMMIT`
	sqlRollback  = `ROLLBACK`
)

// beginError says that no transaction could be begun.
type beginError struct{ err error }

func (e *beginError) Error() string { return e.err.Error() }
func (e *beginError) Unwrap() error { return e.err }

// alone gives each operation of a batch that has failed a transaction of its own, until none can be begun: then the wait
// for that was long enough for all.
func (w *writer) alone(batch []*op, err error) {
	for i, o := range batch {
		if _, idle := err.(*beginError); !idle && len(batch) > 1 {
			err = w.together(batch[i : i+1])
		}
		if err != nil {
			o.err = w.judge(err)
		}
	}
}

// rollback ends the transaction if a failure has not, and forgets what was learned in it.
func (w *writer) rollback() {
	if !w.conn.db.AutocommitEnabled() {
		w.conn.exec(sqlRollback)
	}
	w.conn.interned = newInterned()
	w.conn.worker = nil
}
