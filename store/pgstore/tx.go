package pgstore

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/rules"
)

// tx is one transaction as the rules see it. The rows that its operations name are read and locked at once when it
// begins; the rules change them in memory; flush writes all changes with one statement for each table and kind of
// change. What the rules ask for beside that is read when they ask.
type tx struct {
	s      *Store
	ctx    context.Context
	db     querier
	now    time.Time
	server string    // that has answered
	since  time.Time // when its timeline began
	wait   patience
	others bool // it is a transaction of a caller's

	tasks   map[int64]*taskRow  // nil: there is no such task
	ids     map[string]*taskRow // nil: there is no such task
	keys    map[string]int64    // incarnations given in advance, by task ID
	workers map[string]*store.Worker
	funcs   map[string]*store.Settings
	served  map[string]bool // funcs by name, as far as asked for

	requests map[requestKey]*rules.Request // nil: there is none
	places   places
	weights  map[int64]weight // tasks, as far as weighed
	freed    int64            // bytes of what has been removed

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

func (s *Store) newTx(ctx context.Context, db querier, wait patience) *tx {
	return &tx{
		s: s, ctx: ctx, db: db, wait: wait,
		tasks: map[int64]*taskRow{}, ids: map[string]*taskRow{}, keys: map[string]int64{},
		workers: map[string]*store.Worker{}, funcs: map[string]*store.Settings{}, served: map[string]bool{},
		requests: map[requestKey]*rules.Request{}, weights: map[int64]weight{},
	}
}

// idleLimit is how long Postgres lets a transaction wait for its client: who freezes in one loses it, and its locks.
const idleLimit = "2s"

// patience is how a transaction meets what others have locked.
type patience struct {
	locks string // how long it waits for a lock, as Postgres' lock_timeout
	skips bool   // rows of tasks that are locked are left out at once
}

// How transactions meet locks. In a batch a lock that cannot be left out is one of somebody who is making the same row.
var (
	inBatch   = patience{"10ms", true}
	goneAlone = patience{"50ms", false}
	direct    = patience{"3s", false}
)

const (
	sqlBegin = `BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE`
	// Statements are planned once and for tables of any size: never by what a table holds when that happens. What a
	// planner says of the cost of a node that it was told to avoid would have each plan compiled, were jit on. A commit
	// waits for the disk (P2) unless $3 says that it may be as the database has it. A limit of time would end a commit's wait for
	// a standby, which is told by a warning. What a policy hides from a role is an error, not absent.
	sqlLimits = `SELECT set_config('idle_in_transaction_session_timeout', $1, true), set_config('lock_timeout', $2, true),
		set_config('statement_timeout', '0', true), set_config('row_security', 'off', true),
		set_config('client_min_messages', 'warning', true),
		CASE WHEN current_setting('transaction_timeout', true) IS NOT NULL THEN set_config('transaction_timeout', '0', true) END,
		set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),
		set_config('enable_mergejoin', 'off', true), set_config('plan_cache_mode', 'force_generic_plan', true),
		set_config('jit', 'off', true),
		set_config('synchronous_commit', CASE WHEN $3 OR current_setting('synchronous_commit') = 'remote_apply'
			THEN current_setting('synchronous_commit') ELSE 'on' END, true)`
	sqlCommit = `COMMIT`
)

// begin begins the transaction, and reads and locks what the operations name: workers first, then tasks, so that no
// two transactions wait for each other. The clock comes last: a lease is judged by the time at which it is locked
// (O3). It returns the operations whose task somebody else has locked.
func (t *tx) begin(ops []*op) (busy []*op, err error) {
	return t.read(t.opening(), ops)
}

// openings is how many statements begin a transaction.
const openings = 2

// opening are the first statements of a transaction.
func (t *tx) opening() *pgx.Batch {
	b := &pgx.Batch{}
	b.Queue(sqlBegin)
	b.Queue(t.s.sql(sqlLimits), idleLimit, t.wait.locks, t.s.opts.UnsafeNoSync)
	return b
}

// read reads and locks what the operations name, after what is in the batch.
func (t *tx) read(b *pgx.Batch, ops []*op) (busy []*op, err error) {
	w := t.wants(ops)
	w.queue(t, b)
	t.queueClock(b)
	if err := t.sendFirst(b); err != nil {
		return nil, err
	}
	if err := t.judge(); err != nil {
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
	b.Queue(t.s.either(sqlClock, sqlClockPlain)).QueryRow(func(row pgx.Row) error { return t.s.scanClock(row, &t.now, &t.server) })
}

// scanClock reads the time, and which server it is that answers.
func (s *Store) scanClock(row pgx.Row, now *time.Time, server *string) error {
	err := row.Scan((*instant)(now), server)
	if s.opts.UnsafeClock != nil {
		*now = s.opts.UnsafeClock()
	}
	return err
}

// send sends a batch and handles its answers. Afterwards nothing is under way.
func (t *tx) send(b *pgx.Batch) error { return t.db.SendBatch(t.ctx, b).Close() }

// sendFirst sends the batch that begins, whose first two statements are those of opening, or of offerTx. What others do over a
// connection of a caller's is not known.
func (t *tx) sendFirst(b *pgx.Batch) error {
	if conn, ok := t.db.(*pgx.Conn); ok {
		return t.s.sendFirst(t.ctx, conn, b, openings)
	}
	if err := sendAhead(t.ctx, t.db, b, openings); err != nil {
		return err
	}
	return t.send(b)
}

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

// flush writes what the rules have changed.
func (t *tx) flush() error {
	b := &pgx.Batch{}
	if err := t.queueChanges(b); err != nil || b.Len() == 0 {
		return err
	}
	return t.send(b)
}

// rollbackWithin bounds the end of a transaction that has failed.
const rollbackWithin = time.Second

// rollback ends a transaction that has failed. A connection on which that fails is closed by its pool.
func rollback(conn querier) {
	if c, ok := conn.(*pgx.Conn); ok {
		delete(c.PgConn().CustomData(), known) // pgx forgets statements that fail
	}
	ctx, cancel := context.WithTimeout(context.Background(), rollbackWithin)
	defer cancel()
	b := &pgx.Batch{}
	b.Queue(`ROLLBACK`)
	conn.SendBatch(ctx, b).Close()
}

// instant scans microseconds since 1970; 0 is the zero time.
type instant time.Time
