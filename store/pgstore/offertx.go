package pgstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/rules"
)

// OfferTx implements store.Transactional: it is Offer within a transaction of the caller's, a pgx.Tx of the same
// database. The input is accepted when that commits; never is a lease given. After an error the transaction is as it
// was before the call, and may go on. The task stays locked until the transaction ends: what others do to it waits, for
// 3 seconds, and fails then, so the transaction should end soon. What others have locked is waited for no longer either, or
// for the transaction's own lock_timeout where that is less: then the error is a *store.LockedError. In a transaction that
// is not READ COMMITTED, what others have committed meanwhile is an error with Postgres' code 23505 or 40001: begin the transaction
// again. A sequence that lags is set forward over a connection of the store's own.
func (s *Store) OfferTx(ctx context.Context, caller any, req *store.OfferRequest) (*store.Offered, error) {
	outer, ok := caller.(pgx.Tx)
	if !ok {
		return nil, fmt.Errorf("%w: a %T is no pgx.Tx", store.ErrTx, caller)
	}
	if s.writer.isClosed() {
		return nil, store.ErrClosed
	}
	if err := req.Valid(); err != nil {
		return nil, err
	}
	own := *req
	own.Lease, own.Worker = false, ""
	var offered *store.Offered
	var err error
	for range tries {
		err = pgx.BeginFunc(ctx, outer, func(savepoint pgx.Tx) (err error) {
			offered, err = s.offerTx(ctx, savepoint, &own)
			return err
		})
		if locked(err) {
			err = &store.LockedError{TaskID: req.TaskID, What: whatHeld(err, direct)}
		}
		if contended(err) {
			err = s.reconsidered(ctx, err) // beside the transaction: sequences belong to none
		}
		if !contended(err) {
			break
		}
	}
	if err != nil {
		return nil, s.explain(err)
	}
	return offered, nil
}

// Within a transaction of a caller's, its own settings are put back in the end.
const (
	sqlOwnLimit = `SELECT current_setting('lock_timeout')`
	sqlSetLimit = `SELECT set_config('lock_timeout', $1, true) FROM pg_settings
		WHERE name = 'lock_timeout' AND setting::int NOT BETWEEN 1 AND $2`
	sqlPutLimit = `SELECT set_config('lock_timeout', $1, true)`
)

// offerTx offers within a savepoint.
func (s *Store) offerTx(ctx context.Context, savepoint pgx.Tx, req *store.OfferRequest) (offered *store.Offered, err error) {
	o := &op{id: req.TaskID, offer: req, waits: true, run: func(t *tx) (err error) {
		offered, err = rules.Offer(t, t.now, req)
		return err
	}}
	t := s.newTx(ctx, savepoint, direct)
	t.others = true
	var own string
	b := &pgx.Batch{}
	b.Queue(sqlOwnLimit).QueryRow(func(row pgx.Row) error { return row.Scan(&own) })
	b.Queue(sqlSetLimit, direct.locks, lockLimit.Milliseconds())
	busy, err := t.read(b, []*op{o})
	switch {
	case err != nil:
		return nil, err
	case len(busy) > 0:
		return nil, errBusy
	}
	if err := o.run(t); err != nil {
		return nil, err
	}
	b = &pgx.Batch{}
	if err := errors.Join(t.queueChanges(b), t.queueAnnounce(b)); err != nil {
		return nil, err
	}
	b.Queue(sqlPutLimit, own)
	return offered, t.send(b)
}

// sqlAnnounce notifies when the caller's transaction commits.
const sqlAnnounce = `SELECT pg_notify($1, $2)`

// queueAnnounce tells what has changed when the caller's transaction commits: all, this Store value's listeners too.
func (t *tx) queueAnnounce(b *pgx.Batch) error {
	if t.s.opts.PollOnly || t.news.none() {
		return nil
	}
	h := t.news.hint()
	payload, err := json.Marshal(message{All: h.All, Due: h.Due, Mail: h.Mail, Tasks: h.Tasks})
	if err != nil {
		return err
	}
	b.Queue(sqlAnnounce, t.s.texts.schema, string(payload))
	return nil
}

var _ store.Transactional = (*Store)(nil)
