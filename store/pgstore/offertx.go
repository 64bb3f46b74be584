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
// was before the call, and may go on. The task, and the mailbox of the worker that runs it, stay locked until the
// transaction ends: what others do to them waits, so it should end soon. In a transaction that is not READ COMMITTED,
// what others have committed meanwhile is an error with Postgres' code 23505 or 40001: begin the transaction again.
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
		if !contended(err) {
			break
		}
	}
	if err != nil {
		return nil, s.explain(err)
	}
	return offered, nil
}

// offerTx offers within a savepoint.
func (s *Store) offerTx(ctx context.Context, savepoint pgx.Tx, req *store.OfferRequest) (offered *store.Offered, err error) {
	o := &op{id: req.TaskID, offer: req, waits: true, run: func(t *tx) (err error) {
		offered, err = rules.Offer(t, t.now, req)
		return err
	}}
	t := s.newTx(ctx, savepoint, true)
	busy, err := t.read(&pgx.Batch{}, []*op{o})
	switch {
	case err != nil:
		return nil, err
	case len(busy) > 0:
		return nil, errBusy
	}
	if err := o.run(t); err != nil {
		return nil, err
	}
	return offered, errors.Join(t.flush(), t.announce())
}

// sqlAnnounce notifies when the caller's transaction commits.
const sqlAnnounce = `SELECT pg_notify($1, $2)`

// announce tells what has changed when the caller's transaction commits: all, this Store value's listeners too.
func (t *tx) announce() error {
	if t.s.opts.PollOnly || t.news.none() {
		return nil
	}
	h := t.news.hint()
	payload, err := json.Marshal(message{All: h.All, Due: h.Due, Mail: h.Mail, Tasks: h.Tasks})
	if err != nil {
		return err
	}
	return t.query(sqlAnnounce, func(pgx.Rows) error { return nil }, t.s.texts.schema, string(payload))
}

var _ store.Transactional = (*Store)(nil)
