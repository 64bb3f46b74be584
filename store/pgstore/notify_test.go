package pgstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/perdure/perdure/internal/pgtest"
	"github.com/perdure/perdure/store"
)

func openAt(t *testing.T, url string, opts Options) *Store {
	t.Helper()
	s, err := Open(t.Context(), url, &opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func offerReq(id string) *store.OfferRequest {
	return &store.OfferRequest{
		TaskID: id, Func: "f", InputID: "i-" + id, Input: []byte(`{"n":1}`), Digests: []store.Digest{{Sum: "d"}},
		Settings: &store.Settings{MaxPending: 10, MaxRecoveries: 20, Steerable: true},
		Session:  "s", Agent: "a", Tags: map[string]string{"k": "v", "e": ""}, Title: "t",
	}
}

func mustOffer(t *testing.T, s *Store, req *store.OfferRequest) *store.Offered {
	t.Helper()
	o, err := s.Offer(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func register(t *testing.T, s *Store, worker string) {
	t.Helper()
	_, err := s.Heartbeat(t.Context(), &store.HeartbeatRequest{Worker: worker, Lease: time.Minute, First: true})
	if err != nil {
		t.Fatal(err)
	}
}

// listener is a Listen under way.
type listener struct {
	hints chan store.Hint
	ended chan error
	end   context.CancelFunc
}

func listen(t *testing.T, s *Store) *listener {
	ctx, cancel := context.WithCancel(t.Context())
	l := &listener{hints: make(chan store.Hint, 1000), ended: make(chan error, 1), end: cancel}
	go func() { l.ended <- s.Listen(ctx, func(h store.Hint) { l.hints <- h }) }()
	t.Cleanup(cancel)
	return l
}

// until waits for a hint that is told by what.
func (l *listener) until(t *testing.T, what string, told func(store.Hint) bool) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		select {
		case h := <-l.hints:
			if told(h) {
				return
			}
		case err := <-l.ended:
			t.Fatalf("no hint of %s: Listen ended with %v", what, err)
		case <-limit:
			t.Fatalf("no hint of %s", what)
		}
	}
}

func (l *listener) listening(t *testing.T) {
	t.Helper()
	l.until(t, "listening", func(h store.Hint) bool { return h.All })
}

// pair returns two stores on the same tables.
func pair(t *testing.T) (a, b *Store) {
	url := pgtest.URL(t)
	opts := Options{Schema: pgtest.Schema(t, url)}
	return openAt(t, url, opts), openAt(t, url, opts)
}

func TestListenTellsWhatOthersHaveWritten(t *testing.T) {
	a, b := pair(t)
	l := listen(t, a)
	l.listening(t)

	o := mustOffer(t, b, offerReq("due"))
	l.until(t, "a due task", func(h store.Hint) bool { return h.Due && slices.Contains(h.Tasks, o.Incarnation) })

	register(t, a, "w")
	req := offerReq("leased")
	req.Lease, req.Worker, req.Request = true, "w", 1
	entry := mustOffer(t, a, req).Entry
	if entry == nil {
		t.Fatal("not leased")
	}
	steer := offerReq("leased")
	steer.InputID, steer.Digests = "steer", []store.Digest{{Sum: "other"}}
	if o := mustOffer(t, b, steer); !o.Steered {
		t.Fatalf("got %+v, want a steer", o)
	}
	l.until(t, "mail", func(h store.Hint) bool { return slices.Contains(h.Mail, "w") })

	if _, err := b.Delete(t.Context(), &store.DeleteRequest{TaskID: "due"}); err != nil {
		t.Fatal(err)
	}
	l.until(t, "a deleted task", func(h store.Hint) bool { return slices.Contains(h.Tasks, o.Incarnation) })
}

func TestListenLeavesOutOwnWritesUnlessTwoListen(t *testing.T) {
	a, b := pair(t)
	l := listen(t, a)
	l.listening(t)
	own := mustOffer(t, a, offerReq("own")).Incarnation
	other := mustOffer(t, b, offerReq("other")).Incarnation
	l.until(t, "the other's task", func(h store.Hint) bool {
		if slices.Contains(h.Tasks, own) {
			t.Error("hint at a write of its own")
		}
		return slices.Contains(h.Tasks, other)
	})
	second := listen(t, a)
	second.listening(t)
	again := mustOffer(t, a, offerReq("again")).Incarnation
	for _, l := range []*listener{l, second} {
		l.until(t, "a write of the same store", func(h store.Hint) bool { return slices.Contains(h.Tasks, again) })
	}
}

func TestListenTellsOfAnythingWhenThereIsTooMuchToTell(t *testing.T) {
	a, b := pair(t)
	l := listen(t, a)
	l.listening(t)
	many := news{tasks: map[int64]bool{}}
	for i := range int64(2000) {
		many.tasks[1_000_000+i] = true
	}
	b.news.add(&many)
	l.until(t, "anything", func(h store.Hint) bool { return h.All })
}

func TestListenEndsWithItsConnectionItsContextAndItsStore(t *testing.T) {
	a, b := pair(t)
	l := listen(t, a)
	l.listening(t)
	err := execute(t, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN "`+a.opts.Schema+`%'`)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-l.ended; err == nil || store.Definite(err) {
		t.Errorf("Listen whose connection was lost: %v", err)
	}
	l = listen(t, a)
	l.listening(t)
	l.end()
	if err := <-l.ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Listen whose context ended: %v", err)
	}
	l = listen(t, a)
	l.listening(t)
	a.Close()
	if err := <-l.ended; !errors.Is(err, store.ErrClosed) {
		t.Errorf("Listen of a closed store: %v", err)
	}
	b.opts.PollOnly = true
	l = listen(t, b)
	b.Close()
	if err := <-l.ended; !errors.Is(err, store.ErrClosed) {
		t.Errorf("Listen of a closed store that polls: %v", err)
	}
}

func TestPollOnlySendsNoNotifications(t *testing.T) {
	url := pgtest.URL(t)
	schema := pgtest.Schema(t, url)
	quiet := openAt(t, url, Options{Schema: schema, PollOnly: true})
	loud := openAt(t, url, Options{Schema: schema})
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer hangUp(conn)
	if _, err := conn.Exec(t.Context(), `LISTEN `+schema); err != nil {
		t.Fatal(err)
	}
	hushed := mustOffer(t, quiet, offerReq("quiet")).Incarnation
	told := mustOffer(t, loud, offerReq("loud")).Incarnation
	for heard := false; !heard; {
		note, err := conn.WaitForNotification(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(note.Payload, fmt.Sprint("[", hushed, "]")) {
			t.Error("a notification of a store that polls only")
		}
		heard = strings.Contains(note.Payload, fmt.Sprint("[", told, "]"))
	}
}

func execute(t *testing.T, sql string) error {
	t.Helper()
	ctx := context.WithoutCancel(t.Context()) // also when the test ends
	conn, err := pgx.Connect(ctx, pgtest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer hangUp(conn)
	_, err = conn.Exec(ctx, sql)
	return err
}

// A pooler in transaction mode takes LISTEN away from who has said it: everything else works through it.
func TestBehindPgBouncerEverythingWorksButNotifications(t *testing.T) {
	direct := pgtest.URL(t)
	pooled := pgtest.Bouncer(t, direct)
	opts := Options{Schema: pgtest.Schema(t, direct)}
	s := openAt(t, pooled, opts)
	if err := <-listen(t, s).ended; !errors.Is(err, errPooled) {
		t.Errorf("Listen behind a pooler: %v", err)
	}
	opts.ListenURL = direct
	around := openAt(t, pooled, opts)
	l := listen(t, around)
	l.listening(t)
	o := mustOffer(t, s, offerReq("one"))
	l.until(t, "a task", func(h store.Hint) bool { return slices.Contains(h.Tasks, o.Incarnation) })
}
