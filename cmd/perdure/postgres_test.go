package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/pgtest"
)

// onPostgres returns a function that makes sites whose servers work on one database together, and the database's URL.
func onPostgres(t *testing.T) (join func(args ...string) *site, db string) {
	t.Helper()
	server := pgtest.URL(t)
	db = server + "&schema=" + pgtest.Schema(t, server)
	return func(args ...string) *site {
		s := newSite(t, args...)
		s.db = db
		s.start()
		return s
	}, db
}

func TestServersOnPostgresTakeOverFromEachOther(t *testing.T) {
	t.Parallel()
	join, db := onPostgres(t)
	first := join("--lease", "1s")
	api := join("--only-api")
	waited := api.begin("", "start", "countdown", "--id", "c", "--input", `{"steps":20,"delay_ms":100}`, "--wait")
	eventually(t, "a few steps are done", func() bool {
		r := api.do("get", "c", "--json")
		return r.code == 0 && len(decode[*perdure.Info](t, r.out).Metadata) > 0
	})
	join("--lease", "1s", "--only-worker")
	first.kill()
	r := waited()
	if r.code != 0 || !strings.Contains(strings.Join(strings.Fields(r.out), ""), `"entries":["fresh","recovered"]`) {
		t.Errorf("got exit code %d, %s%s", r.code, r.out, r.err)
	}
	if out := api.must("ls", "--db", db); !strings.Contains(out, "countdown") {
		t.Errorf("ls --db: %s", out)
	}
	if out := api.must("doctor", "--db", db); !strings.Contains(out, "answers") {
		t.Errorf("doctor --db: %s", out)
	}
}

func TestAnOnlyAPIServerIsNoWorker(t *testing.T) {
	t.Parallel()
	join, db := onPostgres(t)
	api := join("--only-api")
	api.must("start", "countdown", "--id", "c", "--input", `{"steps":1}`)
	if out := api.must("workers", "--json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("workers of a server that runs nothing: %s", out)
	}
	if got := api.task("c").Status; got != perdure.Pending {
		t.Errorf("got status %s without a worker, want pending", got)
	}
	worker := join("--only-worker")
	api.must("wait", "c")
	worker.do("ls").wants(t, 1, "no such route")
	if out := api.must("workers", "--db", db, "--json"); strings.Count(out, `"worker"`) != 1 {
		t.Errorf("workers: %s", out)
	}
	if code := worker.stop(); code != 0 {
		t.Errorf("the worker's exit code is %d", code)
	}
}

func TestACarelessDatabaseIsToldOf(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t, "fsync=off").URL()
	s := newSite(t)
	s.db = server + "&schema=" + pgtest.Schema(t, server)
	s.start()
	if out := s.must("doctor", "--db", s.db); !strings.Contains(out, "warning") || !strings.Contains(out, "fsync is off") {
		t.Errorf("doctor --db: %s", out)
	}
	s.stop()
	if log := s.current().stderr.String(); !strings.Contains(log, "level=WARN") || !strings.Contains(log, "fsync is off") {
		t.Errorf("the log of serve: %s", log)
	}
}

func TestMigrationsArePrintedAndApplied(t *testing.T) {
	t.Parallel()
	server := pgtest.URL(t)
	db := server + "&schema=" + pgtest.Schema(t, server)
	s := newSite(t)
	s.do("serve", "--listen", "127.0.0.1:0", "--no-migrate", "--db", db).wants(t, 1, "migrate --print")
	script := s.must("migrate", "--print", "--db", db)
	psql, err := exec.LookPath("psql")
	if err == nil {
		c := exec.Command(psql, "-q", "-v", "ON_ERROR_STOP=1", server)
		c.Stdin = strings.NewReader(script)
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("psql: %v\n%s", err, out)
		}
	} else {
		s.must("migrate", "--db", db)
	}
	if out := s.must("migrate", "--print", "--db", db); out != "" {
		t.Errorf("after the migration there is more to do: %s", out)
	}
	s.db, s.args = db, []string{"--examples", "--no-migrate"}
	s.start()
	s.must("start", "countdown", "--input", `{"steps":1}`, "--wait")
	s.must("migrate", "--db", db) // again
	if out := s.must("migrate", "--print"); !strings.Contains(out, "CREATE TABLE perdure.tasks") {
		t.Errorf("got %.200s", out)
	}
	s.do("migrate").wants(t, 2, "--db is missing")
	s.do("migrate", "--db", "x.db").wants(t, 2, "SQLite")
}

func TestTasksMoveFromAFileToADatabase(t *testing.T) {
	t.Parallel()
	join, db := onPostgres(t)
	s := serving(t)
	s.must("start", "countdown", "--id", "done", "--input", `{"steps":3}`, "--wait")
	s.must("start", "approval", "--id", "open", "--input", `{"request":"move?"}`)
	s.do("import", "--db", s.db).wants(t, 1, "servers run on")
	s.kill()
	for _, args := range [][]string{{"export"}, {"import"}, {"export", "--db", "none.db"}, {"import", "--db", s.db, "none.jsonl"}} {
		if r := s.do(args...); r.code == 0 || r.out != "" {
			t.Errorf("%q: exit code %d, %s", args, r.code, r.out)
		}
	}
	file := write(t, filepath.Join(s.dir, "tasks.jsonl"), s.must("export", "--db", s.db))
	s.feed("no export", "import", "--db", db).wants(t, 1, "not a whole export")
	s.must("import", "--db", db, file)
	if want, got := s.must("export", "--db", s.db), s.must("export", "--db", db); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	moved := join()
	if got := moved.task("done").Status; got != perdure.Completed {
		t.Errorf("got status %s", got)
	}
	moved.must("start", "countdown", "--input", `{"steps":1}`, "--wait")
}

func TestPasswordsAreNotShown(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, db := range []string{"postgres://u:secret@127.0.0.1:1/x", "postgres://127.0.0.1:1/x?user=u&password=secret"} {
		for _, args := range [][]string{{"serve", "--db", db}, {"ls", "--db", db}, {"migrate", "--db", db}, {"doctor", "--db", db}} {
			r := s.do(args...)
			if r.code == 0 || strings.Contains(r.err+r.out, "secret") {
				t.Errorf("%q: exit code %d, %s%s", args, r.code, r.out, r.err)
			}
		}
	}
}
