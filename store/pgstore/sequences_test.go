package pgstore

import (
	"crypto/rand"
	"testing"

	"github.com/perdure/perdure/internal/pgtest"
	"github.com/perdure/perdure/store"
)

// sequences are what a database has been left with: logical replication and some ways to restore bring rows without them.
var lagging = []string{`SELECT setval('perdure.incarnations', 1, false)`, `SELECT setval('perdure.places', 1, false)`, `SELECT setval('perdure.mail_seq_seq', 1, false)`}

func lag(t *testing.T, s *Store) {
	t.Helper()
	for _, sql := range lagging {
		if err := execute(t, s.sql(sql)); err != nil {
			t.Fatal(err)
		}
	}
}

// busyStore has tasks, some of which wait, and mail.
func busyStore(t *testing.T, opts Options) *Store {
	t.Helper()
	s := openAt(t, pgtest.URL(t), opts)
	register(t, s, "w")
	for _, id := range []string{"one", "two", "three"} {
		mustOffer(t, s, offerReq(id))
	}
	leased(t, s, "mine", "w", 0)
	if _, err := s.Signal(t.Context(), &store.SignalRequest{TaskID: "mine", Kind: store.Cancel}); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSequencesThatLagAreRaisedAtOpen(t *testing.T) {
	opts := Options{Schema: pgtest.Schema(t, pgtest.URL(t)), PollOnly: true}
	lag(t, busyStore(t, opts))
	s := openAt(t, pgtest.URL(t), opts)
	for _, id := range []string{"four", "five"} {
		mustOffer(t, s, offerReq(id))
	}
	if four, three := get(t, s, "four"), get(t, s, "three"); four.Place <= three.Place || four.Incarnation <= three.Incarnation {
		t.Errorf("a new task has place %d and incarnation %d after %d and %d", four.Place, four.Incarnation, three.Place, three.Incarnation)
	}
}

// While programs run, the error that a lagging sequence causes has it raised, and the operation is done.
func TestSequencesThatLagAreRaisedWhenTheyCollide(t *testing.T) {
	s := busyStore(t, Options{Schema: pgtest.Schema(t, pgtest.URL(t)), PollOnly: true})
	before, err := s.Poll(t.Context(), &store.PollRequest{Worker: "w"})
	if err != nil || len(before.Mail) != 1 {
		t.Fatalf("got mail %+v, %v", before, err)
	}
	lag(t, s)
	mustOffer(t, s, offerReq("four"))
	if _, err := s.Signal(t.Context(), &store.SignalRequest{TaskID: "mine", Kind: store.Terminate}); err != nil {
		t.Fatal(err)
	}
	after, err := s.Poll(t.Context(), &store.PollRequest{Worker: "w", Seen: []int64{before.Mail[0].Seq}})
	if err != nil || len(after.Mail) != 1 || after.Mail[0].Seq <= before.Mail[0].Seq {
		t.Errorf("mail after number %d: %+v, %v", before.Mail[0].Seq, after, err)
	}
}

// In a transaction of a caller's, too, which goes on.
func TestSequencesThatLagAreRaisedForATransactionOfACallers(t *testing.T) {
	s := busyStore(t, Options{Schema: pgtest.Schema(t, pgtest.URL(t)), PollOnly: true})
	for range tries {
		mustOffer(t, s, offerReq(rand.Text())) // more than would be passed by trying
	}
	before := get(t, s, "three")
	lag(t, s)
	tx := begin(t)
	for _, req := range []*store.OfferRequest{offerReq("four"), steerReq("mine")} {
		if _, err := s.OfferTx(t.Context(), tx, req); err != nil {
			t.Fatal(err)
		}
	}
	commit(t, tx)
	if four := get(t, s, "four"); four.Incarnation <= before.Incarnation {
		t.Errorf("a new task has incarnation %d after %d", four.Incarnation, before.Incarnation)
	}
	if mail, err := mailOf(t, s, "w"); err != nil || len(mail) != 2 {
		t.Errorf("mail of a cancel and a steer: %v, %v", mail, err)
	}
}
