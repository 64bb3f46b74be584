package bench

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/perdure/perdure/store/pgstore"
)

// bareWriters is how many connections write at the same time: the store's default.
const bareWriters = 2

// Statements of a cycle: the columns that the store writes, a batch at a time.
const (
	bareInsertTasks = `INSERT INTO tasks SELECT u.key, u.id, 'trivial', '', '', '', '', '', '{}', '{}', $3,
		'in_progress', 0, $4, 0, '', false, 0, 0, '', 1, u.id, false, 'fresh', 1, 0, 0, $3, false, 0, false, '', '',
		false, 1, u.id, true, 0, 0, 1, 1, $3, 0, 0, 1, 0, 0, 0, $3, 0, 1
		FROM unnest($1::bigint[], $2::text[]) AS u (key, id)`
	bareInsertTurns = `INSERT INTO turns (task, number, input_id, deliver, digest_key, digest, accepted_at, input)
		SELECT u.key, 1, u.id, 'interrupt', '', $3, $4, $5 FROM unnest($1::bigint[], $2::text[]) AS u (key, id)`
	bareUpdateTasks = `UPDATE tasks t SET status = 'completed', worker = '', turn_ended = true, settled_epoch = 1,
		last_event = 1, mark = 1, event_epoch = 1, updated_at = $2, ended_at = $2, expires_at = $3, version = 2
		FROM unnest($1::bigint[]) AS u (key) WHERE t.key = u.key`
	bareUpdateTurns = `UPDATE turns t SET status = 'completed', entry = 'fresh', attempt = 1, epoch = 1, end_event = 1,
		started_at = $2, ended_at = $2, output = $3
		FROM unnest($1::bigint[], $4::bigint[]) AS u (key, number) WHERE t.task = u.key AND t.number = u.number`
	bareKeys = `SELECT nextval('incarnations') FROM generate_series(1, $1::bigint)`
)

// bareConn is a connection that writes bare.
type bareConn struct {
	conn  *pgx.Conn
	input []byte
}

// openBareDatabase makes the store's tables, and opens as many connections as the store writes on.
func openBareDatabase(ctx context.Context, place string, input []byte) ([]committer, func() error, error) {
	db, schema := schemaOf(place)
	if err := pgstore.Migrate(ctx, db, schema); err != nil {
		return nil, nil, err
	}
	var conns []*pgx.Conn
	free := func() (err error) {
		for _, c := range conns {
			err = errors.Join(err, c.Close(context.WithoutCancel(ctx)))
		}
		return err
	}
	var committers []committer
	for range bareWriters {
		conn, err := pgx.Connect(ctx, db)
		if err == nil {
			conns = append(conns, conn)
			_, err = conn.Exec(ctx, `SELECT set_config('search_path', $1, false), set_config('enable_seqscan', 'off', false),
				set_config('enable_hashjoin', 'off', false), set_config('enable_mergejoin', 'off', false),
				set_config('plan_cache_mode', 'force_generic_plan', false), set_config('jit', 'off', false)`, schema)
		}
		if err != nil {
			return nil, nil, errors.Join(err, free())
		}
		c := &bareConn{conn: conn, input: input}
		committers = append(committers, func(batch []*bareOp) error { return c.commit(ctx, batch) })
	}
	return committers, free, nil
}

// commit writes a batch in one round trip, after one that numbers what is inserted.
func (c *bareConn) commit(ctx context.Context, batch []*bareOp) error {
	var ids []string
	var inserted, updated []int64
	for _, op := range batch {
		if op.key == 0 {
			ids = append(ids, op.id)
		} else {
			updated = append(updated, op.key)
		}
	}
	now := time.Now().UnixMicro()
	b := &pgx.Batch{}
	b.Queue("BEGIN")
	if len(ids) > 0 {
		var err error
		if inserted, err = c.number(ctx, batch, len(ids)); err != nil {
			return err
		}
		b.Queue(bareInsertTasks, inserted, ids, now, bareWorker)
		b.Queue(bareInsertTurns, inserted, ids, bareDigest, now, c.input)
	}
	if len(updated) > 0 {
		const week = 7 * 24 * int64(time.Hour/time.Microsecond)
		b.Queue(bareUpdateTasks, updated, now, now+week)
		b.Queue(bareUpdateTurns, updated, now, c.input, slices.Repeat([]int64{1}, len(updated)))
	}
	b.Queue("COMMIT")
	return c.conn.SendBatch(ctx, b).Close()
}

// number gives the insertions of a batch their keys.
func (c *bareConn) number(ctx context.Context, batch []*bareOp, n int) ([]int64, error) {
	rows, err := c.conn.Query(ctx, bareKeys, n)
	if err != nil {
		return nil, err
	}
	keys, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, err
	}
	next := 0
	for _, op := range batch {
		if op.key == 0 {
			op.number = keys[next]
			next++
		}
	}
	return keys, nil
}
