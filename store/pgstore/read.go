package pgstore

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/rules"
)

const (
	sqlBeginRead = `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY`
	// Pages are read down an index in its order.
	sqlReadSetup = `SELECT set_config('enable_bitmapscan', 'off', true), set_config('enable_sort', 'off', true),
		set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),
		set_config('enable_mergejoin', 'off', true), set_config('plan_cache_mode', 'force_generic_plan', true),
		set_config('jit', 'off', true)`
)

// reading is one moment of the database: its queries are sent together.
type reading struct {
	s     *Store
	batch *pgx.Batch
	now   time.Time
	task  *store.Task // nil until read, or if there is none
}

// read sends what ask has queued, on one moment of the database, and then calls result.
func read[T any](ctx context.Context, s *Store, ask func(*reading), result func(*reading) (T, error)) (T, error) {
	var none T
	if s.writer.isClosed() {
		return none, store.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return none, err
	}
	r := &reading{s: s, batch: &pgx.Batch{}}
	r.batch.Queue(sqlBeginRead)
	r.batch.Queue(s.sql(sqlReadSetup))
	r.clock()
	ask(r)
	r.batch.Queue(sqlCommit)
	if err := s.send(ctx, r.batch); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return none, s.explainRead(err)
	}
	out, err := result(r)
	if err != nil {
		return none, s.explain(err)
	}
	return out, nil
}

func (s *Store) send(ctx context.Context, b *pgx.Batch) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	err = conn.SendBatch(ctx, b).Close()
	if err != nil && !conn.Conn().IsClosed() {
		rollback(conn.Conn())
	}
	return err
}

func (r *reading) clock() {
	if r.s.opts.UnsafeClock != nil {
		r.now = r.s.opts.UnsafeClock()
		return
	}
	r.batch.Queue(r.s.sql(sqlClock)).QueryRow(func(row pgx.Row) error { return row.Scan((*instant)(&r.now)) })
}

func (r *reading) query(sql string, scan func(pgx.Rows) error, args ...any) {
	r.batch.Queue(r.s.sql(sql), args...).Query(each(scan))
}

const (
	sqlTaskByID  = `SELECT ` + taskColumns + ` FROM perdure.tasks WHERE id = $1`
	keyOfID      = `(SELECT key FROM perdure.tasks WHERE id = $1)`
	currentOfID  = `(SELECT turn FROM perdure.tasks WHERE id = $1)`
	sqlTaskMeta  = `SELECT key, value FROM perdure.metadata WHERE task = ` + keyOfID
	sqlTaskTurn  = `SELECT ` + turnColumns + ` FROM perdure.turns WHERE task = ` + keyOfID + ` AND number = $2`
	sqlTaskLast  = `SELECT ` + turnColumns + ` FROM perdure.turns WHERE task = ` + keyOfID + ` AND number = ` + currentOfID
	sqlTaskInput = `SELECT ` + turnColumns + ` FROM perdure.turns WHERE task = ` + keyOfID + ` AND input_id = $2`

	sqlTaskTurnHeavy  = `SELECT ` + turnColumns + `, input FROM perdure.turns WHERE task = ` + keyOfID + ` AND number = $2`
	sqlTaskLastHeavy  = `SELECT ` + turnColumns + `, input FROM perdure.turns WHERE task = ` + keyOfID + ` AND number = ` + currentOfID
	sqlTaskInputHeavy = `SELECT ` + turnColumns + `, input FROM perdure.turns WHERE task = ` + keyOfID + ` AND input_id = $2`

	sqlTurns = `SELECT ` + turnColumns + `, input FROM perdure.turns
		WHERE task = ` + keyOfID + ` AND number > $2 ORDER BY number LIMIT $3`
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
			found, err = scanTurn(rows, q.Payload)
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
	light, heavy, args := sqlTaskLast, sqlTaskLastHeavy, []any{q.TaskID}
	switch {
	case q.Number != 0:
		light, heavy, args = sqlTaskTurn, sqlTaskTurnHeavy, append(args, q.Number)
	case q.InputID != "":
		light, heavy, args = sqlTaskInput, sqlTaskInputHeavy, append(args, q.InputID)
	}
	if q.Payload {
		return heavy, args
	}
	return light, args
}

// Turns implements store.Store.
func (s *Store) Turns(ctx context.Context, q store.TurnsQuery) ([]*store.Turn, error) {
	var page []*store.Turn
	ask := func(r *reading) {
		r.readTask(q.TaskID)
		r.query(sqlTurns, func(rows pgx.Rows) error {
			turn, err := scanTurn(rows, true)
			page = append(page, turn)
			return err
		}, q.TaskID, q.After, q.Limit)
	}
	return read(ctx, s, ask, func(r *reading) ([]*store.Turn, error) {
		t, err := r.visible(0)
		if err != nil {
			return nil, err
		}
		for _, turn := range page {
			rules.Complete(t, turn)
		}
		return page, nil
	})
}

// Statements that read a page of a stream: $2 is the number to go on after, or where the stream begins.
const (
	startOfPage = `greatest($2, (SELECT first_event - 1 FROM perdure.tasks WHERE id = $1))`
	sqlEvents   = `SELECT first, turn, attempt, epoch, at, rewind, data FROM perdure.events
		WHERE task = ` + keyOfID + ` AND last > ` + startOfPage + ` ORDER BY last LIMIT $3`
	sqlTurnEvents = `SELECT number, attempt, epoch, end_event, ended_at, status, reason FROM perdure.turns
		WHERE task = ` + keyOfID + ` AND end_event > 0 AND end_event > ` + startOfPage + ` ORDER BY end_event LIMIT $3`
	sqlRewinds = `SELECT first, rewind FROM perdure.events
		WHERE task = ` + keyOfID + ` AND rewind IS NOT NULL AND first > ` + startOfPage + ` ORDER BY first`
)

// Events implements store.Store.
func (s *Store) Events(ctx context.Context, q store.EventsQuery) (*store.EventPage, error) {
	var events, rewinds []store.Event
	ask := func(r *reading) {
		r.readTask(q.TaskID)
		enough := 0
		r.query(sqlEvents, func(rows pgx.Rows) error {
			if enough >= q.Limit {
				return nil
			}
			read, err := scanEvents(rows, max(q.After, r.task.FirstEvent-1))
			events, enough = append(events, read...), enough+len(read)
			return err
		}, q.TaskID, q.After, q.Limit)
		r.query(sqlTurnEvents, func(rows pgx.Rows) error {
			e, err := scanTurnEvent(rows)
			events = append(events, e)
			return err
		}, q.TaskID, q.After, q.Limit)
		if q.Committed {
			r.query(sqlRewinds, func(rows pgx.Rows) error {
				e := store.Event{Kind: store.EventRewind}
				err := rows.Scan(&e.Number, &e.To)
				rewinds = append(rewinds, e)
				return err
			}, q.TaskID, q.After)
		}
	}
	return read(ctx, s, ask, func(r *reading) (*store.EventPage, error) {
		t, err := r.visible(q.Incarnation)
		if err != nil {
			return nil, err
		}
		return rules.Page(t, q, events, rewinds), nil
	})
}

// timeOr is the time that a test gives, else the database's.
const timeOr = `coalesce(nullif(%s::bigint, 0), (extract(epoch FROM statement_timestamp()) * 1000000)::bigint)`

// given is the time in tests of virtual time; else 0.
func (r *reading) given() int64 {
	if r.s.opts.UnsafeClock == nil {
		return 0
	}
	return micros(r.now)
}

const sqlWaiting = `SELECT func, count(*) FROM perdure.tasks
	WHERE due_at > 0 AND due_at <= coalesce(nullif($1::bigint, 0), (extract(epoch FROM statement_timestamp()) * 1000000)::bigint)
	GROUP BY func`

// Waiting implements store.Store.
func (s *Store) Waiting(ctx context.Context) (map[string]int, error) {
	waiting := map[string]int{}
	ask := func(r *reading) {
		r.query(sqlWaiting, func(rows pgx.Rows) error {
			var fn string
			var n int
			err := rows.Scan(&fn, &n)
			waiting[fn] = n
			return err
		}, r.given())
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
			if !w.Dead && r.now.Before(w.ExpiresAt) {
				alive = append(alive, w)
			}
		}
		return alive, nil
	})
}

const sqlMail = `SELECT seq, worker, task, key, epoch, kind, reason FROM perdure.mail
	WHERE worker = $1 AND seq > $2 ORDER BY seq LIMIT 1000`

// Mail implements store.Store.
func (s *Store) Mail(ctx context.Context, worker string, after int64) ([]store.Mail, error) {
	var mail []store.Mail
	ask := func(r *reading) {
		r.query(sqlMail, func(rows pgx.Rows) error {
			var m store.Mail
			err := rows.Scan(&m.Seq, &m.Worker, &m.TaskID, &m.Incarnation, &m.Epoch, (*string)(&m.Kind), &m.Reason)
			mail = append(mail, m)
			return err
		}, worker, after)
	}
	return read(ctx, s, ask, func(*reading) ([]store.Mail, error) { return mail, nil })
}
