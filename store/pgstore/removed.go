package pgstore

import "github.com/jackc/pgx/v5"

// Bounds of what one transaction removes, in bytes of payload. Whoever has reached pieceBytes and goes on removes
// pieceLeast with each call.
const (
	pieceBytes = 8 << 20
	pieceLeast = 256 << 10
)

// weight is what a task has beside its own row and tags.
type weight struct {
	rows  int
	bytes int64
}

const (
	sqlAbandon   = `INSERT INTO perdure.removed (task) SELECT unnest($1::bigint[]) ON CONFLICT DO NOTHING`
	sqlAbandoned = `SELECT task FROM perdure.removed ORDER BY task LIMIT $1 FOR UPDATE SKIP LOCKED`
)

// Abandon implements rules.Rows.
func (t *tx) Abandon(incarnation int64) error {
	t.changes.abandoned = append(t.changes.abandoned, incarnation)
	return nil
}

// Abandoned implements rules.Rows. Tasks whose rows somebody else is removing are left out.
func (t *tx) Abandoned(limit int) (tasks []int64, err error) {
	if err := t.flush(); err != nil {
		return nil, err
	}
	err = t.query(sqlAbandoned, func(rows pgx.Rows) error {
		var task int64
		err := rows.Scan(&task)
		tasks = append(tasks, task)
		return err
	}, limit)
	if err != nil {
		return nil, err
	}
	return tasks, t.weigh(tasks)
}

// Sizes of rows. The length of a value that is stored apart is known without reading it.
const (
	turnSize  = `coalesce(octet_length(input), 0) + coalesce(octet_length(output), 0) + octet_length(error)`
	sqlWeight = `SELECT w.task, e.n + u.n + m.n, e.size + u.size + m.size FROM unnest($1::bigint[]) AS w (task),
		LATERAL (SELECT count(*) AS n, coalesce(sum(size), 0) AS size FROM
			(SELECT octet_length(data) AS size FROM perdure.events WHERE task = w.task LIMIT $2) r) e,
		LATERAL (SELECT count(*) AS n, coalesce(sum(size), 0) AS size FROM
			(SELECT ` + turnSize + ` AS size FROM perdure.turns WHERE task = w.task LIMIT $2) r) u,
		LATERAL (SELECT count(*) AS n, coalesce(sum(size), 0) AS size FROM
			(SELECT octet_length(value) AS size FROM perdure.metadata WHERE task = w.task LIMIT $2) r) m`
)

// few is how many rows a task may have to be removed together with others.
const few = 100

// weigh notes what tasks have, as far as more than a few rows.
func (t *tx) weigh(tasks []int64) error {
	if len(tasks) == 0 {
		return nil
	}
	return t.query(sqlWeight, func(rows pgx.Rows) error {
		var task int64
		var w weight
		err := rows.Scan(&task, &w.rows, &w.bytes)
		t.weights[task] = w
		return err
	}, tasks, few+1)
}

// room is how many bytes a call may remove.
func (t *tx) room() int64 { return max(pieceBytes-t.freed, pieceLeast) }

// DropRows implements rules.Rows.
func (t *tx) DropRows(incarnation int64, limit int) (dropped int, more bool, err error) {
	w, weighed := t.weights[incarnation]
	if !weighed {
		if err := t.flush(); err != nil {
			return 0, false, err
		}
		if err := t.weigh([]int64{incarnation}); err != nil {
			return 0, false, err
		}
		w = t.weights[incarnation]
	}
	delete(t.weights, incarnation)
	if w.rows > min(limit, few) || w.bytes > t.room() {
		dropped, more, err = t.dropSome(incarnation, limit)
		if err != nil || more {
			return dropped, more, err
		}
		w = weight{rows: dropped}
	}
	t.freed += w.bytes
	t.changes.dropped = append(t.changes.dropped, incarnation)
	return w.rows, false, nil
}

const (
	sqlDropAllTurns    = `DELETE FROM perdure.turns WHERE task = ANY($1)`
	sqlDropAllMetadata = `DELETE FROM perdure.metadata WHERE task = ANY($1)`
	sqlDropAllEvents   = `DELETE FROM perdure.events WHERE task = ANY($1)`
	sqlForgetRemoved   = `DELETE FROM perdure.removed WHERE task = ANY($1)`
)

func (t *tx) queueRemoved(b *pgx.Batch, c *changes) {
	if len(c.dropped) > 0 {
		for _, sql := range []string{sqlDropAllEvents, sqlDropAllTurns, sqlDropAllMetadata, sqlForgetRemoved} {
			b.Queue(t.s.sql(sql), c.dropped)
		}
	}
	if len(c.abandoned) > 0 {
		b.Queue(t.s.sql(sqlAbandon), c.abandoned)
	}
}

// Statements that remove the first rows of a task: no more than $2, and none after $3 bytes. They tell how many they have
// removed, of how many bytes, and how many they have seen, which is one more if there is one.
const (
	running       = `row_number() OVER w AS n, sum(size) OVER w - size AS before`
	inPiece       = `WHERE n <= $2 AND before < $3`
	told          = `SELECT (SELECT count(*) FROM gone), (SELECT coalesce(sum(size), 0) FROM piece ` + inPiece + `), (SELECT count(*) FROM piece)`
	sqlDropEvents = `WITH piece AS (SELECT last, size, ` + running + ` FROM
			(SELECT last, octet_length(data) AS size FROM perdure.events WHERE task = $1 AND last < $4 ORDER BY last LIMIT $2 + 1) r
			WINDOW w AS (ORDER BY last ROWS UNBOUNDED PRECEDING)),
		gone AS (DELETE FROM perdure.events WHERE task = $1 AND last = ANY (ARRAY(SELECT last FROM piece ` + inPiece + `)) RETURNING 1)
		` + told
	sqlDropTurns = `WITH piece AS (SELECT number, size, ` + running + ` FROM
			(SELECT number, ` + turnSize + ` AS size FROM perdure.turns WHERE task = $1 ORDER BY number LIMIT $2 + 1) r
			WINDOW w AS (ORDER BY number ROWS UNBOUNDED PRECEDING)),
		gone AS (DELETE FROM perdure.turns WHERE task = $1 AND number = ANY (ARRAY(SELECT number FROM piece ` + inPiece + `)) RETURNING 1)
		` + told
	sqlDropValues = `WITH piece AS (SELECT key, size, ` + running + ` FROM
			(SELECT key, octet_length(value) AS size FROM perdure.metadata WHERE task = $1 ORDER BY key LIMIT $2 + 1) r
			WINDOW w AS (ORDER BY key ROWS UNBOUNDED PRECEDING)),
		gone AS (DELETE FROM perdure.metadata WHERE task = $1 AND key = ANY (ARRAY(SELECT key FROM piece ` + inPiece + `)) RETURNING 1)
		` + told
)

// dropPiece runs one of these statements.
func (t *tx) dropPiece(sql string, incarnation int64, limit int, args ...any) (dropped int, more bool, err error) {
	err = t.query(sql, func(rows pgx.Rows) error {
		var bytes int64
		var seen int
		err := rows.Scan(&dropped, &bytes, &seen)
		t.freed += bytes
		more = seen > dropped
		return err
	}, append([]any{incarnation, limit, t.room()}, args...)...)
	return dropped, more, err
}

// dropSome removes some of what a task has.
func (t *tx) dropSome(incarnation int64, limit int) (dropped int, more bool, err error) {
	for _, piece := range []statement{{sqlDropEvents, []any{int64(never)}}, {sqlDropTurns, nil}, {sqlDropValues, nil}} {
		var n int
		n, more, err = t.dropPiece(piece.sql, incarnation, limit-dropped, piece.args...)
		if dropped += n; err != nil || more {
			return dropped, more, err
		}
	}
	return dropped, false, nil
}

// DropEvents implements rules.Rows. A piece is a row.
func (t *tx) DropEvents(incarnation, below int64, limit int) (dropped int, more bool, err error) {
	if err := t.flush(); err != nil {
		return 0, false, err
	}
	return t.dropPiece(sqlDropEvents, incarnation, limit, below)
}
