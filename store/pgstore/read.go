package pgstore

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/rules"
)

const (
	sqlBeginRead = `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY`
	// Pages are read down an index in its order. No statement waits or works for longer than $1: a poll of who has gone is not
	// cancelled, and a server may wait for a locked table.
	sqlReadSetup = `SELECT set_config('row_security', 'off', true), set_config('statement_timeout', $1, true),
		set_config('idle_in_transaction_session_timeout', $2, true), set_config('enable_bitmapscan', 'off', true), set_config('enable_sort', 'off', true),
		set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),
		set_config('enable_mergejoin', 'off', true), set_config('plan_cache_mode', 'force_generic_plan', true),
		set_config('jit', 'off', true)`
)

// readLimit is how long a statement of a read may take.
const readLimit = "30s"

// reading is one moment of the database: its queries are sent together.
type reading struct {
	s      *Store
	batch  *pgx.Batch
	now    time.Time
	server string      // that has answered
	since  time.Time   // when its timeline began
	task   *store.Task // nil until read, or if there is none
}

// read sends what ask has queued, on one moment of the database, and then calls result. No more than Options.Readers are
// under way at once.
func read[T any](ctx context.Context, s *Store, ask func(*reading), result func(*reading) (T, error)) (T, error) {
	var none T
	select {
	case s.readers <- struct{}{}:
	case <-ctx.Done():
		return none, ctx.Err()
	}
	r, err := s.ask(ctx, s.pool, sqlBeginRead, ask)
	<-s.readers
	if err != nil {
		return none, err
	}
	out, err := result(r)
	if err != nil {
		return none, s.explain(err)
	}
	return out, nil
}

// ask sends what ask has queued in one transaction, and returns when it has been answered.
func (s *Store) ask(ctx context.Context, pool *pgxpool.Pool, begin string, ask func(*reading)) (*reading, error) {
	if s.writer.isClosed() {
		return nil, store.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r := &reading{s: s, batch: &pgx.Batch{}}
	r.batch.Queue(begin)
	r.batch.Queue(s.sql(sqlReadSetup), s.limit, readLimit)
	r.clock()
	ask(r)
	r.batch.Queue(sqlCommit)
	err := s.sendRead(ctx, pool, r.batch)
	if err == nil {
		r.since, err = s.believe(ctx, r.server)
	}
	if ofStandby(err) {
		s.reset()
	}
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, s.explainRead(err)
	}
	return r, nil
}

func (s *Store) sendRead(ctx context.Context, pool *pgxpool.Pool, b *pgx.Batch) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	err = s.sendFirst(ctx, conn.Conn(), b, openings)
	if err != nil && !conn.Conn().IsClosed() {
		rollback(conn.Conn())
	}
	return err
}

func (r *reading) clock() {
	r.batch.Queue(r.s.either(sqlClock, sqlClockPlain)).QueryRow(func(row pgx.Row) error { return r.s.scanClock(row, &r.now, &r.server) })
	if r.s.opts.UnsafeClock != nil {
		r.now = r.s.opts.UnsafeClock() // it is an argument, too
	}
}

func (r *reading) query(sql string, scan func(pgx.Rows) error, args ...any) {
	r.batch.Queue(r.s.sql(sql), args...).Query(each(scan))
}

const (
	sqlTaskByID = `SELECT ` + taskRead + ` FROM perdure.tasks WHERE id = $1`
	keyOfID     = `(SELECT key FROM perdure.tasks WHERE id = $1)`
	currentOfID = `(SELECT turn FROM perdure.tasks WHERE id = $1)`
	sqlTaskMeta = `SELECT key, value FROM perdure.metadata WHERE task = ` + keyOfID
	// $2 and $3 say whether the output and the input are wanted.
	turnWanted   = `SELECT ` + turnColumns + `, CASE WHEN $2 THEN output END, CASE WHEN $3 THEN input END FROM perdure.turns WHERE task = ` + keyOfID
	sqlTaskTurn  = turnWanted + ` AND number = $4`
	sqlTaskLast  = turnWanted + ` AND number = ` + currentOfID
	sqlTaskInput = turnWanted + ` AND input_id = $4`
)

func (r *reading) readTask(id string) {
	r.query(sqlTaskByID, func(rows pgx.Rows) (err error) {
		r.task, err = r.s.scanTask(rows)
		return err
	}, id)
}

// visible returns the task if it is there for a reader.
func (r *reading) visible(incarnation int64) (*store.Task, error) {
	return r.task, rules.Visible(r.task, r.now, incarnation)
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, id string) (*store.Task, error) {
	metadata := map[string][]byte{}
	ask := func(r *reading) {
		r.readTask(id)
		r.query(sqlTaskMeta, func(rows pgx.Rows) error {
			var key string
			var value []byte
			err := rows.Scan(&key, &value)
			metadata[key] = value
			return err
		}, id)
	}
	return read(ctx, s, ask, func(r *reading) (*store.Task, error) {
		t, err := r.visible(0)
		if err == nil {
			t.Metadata = metadata
		}
		return t, err
	})
}

// Turn implements store.Store.
func (s *Store) Turn(ctx context.Context, q store.TurnQuery) (*store.Turn, error) {
	var found *store.Turn
	ask := func(r *reading) {
		r.readTask(q.TaskID)
		sql, args := turnStatement(q)
		r.query(sql, func(rows pgx.Rows) (err error) {
			found, err = scanTurn(rows, true)
			return err
		}, args...)
	}
	return read(ctx, s, ask, func(r *reading) (*store.Turn, error) {
		t, err := r.visible(q.Incarnation)
		switch {
		case err != nil:
			return nil, err
		case found == nil:
			return nil, store.ErrNotFound
		}
		return rules.Complete(t, found), nil
	})
}

func turnStatement(q store.TurnQuery) (sql string, args []any) {
	args = []any{q.TaskID, q.Output, q.Input}
	switch {
	case q.Number != 0:
		return sqlTaskTurn, append(args, q.Number)
	case q.InputID != "":
		return sqlTaskInput, append(args, q.InputID)
	}
	return sqlTaskLast, args
}

// timeOr is the time that a test gives, else the database's.
const (
	timeOr = `coalesce(nullif(%s::bigint, 0), (extract(epoch FROM statement_timestamp()) * 1000000)::bigint)`
	now1   = `coalesce(nullif($1::bigint, 0), (extract(epoch FROM statement_timestamp()) * 1000000)::bigint)` // timeOr of $1
)

// given is the time in tests of virtual time; else 0.
func (r *reading) given() int64 {
	if r.s.opts.UnsafeClock == nil {
		return 0
	}
	return micros(r.now)
}

// sqlWaiting goes from func to func, and counts the first tasks of each.
const sqlWaiting = `WITH RECURSIVE funcs AS (
		SELECT min(func) AS func FROM perdure.tasks WHERE due_at > 0
		UNION ALL
		SELECT (SELECT min(t.func) FROM perdure.tasks t WHERE t.due_at > 0 AND t.func > f.func) FROM funcs f WHERE f.func IS NOT NULL)
	SELECT f.func, n.waiting FROM funcs f, LATERAL (SELECT count(*) AS waiting FROM (
		(SELECT FROM perdure.tasks t WHERE t.func = f.func AND NOT t.suspect AND t.due_at > 0 AND t.due_at <= ` + now1 + ` LIMIT $3)
		UNION ALL
		(SELECT FROM perdure.tasks t WHERE t.func = f.func AND t.suspect AND t.due_at > 0 AND t.due_at <= ` + now1 + ` LIMIT $3)
		LIMIT $3) d) n
	WHERE f.func <> ALL ($2) AND n.waiting > 0`

// Waiting implements store.Store.
func (s *Store) Waiting(ctx context.Context, except []string, most int) (map[string]int, error) {
	waiting := map[string]int{}
	except = keepTexts(except)
	ask := func(r *reading) {
		r.query(sqlWaiting, func(rows pgx.Rows) error {
			var fn string
			var n int
			err := rows.Scan(&fn, &n)
			waiting[fn] = n
			return err
		}, r.given(), except, most)
	}
	return read(ctx, s, ask, func(*reading) (map[string]int, error) { return waiting, nil })
}

const sqlWorkers = `SELECT ` + workerColumns + ` FROM perdure.workers ORDER BY started_at, id`

// Workers implements store.Store.
func (s *Store) Workers(ctx context.Context) ([]*store.Worker, error) {
	var all []*store.Worker
	ask := func(r *reading) {
		r.query(sqlWorkers, func(rows pgx.Rows) error {
			w, err := s.scanWorker(rows)
			all = append(all, w)
			return err
		})
	}
	return read(ctx, s, ask, func(r *reading) ([]*store.Worker, error) {
		var alive []*store.Worker
		for _, w := range all {
			if w.ExpiresAt = extended(w, r.since); !w.Dead && r.now.Before(w.ExpiresAt) {
				alive = append(alive, w)
			}
		}
		return alive, nil
	})
}
