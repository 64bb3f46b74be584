package pgstore

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/perdure/perdure/internal/pgtest"
)

// asRole makes a role of a test's own with a default of its own for synchronous_commit, and returns the server's URL for it.
func asRole(t *testing.T, commit string) string {
	t.Helper()
	server := pgtest.URL(t)
	role := pgtest.Schema(t, server) // a name that is not in use
	for _, sql := range []string{
		"CREATE ROLE " + role + " LOGIN", "GRANT CREATE ON DATABASE postgres TO " + role,
		"ALTER ROLE " + role + " SET synchronous_commit = " + commit,
	} {
		if err := execute(t, sql); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if err := execute(t, "DROP OWNED BY "+role+" CASCADE; DROP ROLE "+role); err != nil {
			t.Error(err)
		}
	})
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User(role)
	return u.String()
}

// committed is how the transactions of a store commit, as a trigger sees it.
func committed(t *testing.T, s *Store) (setting string) {
	t.Helper()
	conn, err := s.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	for _, sql := range []string{
		`CREATE TABLE perdure.seen (setting text)`,
		`CREATE FUNCTION perdure.see() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
			INSERT INTO perdure.seen SELECT current_setting('synchronous_commit'); RETURN NEW; END$$`,
		`CREATE TRIGGER see BEFORE INSERT ON perdure.tasks FOR EACH ROW EXECUTE FUNCTION perdure.see()`,
	} {
		if _, err := conn.Exec(t.Context(), s.sql(sql)); err != nil {
			t.Fatal(err)
		}
	}
	mustOffer(t, s, offerReq("one"))
	if err := conn.QueryRow(t.Context(), s.sql(`SELECT setting FROM perdure.seen`)).Scan(&setting); err != nil {
		t.Fatal(err)
	}
	return setting
}

func TestCommitsWaitForTheDiskWhateverTheDefault(t *testing.T) {
	for _, c := range []struct {
		byDefault string
		unsafe    bool
		want      string
	}{
		{"off", false, "on"}, {"local", false, "on"}, {"remote_write", false, "on"}, {"on", false, "on"},
		{"remote_apply", false, "remote_apply"}, {"off", true, "off"}, {"remote_apply", true, "remote_apply"},
	} {
		t.Run(fmt.Sprint(c.byDefault, c.unsafe), func(t *testing.T) {
			at := asRole(t, c.byDefault)
			s := openAt(t, at, Options{Schema: pgtest.Schema(t, at), UnsafeNoSync: c.unsafe})
			same(t, "synchronous_commit", committed(t, s), c.want)
		})
	}
}

func warnings(t *testing.T, s *Store) string {
	t.Helper()
	found, err := s.Warnings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(found, "\n")
}

func TestWarningsTellWhatTheServerDoesNotKeep(t *testing.T) {
	careless := pgtest.Start(t, "fsync=off", "full_page_writes=off", "synchronous_commit=off").URL()
	s := openAt(t, careless, Options{UnsafeNoSync: true})
	for _, setting := range []string{"fsync is off", "full_page_writes is off", "synchronous_commit is off"} {
		if got := warnings(t, s); !strings.Contains(got, setting) {
			t.Errorf("got %q, want that %s", got, setting)
		}
	}
	if got := warnings(t, openAt(t, careless, Options{})); strings.Contains(got, "synchronous_commit") {
		t.Errorf("got %q of a store that does not leave synchronous_commit as it is", got)
	}
	if got := warnings(t, openAt(t, pgtest.Start(t).URL(), Options{})); got != "" {
		t.Errorf("got %q of a server with the defaults", got)
	}
}
