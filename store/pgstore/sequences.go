package pgstore

import (
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Sequences are not part of what logical replication copies, and some ways to restore a database leave them behind. What they
// give then is in use.

// sqlNumbers reads of each sequence its last number, and the highest that is in use.
const sqlNumbers = `WITH RECURSIVE funcs AS (
		SELECT min(func) AS func FROM perdure.tasks WHERE due_at = 1
		UNION ALL
		SELECT (SELECT min(t.func) FROM perdure.tasks t WHERE t.due_at = 1 AND t.func > f.func) FROM funcs f WHERE f.func IS NOT NULL),
	line AS (SELECT max(p.place) AS place FROM funcs f, LATERAL (
		(SELECT t.place FROM perdure.tasks t WHERE t.func = f.func AND NOT t.suspect AND t.due_at = 1 ORDER BY t.place DESC LIMIT 1)
		UNION ALL
		(SELECT t.place FROM perdure.tasks t WHERE t.func = f.func AND t.suspect AND t.due_at = 1 ORDER BY t.place DESC LIMIT 1)) p)
	SELECT coalesce(pg_sequence_last_value('perdure.incarnations'), 0), coalesce(greatest((SELECT max(key) FROM perdure.tasks),
			(SELECT max(task) FROM perdure.removed), (SELECT max(task) FROM perdure.turns), (SELECT max(task) FROM perdure.events),
			(SELECT max(task) FROM perdure.metadata)), 0),
		coalesce(pg_sequence_last_value('perdure.places'), 0), coalesce((SELECT place FROM line), 0),
		coalesce(pg_sequence_last_value('perdure.mail_seq_seq'), 0), coalesce((SELECT max(seq) FROM perdure.mail), 0)`

// Statements that set a sequence forward.
const (
	sqlSetIncarnations = `SELECT setval('perdure.incarnations', $1) WHERE coalesce(pg_sequence_last_value('perdure.incarnations'), 0) < $1`
	sqlSetPlaces       = `SELECT setval('perdure.places', $1) WHERE coalesce(pg_sequence_last_value('perdure.places'), 0) < $1`
	sqlSetMail         = `SELECT setval('perdure.mail_seq_seq', $1) WHERE coalesce(pg_sequence_last_value('perdure.mail_seq_seq'), 0) < $1`
)

// ahead is by how many of its numbers a sequence is set beyond what is in use: others take some meanwhile.
const ahead = 1024

// raiseSequences sets those forward that lag, in a transaction with the settings of all others.
func (s *Store) raiseSequences(ctx context.Context, conn *pgx.Conn) error {
	t := s.newTx(ctx, conn, direct)
	err := t.send(t.opening())
	if err == nil {
		err = s.raise(ctx, conn)
	}
	if err != nil {
		rollback(conn)
		return err
	}
	_, err = conn.Exec(ctx, sqlCommit)
	return err
}

func (s *Store) raise(ctx context.Context, conn *pgx.Conn) error {
	var last, used [3]int64
	err := conn.QueryRow(ctx, s.sql(sqlNumbers)).Scan(&last[0], &used[0], &last[1], &used[1], &last[2], &used[2])
	if err != nil {
		return err
	}
	for i, sql := range []string{sqlSetIncarnations, sqlSetPlaces, sqlSetMail} {
		if last[i] >= used[i] {
			continue
		}
		step := int64(1)
		if sql == sqlSetPlaces {
			step = placesAtOnce
		}
		if _, err := conn.Exec(ctx, s.sql(sql), used[i]+ahead*step); err != nil {
			return err
		}
	}
	return nil
}

// reused reports whether an error says that a number was given twice.
func reused(err error) bool {
	answer, ok := errors.AsType[*pgconn.PgError](err)
	return ok && answer.Code == pgerrUnique &&
		slices.Contains([]string{"tasks_pkey", "turns_pkey", "turns_input", "events_pkey", "mail_pkey"}, answer.ConstraintName)
}

// renumber sets sequences forward after such an error, so that another try finds them so.
func (s *Store) renumber(ctx context.Context) error {
	conn, err := s.writes.Acquire(ctx)
	if err != nil {
		return unanswered(err)
	}
	defer conn.Release()
	return s.raiseSequences(ctx, conn.Conn())
}
