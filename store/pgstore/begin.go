package pgstore

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// pgx has the server parse what it has not sent over a connection before, and does so ahead of the whole batch. Parsing waits for
// a table that somebody has locked. Were the batch the first of a transaction, the limits that it sets would not hold for that wait:
// it would end with the context, and the server would go on. So what begins a transaction and sets its limits goes ahead of
// statements that the connection may not know.

const (
	statementsKept = 512                // by pgx, for each connection of the store's own
	maxKnown       = statementsKept / 2 // are remembered: pgx still has those when as many others have been sent
)

// known marks the statements that a connection has sent with success. Over a pool that a program lends, it may send so many others of
// its own that pgx has forgotten them: then a read waits for as long as its context lives, and pgx asks the server to cancel it.
const known = "perdure: known"

// sendFirst sends the first batch of a transaction, of which the statements that begin it and set its limits are as many as
// ahead.
func (s *Store) sendFirst(ctx context.Context, conn *pgx.Conn, b *pgx.Batch, ahead int) error {
	told := conn.PgConn().CustomData()
	seen, _ := told[known].(map[string]bool)
	delete(told, known) // until they have succeeded: pgx forgets statements that fail
	queries := b.QueuedQueries
	if s.forgets || !knows(seen, b) {
		if err := sendAhead(ctx, conn, b, ahead); err != nil {
			return err
		}
	}
	if err := conn.SendBatch(ctx, b).Close(); err != nil {
		return err
	}
	if seen == nil || len(seen) > maxKnown {
		seen = map[string]bool{}
	}
	for _, q := range queries {
		seen[q.SQL] = true
	}
	told[known] = seen
	return nil
}

// sendAhead sends the first statements of a batch, and takes them out of it.
func sendAhead(ctx context.Context, db querier, b *pgx.Batch, ahead int) error {
	first := &pgx.Batch{QueuedQueries: b.QueuedQueries[:ahead:ahead]}
	b.QueuedQueries = b.QueuedQueries[ahead:]
	return db.SendBatch(ctx, first).Close()
}

func knows(seen map[string]bool, b *pgx.Batch) bool {
	for _, q := range b.QueuedQueries {
		if !seen[q.SQL] {
			return false
		}
	}
	return true
}

// keepStatements has the connections of a pool of the store's own keep what they know.
func keepStatements(config *pgxpool.Config) {
	c := config.ConnConfig
	c.StatementCacheCapacity = max(c.StatementCacheCapacity, statementsKept)
	c.DescriptionCacheCapacity = max(c.DescriptionCacheCapacity, statementsKept)
}

// forgets reports whether the connections of a pool may not know what they have sent.
func forgets(pool *pgxpool.Pool) bool {
	c := pool.Config().ConnConfig
	return c.DefaultQueryExecMode == pgx.QueryExecModeDescribeExec || min(c.StatementCacheCapacity, c.DescriptionCacheCapacity) < statementsKept
}
