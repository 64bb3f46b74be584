package pgstore

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/perdure/perdure/store"
)

// tx is one transaction as the rules see it. The rows that its operations name are read and locked at once when it
// begins; the rules change them in memory; flush writes all changes with one statement for each table and kind of
// change. What the rules ask for beside that is read when they ask.
type tx struct {
	s    *Store
	ctx  context.Context
	db   querier
	now  time.Time
	wait bool // for locks; else rows that others have locked are left out

	tasks   map[int64]*taskRow
	ids     map[string]*taskRow // nil: there is no such task
	keys    map[string]int64    // incarnations given in advance, by task ID
	workers map[string]*store.Worker
	funcs   map[string]*store.Settings

	changes changes
	news    news
}

// querier is a connection or a transaction.
type querier interface {
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// taskRow is a task that is locked, with what is known of its turns and metadata.
type taskRow struct {
	task    *store.Task
	own     bool // it was created by this transaction: all of it is known
	created bool // and has not been written yet
	changed bool // since it was written
	gone    bool

	turns    map[int64]*turnRow
	inputs   map[string]int64 // turn numbers by input ID; 0: there is none
	open     bool             // all turns behind the current one that have not ended are in turns
	head     int64            // the first of them is in turns if there is one: it is this, unless 0
	entered  int64            // turns from this number on that were entered are in turns
	pruned   int64            // turns up to this number are removed
	prunable *prunable
	metadata map[string][]byte
	known    bool // metadata is complete
}

// never is a number that no turn has.
const never = 1<<63 - 1

func newTaskRow(task *store.Task, created bool) *taskRow {
	r := &taskRow{task: task, own: created, created: created, turns: map[int64]*turnRow{}, inputs: map[string]int64{}, entered: never}
	if created {
		r.open, r.known, r.entered = true, true, 0
	}
	return r
}

// turnRow is a turn, and how far it is known and written.
type turnRow struct {
	turn    store.Turn
	whole   bool // else only what its end has written is known
	payload bool // its input is known
	created bool
	ended   bool
}

// prunable is the highest number of an event that tells the end of a turn up to a number.
type prunable struct{ upTo, lastEvent int64 }

func (s *Store) newTx(ctx context.Context, db querier, wait bool) *tx {
	return &tx{
		s: s, ctx: ctx, db: db, wait: wait,
		tasks: map[int64]*taskRow{}, ids: map[string]*taskRow{}, keys: map[string]int64{},
		workers: map[string]*store.Worker{}, funcs: map[string]*store.Settings{},
	}
}

// idleLimit is how long Postgres lets a transaction wait for its client: who freezes in one loses it, and its locks.
const idleLimit = "2s"

// lockLimit is how long an operation waits for a row that others have locked.
const lockLimit = "3s"

const (
	sqlBegin = `BEGIN`
	// Statements are planned once and for tables of any size: never by what a table holds when that happens. What a
	// planner says of the cost of a node that it was told to avoid would have each plan compiled, were jit on.
	sqlLimits = `SELECT set_config('idle_in_transaction_session_timeout', $1, true), set_config('lock_timeout', $2, true),
		set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),
		set_config('enable_mergejoin', 'off', true), set_config('plan_cache_mode', 'force_generic_plan', true),
		set_config('jit', 'off', true)`
	sqlClock  = `SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint`
	sqlCommit = `COMMIT`
)

// begin begins the transaction, and reads and locks what the operations name: workers first, then tasks, so that no
// two transactions wait for each other. The clock comes last: a lease is judged by the time at which it is locked
// (O3). It returns the operations whose task somebody else has locked.
func (t *tx) begin(ops []*op) (busy []*op, err error) {
	b := &pgx.Batch{}
	b.Queue(sqlBegin)
	b.Queue(t.s.sql(sqlLimits), idleLimit, lockLimit)
	return t.read(b, ops)
}

// read reads and locks what the operations name, after what is in the batch.
func (t *tx) read(b *pgx.Batch, ops []*op) (busy []*op, err error) {
	w := t.wants(ops)
	w.queue(t, b)
	t.queueClock(b)
	if err := t.send(b); err != nil {
		return nil, err
	}
	if err := w.locked(t); err != nil {
		return nil, err
	}
	for _, o := range ops {
		if w.missed(o) {
			busy = append(busy, o)
		}
	}
	return busy, t.preload(ops)
}

func (t *tx) queueClock(b *pgx.Batch) {
	if t.s.opts.UnsafeClock != nil {
		t.now = t.s.opts.UnsafeClock()
		return
	}
	b.Queue(t.s.sql(sqlClock)).QueryRow(func(row pgx.Row) error { return row.Scan((*instant)(&t.now)) })
}

// send sends a batch and handles its answers. Afterwards nothing is under way.
func (t *tx) send(b *pgx.Batch) error { return t.db.SendBatch(t.ctx, b).Close() }

// query runs one statement and calls scan for each row.
func (t *tx) query(sql string, scan func(pgx.Rows) error, args ...any) error {
	b := &pgx.Batch{}
	b.Queue(t.s.sql(sql), args...).Query(each(scan))
	return t.send(b)
}

// each makes a handler of rows of a handler of one row.
func each(scan func(pgx.Rows) error) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		for rows.Next() {
			if err := scan(rows); err != nil {
				return err
			}
		}
		return rows.Err()
	}
}

// wants is what a list of operations names.
type wants struct {
	ids     []string
	create  []bool // for each of ids: an incarnation is wanted if there is no such task
	keys    []int64
	workers []string // to be kept from being reaped
	renew   []string // to be renewed
	remove  []string // to be removed
	inputs  []string // for each of inputIDs the task ID
	inputID []string
	funcs   []string
	exists  map[string]int64 // by task ID, locked or not
	busy    map[int64]bool   // tasks that are there and locked by others
}

func (t *tx) wants(ops []*op) *wants {
	w := &wants{exists: map[string]int64{}, busy: map[int64]bool{}}
	seenID, seenKey, seenWorker, seenFunc := map[string]int{}, map[int64]bool{}, map[string]bool{}, map[string]bool{}
	worker := func(id string) {
		if !seenWorker[id] {
			seenWorker[id] = true
			w.workers = append(w.workers, id)
		}
	}
	for _, o := range ops {
		if o.id != "" {
			at, seen := seenID[o.id]
			if !seen {
				at = len(w.ids)
				seenID[o.id] = at
				w.ids, w.create = append(w.ids, o.id), append(w.create, false)
			}
			w.create[at] = w.create[at] || o.offer != nil && o.offer.Settings != nil
		}
		if o.key != 0 && !seenKey[o.key] {
			seenKey[o.key] = true
			w.keys = append(w.keys, o.key)
		}
		switch {
		case o.beat == nil && o.worker != "":
			worker(o.worker)
		case o.beat != nil && o.beat.Leave:
			w.remove = append(w.remove, o.worker)
		case o.beat != nil:
			w.renew = append(w.renew, o.worker)
			if o.beat.Replaces != "" {
				w.remove = append(w.remove, o.beat.Replaces)
			}
		}
		if o.offer == nil {
			continue
		}
		w.inputs, w.inputID = append(w.inputs, o.offer.TaskID), append(w.inputID, o.offer.InputID)
		if o.offer.Lease {
			worker(o.offer.Worker)
		}
		if o.offer.Settings == nil && !seenFunc[o.offer.Func] {
			seenFunc[o.offer.Func] = true
			w.funcs = append(w.funcs, o.offer.Func)
		}
	}
	return w
}

func (w *wants) queue(t *tx, b *pgx.Batch) {
	for _, lock := range []struct {
		sql     string
		workers []string
	}{{sqlKeepWorkers, w.workers}, {sqlRenewWorkers, w.renew}, {sqlLockWorkers, w.remove}} {
		for _, id := range lock.workers {
			t.workers[id] = nil
		}
		if len(lock.workers) > 0 {
			b.Queue(t.s.sql(lock.sql), lock.workers).Query(each(t.scanWorker))
		}
	}
	if len(w.ids) > 0 {
		b.Queue(t.s.sql(t.locking(sqlTasksByID)), w.ids).Query(each(t.scanLocked))
		b.Queue(t.s.sql(sqlExist), w.ids, w.create).Query(each(func(rows pgx.Rows) error { return w.scanExists(t, rows) }))
	}
	if len(w.keys) > 0 {
		b.Queue(t.s.sql(t.locking(sqlTasksByKey)), w.keys).Query(each(t.scanLocked))
	}
	if len(w.inputs) > 0 {
		b.Queue(t.s.sql(sqlKnownTurns), w.inputs, w.inputID).Query(each(t.scanKnown))
	}
	if len(w.funcs) > 0 {
		for _, name := range w.funcs {
			t.funcs[name] = nil
		}
		b.Queue(t.s.sql(sqlPublished), w.funcs).Query(each(t.scanPublished))
	}
}

// locking returns the statement as one that waits for locks, or one that leaves out what is locked.
func (t *tx) locking(sql string) string {
	if t.wait {
		return sql
	}
	return sql + skipLocked
}

const skipLocked = ` SKIP LOCKED`

// sqlExist tells which tasks there are, locked or not, and gives incarnations to those that will be created.
const sqlExist = `SELECT w.id, coalesce(t.key, 0),
		CASE WHEN t.key IS NULL AND w.make THEN nextval('perdure.incarnations') ELSE 0 END
	FROM unnest($1::text[], $2::boolean[]) AS w (id, make) LEFT JOIN perdure.tasks t ON t.id = w.id`

func (w *wants) scanExists(t *tx, rows pgx.Rows) error {
	var id string
	var key, given int64
	if err := rows.Scan(&id, &key, &given); err != nil {
		return err
	}
	w.exists[id] = key
	if given != 0 {
		t.keys[id] = given
	}
	return nil
}

const sqlKeysExist = `SELECT key FROM perdure.tasks WHERE key = ANY($1)`

// locked notes which tasks are not there, and which somebody else has locked.
func (w *wants) locked(t *tx) error {
	for _, id := range w.ids {
		if _, ok := t.ids[id]; ok {
			continue
		}
		if key := w.exists[id]; key != 0 { // or has just been made
			w.busy[key] = true
			continue
		}
		t.ids[id] = nil
	}
	for i, id := range w.inputs {
		if r := t.ids[id]; r != nil {
			r.inputs[w.inputID[i]] = r.inputs[w.inputID[i]] // 0: there is no such turn
		}
	}
	var missing []int64
	for _, key := range w.keys {
		if t.tasks[key] == nil {
			missing = append(missing, key)
		}
	}
	if len(missing) == 0 || t.wait {
		return nil
	}
	return t.query(sqlKeysExist, func(rows pgx.Rows) error {
		var key int64
		err := rows.Scan(&key)
		w.busy[key] = true
		return err
	}, missing)
}

func (w *wants) missed(o *op) bool {
	if o.id != "" {
		return w.busy[w.exists[o.id]]
	}
	return w.busy[o.key]
}

// flush writes what the rules have changed.
func (t *tx) flush() error {
	b := &pgx.Batch{}
	if err := t.queueChanges(b); err != nil || b.Len() == 0 {
		return err
	}
	return t.send(b)
}

// commit writes what the rules have changed, and commits.
func (t *tx) commit() error {
	b := &pgx.Batch{}
	if err := t.queueChanges(b); err != nil {
		return err
	}
	b.Queue(sqlCommit)
	return t.send(b)
}

// rollbackWithin bounds the end of a transaction that has failed.
const rollbackWithin = time.Second

// rollback ends a transaction that has failed. A connection on which that fails is closed by its pool.
func rollback(conn querier) {
	ctx, cancel := context.WithTimeout(context.Background(), rollbackWithin)
	defer cancel()
	b := &pgx.Batch{}
	b.Queue(`ROLLBACK`)
	conn.SendBatch(ctx, b).Close()
}

// errBusy says that a task stayed locked by others.
var errBusy = errors.New("task is locked by others")

// instant scans microseconds since 1970; 0 is the zero time.
type instant time.Time
