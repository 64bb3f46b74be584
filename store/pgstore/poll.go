package pgstore

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/rules"
)

const (
	// Mail that was seen comes again if this is lost with the server: its commit need not wait for the disk.
	sqlNoSync   = `SELECT set_config('synchronous_commit', 'off', true)`
	sqlSeenMail = `DELETE FROM perdure.mail WHERE worker = $1 AND seq = ANY ($2)`
	sqlMail     = `SELECT seq, worker, task, key, epoch, kind, reason, behind, version FROM perdure.mail
		WHERE worker = $1 ORDER BY seq LIMIT $2`
	// Whether a claim would find something: due tasks, of funcs and perhaps suspects; workers that are dead.
	sqlAnyDue = `SELECT EXISTS (SELECT FROM unnest($2::text[]) AS f (name) WHERE
		EXISTS (SELECT FROM perdure.tasks WHERE func = f.name AND NOT suspect AND due_at > 0 AND due_at <= ` + now1 + `)
		OR $3 AND EXISTS (SELECT FROM perdure.tasks WHERE func = f.name AND suspect AND due_at > 0 AND due_at <= ` + now1 + `))`
	sqlAnyLapsed = `SELECT EXISTS (SELECT FROM perdure.workers WHERE dead OR beat_at > ` + now1 + ` + $2
		OR expires_at <= ` + now1 + ` AND $3 + expires_at - beat_at <= ` + now1 + `)`
)

// Poll implements store.Store, in one round trip, on the connection for what a worker asks.
func (s *Store) Poll(ctx context.Context, req *store.PollRequest) (*store.Polled, error) {
	if err := req.Valid(); err != nil {
		return nil, err
	}
	polled := &store.Polled{}
	since, _ := s.servers.since(s.servers.met())
	_, err := s.ask(ctx, s.polls, sqlBegin, func(r *reading) {
		if len(req.Seen) > 0 {
			r.batch.Queue(sqlNoSync)
			r.batch.Queue(s.sql(sqlSeenMail), req.Worker, req.Seen)
		}
		r.query(sqlMail, func(rows pgx.Rows) error {
			var m store.Mail
			err := rows.Scan(&m.Seq, &m.Worker, &m.TaskID, &m.Incarnation, &m.Epoch, (*string)(&m.Kind), &m.Reason, &m.Behind, &m.Version)
			polled.Mail = append(polled.Mail, m)
			return err
		}, req.Worker, store.MailPage)
		any := func(rows pgx.Rows) error {
			var found bool
			err := rows.Scan(&found)
			polled.Due = polled.Due || found
			return err
		}
		r.query(sqlAnyDue, any, r.given(), append([]string{}, req.Funcs...), req.Suspect)
		r.query(sqlAnyLapsed, any, r.given(), rules.AheadBy.Microseconds(), micros(since))
	})
	if err != nil {
		return nil, err
	}
	return polled, nil
}
