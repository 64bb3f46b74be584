package main

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

func write(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestServeRefusesWhatItCannotServe(t *testing.T) {
	t.Parallel()
	s := serving(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	text := write(t, filepath.Join(s.dir, "text.db"), strings.Repeat("this is no database ", 100))
	linked := write(t, filepath.Join(s.dir, "linked.db"), "")
	if err := os.Link(linked, linked+".other"); err != nil {
		t.Fatal(err)
	}
	config := write(t, filepath.Join(s.dir, "c.yaml"), "max-runing: 3\n")
	for name, c := range map[string]struct {
		args string
		code int
		want string
	}{
		"a file in use":         {"--listen 127.0.0.1:0 --db " + s.db, 1, s.db + " is in use by another engine"},
		"a port in use":         {"--db o.db --listen " + taken.Addr().String(), 1, "the port is in use"},
		"every address":         {"--listen 0.0.0.0:0", 2, "no authentication yet"},
		"every address, short":  {"--listen :0", 2, "no authentication yet"},
		"every address, v6":     {"--listen [::]:0", 2, "no authentication yet"},
		"a name":                {"--listen example.com:80", 2, "no authentication yet"},
		"no port":               {"--listen 127.0.0.1", 2, "HOST:PORT"},
		"a port beyond all":     {"--listen 127.0.0.1:99999", 2, "HOST:PORT"},
		"a text file":           {"--listen 127.0.0.1:0 --db " + text, 1, "not a SQLite database"},
		"a folder":              {"--listen 127.0.0.1:0 --db " + s.dir, 1, "is a directory"},
		"a missing folder":      {"--listen 127.0.0.1:0 --db no/such/x.db", 1, "no/such"},
		"another database":      {"--listen 127.0.0.1:0 --db mysql://x", 2, "begins with postgres://, not with mysql://"},
		"no database":           {"--listen 127.0.0.1:0 --wait-for-db 0 --db postgres://127.0.0.1:1/x", 1, "127.0.0.1"},
		"a bad URL":             {"--listen 127.0.0.1:0 --db postgres://x:y:z", 2, "not a valid URL"},
		"nothing":               {"--listen 127.0.0.1:0 --only-api --only-worker", 2, "nothing to do"},
		"no migration":          {"--listen 127.0.0.1:0 --db o.db --no-migrate", 2, "--no-migrate"},
		"a level":               {"--listen 127.0.0.1:0 --log-level loud", 2, "--log-level"},
		"a format":              {"--listen 127.0.0.1:0 --log-format xml", 2, "--log-format"},
		"a short lease":         {"--listen 127.0.0.1:0 --db o.db --lease 1ms", 2, "Lease"},
		"no drain":              {"--listen 127.0.0.1:0 --drain 0s", 2, "--drain"},
		"no turns":              {"--listen 127.0.0.1:0 --max-running 0", 2, "--max-running"},
		"no config":             {"--config none.yaml", 2, "none.yaml"},
		"an unknown setting":    {"--config " + config, 2, "max-runing: there is no such setting"},
		"an argument":           {"now", 2, "unknown command"},
		"a file with two names": {"--listen 127.0.0.1:0 --db " + linked, 1, "2 names (hard links)"},
	} {
		t.Run(name, func(t *testing.T) {
			s.do(append([]string{"serve"}, strings.Fields(c.args)...)...).wants(t, c.code, c.want)
		})
	}
	s.must("ls") // the first server goes on
}

func TestServeRefusesANewerSchema(t *testing.T) {
	t.Parallel()
	s := serving(t)
	s.stop()
	conn, err := sqlite.OpenConn(s.db, sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	if err := sqlitex.ExecuteTransient(conn, "PRAGMA user_version = 999", nil); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	s.do("serve", "--listen", "127.0.0.1:0", "--db", s.db).wants(t, 1, "schema version 999 is newer")
	s.do("ls", "--db", s.db).wants(t, 1, "schema version 999 is newer")
}

func TestFlagsWinOverTheEnvironmentAndThatOverTheFile(t *testing.T) {
	t.Parallel()
	config := write(t, filepath.Join(t.TempDir(), "c.yaml"), "max_running: 1\ndrain: 1s\nlease: 1m\nexamples: true\n")
	environ := []string{"PERDURE_MAX_RUNNING=2", "PERDURE_DRAIN=2s", "PERDURE_URL=http://x", "OTHER=1"}
	var set settings
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	flags.IntVar(&set.maxRunning, "max-running", 0, "")
	flags.DurationVar(&set.drain, "drain", 0, "")
	flags.DurationVar(&set.lease, "lease", 0, "")
	flags.BoolVar(&set.examples, "examples", false, "")
	flags.StringVar(&set.db, "db", "perdure.db", "")
	if err := flags.Parse([]string{"--max-running=3"}); err != nil {
		t.Fatal(err)
	}
	if err := configure(flags, config, environ); err != nil {
		t.Fatal(err)
	}
	want := settings{maxRunning: 3, drain: 2 * time.Second, lease: time.Minute, examples: true, db: "perdure.db"}
	if set != want {
		t.Errorf("got %+v, want %+v", set, want)
	}
	for environ, want := range map[string]string{
		"PERDURE_DRAIN=soon":   "environment: PERDURE_DRAIN",
		"PERDURE_EXAMPLES=yup": "environment: PERDURE_EXAMPLES",
	} {
		if err := configure(flags, "", []string{environ}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q in it", environ, err, want)
		}
	}
	for content, want := range map[string]string{"max-running": "c.json", `{"lease":"long"}`: "lease: ", `{"lease":{"a":1}}`: "lease.a: there is no such setting"} {
		path := write(t, filepath.Join(t.TempDir(), "c.json"), content)
		if err := configure(flags, path, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q in it", content, err, want)
		}
	}
}

// While somebody keeps the engine from its first write, the server says so.
func TestAServerThatIsNotReadyYetAnswers(t *testing.T) {
	t.Parallel()
	s := serving(t)
	s.stop()
	db, err := sqlite.OpenConn(s.db, sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := sqlitex.ExecuteScript(db, `CREATE TRIGGER keeps BEFORE INSERT ON workers BEGIN SELECT RAISE(ABORT, 'no'); END`, nil); err != nil {
		t.Fatal(err)
	}
	p, err := s.launch()
	if err != nil {
		t.Fatal(err)
	}
	status := func(path string) int {
		res, err := http.Get(s.url + path)
		if err != nil {
			return 0
		}
		defer res.Body.Close()
		return res.StatusCode
	}
	eventually(t, "it answers", func() bool { return status("/healthz") == http.StatusOK })
	if got := status("/readyz"); got != http.StatusServiceUnavailable {
		t.Errorf("/readyz: got %d, want %d", got, http.StatusServiceUnavailable)
	}
	select {
	case line := <-p.ready:
		t.Errorf("it says that it is ready: %q", line)
	default:
	}
	if err := sqlitex.ExecuteTransient(db, `DROP TRIGGER keeps`, nil); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.ready:
	case <-time.After(deadline):
		t.Fatal("it is never ready")
	}
	if got := status("/readyz"); got != http.StatusOK {
		t.Errorf("/readyz: got %d, want %d", got, http.StatusOK)
	}
}
