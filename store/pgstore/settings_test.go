package pgstore

import (
	"strings"
	"testing"

	"github.com/perdure/perdure/internal/pgtest"
)

// What a role's defaults say does not matter to what the store does.
func TestDefaultsOfARoleDoNotMatter(t *testing.T) {
	at := asRole(t, "off")
	for _, set := range []string{
		"statement_timeout = '1s'", "default_transaction_read_only = on", "default_transaction_isolation = 'serializable'",
		"row_security = on", "client_min_messages = 'error'", "lock_timeout = '1ms'", "idle_in_transaction_session_timeout = '10s'",
	} {
		if err := execute(t, "ALTER ROLE "+roleOf(at)+" SET "+set); err != nil {
			t.Fatal(err)
		}
	}
	schema := pgtest.Schema(t, pgtest.URL(t))
	if err := Migrate(t.Context(), at, schema); err != nil {
		t.Fatal(err)
	}
	s := openAt(t, at, Options{Schema: schema, PollOnly: true})
	for _, sql := range []string{
		`CREATE FUNCTION perdure.wait() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(1.5); RETURN NEW; END$$`,
		`CREATE TRIGGER wait BEFORE INSERT ON perdure.tasks FOR EACH ROW EXECUTE FUNCTION perdure.wait()`,
	} {
		if err := execute(t, s.sql(sql)); err != nil {
			t.Fatal(err)
		}
	}
	register(t, s, "w")
	leased(t, s, "one", "w", 0)
	if _, err := s.Get(t.Context(), "one"); err != nil {
		t.Error(err)
	}
}

func roleOf(at string) string {
	_, after, _ := strings.Cut(at, "//")
	role, _, _ := strings.Cut(after, "@")
	return role
}

// Rows that a policy hides are not absent.
func TestAPolicyHidesNothing(t *testing.T) {
	at := asRole(t, "on")
	s := openAt(t, at, Options{Schema: pgtest.Schema(t, at), PollOnly: true})
	mustOffer(t, s, offerReq("one"))
	if err := execute(t, s.sql(`ALTER TABLE perdure.tasks ENABLE ROW LEVEL SECURITY; ALTER TABLE perdure.tasks FORCE ROW LEVEL SECURITY`)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), "one"); err == nil || !strings.Contains(err.Error(), "row-level security") {
		t.Errorf("a read of what a policy hides: %v", err)
	}
	if _, err := s.Offer(t.Context(), offerReq("one")); err == nil {
		t.Error("an offer was answered by what a policy shows")
	}
}

func TestWarningsTellOfReplication(t *testing.T) {
	t.Parallel()
	_, a, b := replicated(t)
	s := openAt(t, a.URL(), Options{PollOnly: true})
	if got := warnings(t, s); strings.Contains(got, "standby") {
		t.Errorf("got %q with a synchronous standby", got)
	}
	r, err := s.Replication(t.Context())
	if err != nil || *r != (Replication{Timeline: 1, Names: "ANY 1 (b)", Standbys: 1, Synchronous: 1}) {
		t.Errorf("got %+v, %v", r, err)
	}
	b.Kill()
	if got := warnings(t, s); !strings.Contains(got, "nothing that is written is acknowledged") {
		t.Errorf("got %q without the standby", got)
	}
}

func TestWarningsTellOfAStandbyThatIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	g := pgtest.StartGroup(t, 2, "search_path=public,pg_catalog")
	a, b := g.Servers[0], g.Servers[1]
	g.Follow(b, a, "b", a.Address())
	s := openAt(t, a.URL(), Options{PollOnly: true})
	for _, want := range []string{"synchronous_standby_names is empty", "search_path is public"} {
		if got := warnings(t, s); !strings.Contains(got, want) {
			t.Errorf("got %q, want that %s", got, want)
		}
	}
}
