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
	conn *conn
	last time.Time     // of the store's clock; the writer's goroutine
	wake chan struct{} // capacity 1
	done chan struct{} // closed when the goroutine has ended

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
	taken atomic.Bool // by the writer, or by a caller who gave up
	err   error
	done  chan struct{}
}

func newWriter(c *conn) *writer {
	return &writer{conn: c, wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// do queues an operation and waits for its result. When ctx ends first, an operation that has not begun
// is left out.
func (w *writer) do(o *op) error {
	o.done = make(chan struct{})
	if err := o.ctx.Err(); err != nil {
		return err
	}
	if !w.enqueue(o) {
		return store.ErrClosed
	}
	select {
	case <-o.done:
		return o.err
	case <-o.ctx.Done():
		o.taken.Store(true)
		return o.ctx.Err()
	}
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
func (w *writer) close() error {
	w.mu.Lock()
	closed := w.closed
	w.closed = true
	w.mu.Unlock()
	w.signal()
	<-w.done
	if closed {
		return nil
	}
	return w.conn.close()
}

// loop is the writer's goroutine.
func (w *writer) loop() {
	defer close(w.done)
	var batch []*op
	for {
		var closed bool
		if batch, closed = w.take(batch[:0]); len(batch) > 0 {
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

// take moves the next batch from the queue.
func (w *writer) take(batch []*op) ([]*op, bool) {
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
// that the failure of one does not become its neighbours'.
func (w *writer) apply(batch []*op) {
	batch = slices.DeleteFunc(batch, func(o *op) bool { return !w.begun(o) })
	if len(batch) == 0 {
		return
	}
	if err := w.together(batch); err != nil {
		w.alone(batch, err)
	}
	for _, o := range batch {
		close(o.done)
	}
}

// begun takes an operation for the batch, unless it is answered already or needs no transaction.
func (w *writer) begun(o *op) bool {
	if o.taken.Swap(true) {
		return false
	}
	if !o.plain {
		return true
	}
	o.err = o.run(w.conn, w.now())
	close(o.done)
	return false
}

// together applies a batch in one transaction. It returns an error when nothing of it was applied.
func (w *writer) together(batch []*op) error {
	if err := w.conn.exec(sqlBegin); err != nil {
		return &beginError{err}
	}
	for _, o := range batch {
		w.conn.placed = placed{}
		o.err = o.run(w.conn, w.now())
		if o.err != nil && !store.Definite(o.err) {
			w.rollback()
			return o.err
		}
	}
	if err := w.conn.exec(sqlCommit); err != nil {
		w.rollback()
		return err
	}
	return nil
}

const (
	sqlBegin     = `BEGIN IMMEDIATE`
	sqlBeginRead = `BEGIN`
	sqlCommit    = `COMMIT`
	sqlRollback  = `ROLLBACK`
)

// beginError says that no transaction could be begun: going alone is of no use.
type beginError struct{ err error }

func (e *beginError) Error() string { return e.err.Error() }
func (e *beginError) Unwrap() error { return e.err }

func (w *writer) alone(batch []*op, err error) {
	_, idle := err.(*beginError)
	for i, o := range batch {
		if !idle && len(batch) > 1 {
			err = w.together(batch[i : i+1])
		}
		if err != nil {
			o.err = err
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

// now is the store's clock, which never goes back within the process.
func (w *writer) now() time.Time {
	if now := rules.Now(); now.After(w.last) {
		w.last = now
	}
	return w.last
}
