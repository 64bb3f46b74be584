package pgstore

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/pgtest"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/memstore"
)

// begin begins a transaction of a caller's, on a connection that is not the store's.
func begin(t *testing.T) pgx.Tx {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), pgtest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { hangUp(conn) })
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

func commit(t *testing.T, tx pgx.Tx) {
	t.Helper()
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestOfferTxRefusesATextThatNoStoreKeeps(t *testing.T) {
	s, _ := pair(t)
	tx := begin(t)
	req := offerReq("one")
	req.Title = "\x00"
	_, err := s.OfferTx(t.Context(), tx, req)
	refusesContent(t, "a title with U+0000", err)
	if _, err := s.OfferTx(t.Context(), tx, offerReq("one")); err != nil {
		t.Errorf("the transaction goes on: %v", err)
	}
	commit(t, tx)
}

func TestOfferTxIsAcceptedWithTheTransaction(t *testing.T) {
	s, other := pair(t)
	own, theirs := listen(t, s), listen(t, other)
	own.listening(t)
	theirs.listening(t)
	tx := begin(t)
	o, err := s.OfferTx(t.Context(), tx, offerReq("one"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), "one"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("before the commit: %v, want not found", err)
	}
	commit(t, tx)
	if got, err := s.Get(t.Context(), "one"); err != nil || got.Incarnation != o.Incarnation || got.Status != store.Pending {
		t.Errorf("after the commit: %+v, %v", got, err)
	}
	for _, l := range []*listener{own, theirs} {
		l.until(t, "the task", func(h store.Hint) bool { return h.Due && slices.Contains(h.Tasks, o.Incarnation) })
	}
}

func TestOfferTxIsNothingWithoutTheCommit(t *testing.T) {
	s, _ := pair(t)
	register(t, s, "w")
	leased := offerReq("running")
	leased.Lease, leased.Worker, leased.Request = true, "w", 1
	mustOffer(t, s, leased)
	tx := begin(t)
	steer := offerReq("running")
	steer.InputID, steer.Digests = "steer", []store.Digest{{Sum: "other"}}
	for _, req := range []*store.OfferRequest{offerReq("one"), steer} {
		if _, err := s.OfferTx(t.Context(), tx, req); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), "one"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("after the rollback: %v, want not found", err)
	}
	if mail, err := mailOf(t, s, "w"); err != nil || len(mail) != 0 {
		t.Errorf("mail of a steer that was rolled back: %v, %v", mail, err)
	}
	if task, err := s.Get(t.Context(), "running"); err != nil || task.Queued != 0 {
		t.Errorf("the running task has %d inputs waiting, %v; want none", task.Queued, err)
	}
}

func TestOfferTxThatFailsLeavesTheTransactionUsable(t *testing.T) {
	s, _ := pair(t)
	mustOffer(t, s, offerReq("known"))
	tx := begin(t)
	mismatch := offerReq("known")
	mismatch.Digests = []store.Digest{{Sum: "other"}}
	if _, err := s.OfferTx(t.Context(), tx, mismatch); !errors.Is(err, store.ErrInputMismatch) {
		t.Errorf("got %v, want ErrInputMismatch", err)
	}
	if _, err := s.OfferTx(t.Context(), "no transaction", offerReq("one")); !errors.Is(err, store.ErrTx) {
		t.Errorf("got %v, want ErrTx", err)
	}
	if _, err := s.OfferTx(t.Context(), tx, offerReq("one")); err != nil {
		t.Fatal(err)
	}
	// Of two transactions that make the same task the second waits for the first, and then sees it.
	second := begin(t)
	known := make(chan error, 1)
	go func() {
		o, err := s.OfferTx(context.Background(), second, offerReq("one"))
		if err == nil && o.Decision != store.Known {
			err = errors.New(string(o.Decision))
		}
		known <- err
	}()
	waiting := `SELECT count(*) FROM pg_locks WHERE NOT granted`
	for n := 0; n == 0; {
		if err := s.pool.QueryRow(t.Context(), waiting).Scan(&n); err != nil {
			t.Fatal(err)
		}
	}
	commit(t, tx)
	if err := <-known; err != nil {
		t.Errorf("the same input again: %v", err)
	}
	commit(t, second)
}

// A typed start goes into a transaction by its options, and its turn runs when that has committed.
func TestStartInATransactionRunsWhenThatHasCommitted(t *testing.T) {
	s, _ := pair(t)
	double := perdure.NewFunc[int, int]("double", nil)
	eng, err := perdure.New(s, &perdure.Options{Logger: slog.New(slog.DiscardHandler), Funcs: []perdure.Binding{
		double.Bind(func(_ context.Context, turn *perdure.Turn[int, int]) (int, error) { return 2 * turn.Input(), nil }),
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- eng.Run(ctx) }()
	tx := begin(t)
	h, err := double.Start(t.Context(), eng.Client(), 21, &perdure.StartOptions{Tx: tx})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Result(t.Context()); !errors.Is(err, perdure.ErrDeleted) {
		t.Errorf("before the commit: %v", err)
	}
	commit(t, tx)
	if r, err := h.Result(t.Context()); err != nil || r.Output != 42 {
		t.Errorf("got %+v, %v", r, err)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := double.Start(t.Context(), eng.Client(), 21, &perdure.StartOptions{Tx: tx}); !errors.Is(err, perdure.ErrShuttingDown) {
		t.Errorf("start of an engine that has ended: %v", err)
	}
}

func TestOtherStoresTakePartInNoTransaction(t *testing.T) {
	eng, err := perdure.New(memstore.New(), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = eng.Client().Start(t.Context(), &perdure.StartRequest{Func: "f", Input: []byte("1"), Tx: begin(t)})
	if !errors.Is(err, perdure.ErrTx) {
		t.Errorf("got %v, want ErrTx", err)
	}
}

// mailOf returns all mail of a worker.
func mailOf(t *testing.T, s store.Store, worker string) ([]store.Mail, error) {
	t.Helper()
	p, err := s.Poll(t.Context(), &store.PollRequest{Worker: worker})
	if err != nil {
		return nil, err
	}
	return p.Mail, nil
}
