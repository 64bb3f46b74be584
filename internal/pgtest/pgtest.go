// Package pgtest gives tests a Postgres: the server that PERDURE_TEST_POSTGRES names, else a cluster of their own
// in a temporary folder, at a free port, as a user that is not root.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/perdure/perdure/internal/need"
)

// shared is the cluster of this process, made when first asked for.
type shared struct {
	once   sync.Once
	server *Server
	err    error
}

var ours shared

// Main runs a package's tests, stops the cluster that they used, and exits. TestMain calls it.
func Main(m *testing.M) { os.Exit(Run(m)) }

// Run is Main for a TestMain that has more to do: it returns the exit code.
func Run(m *testing.M) int {
	defer func() {
		if ours.server != nil {
			ours.server.Stop()
		}
	}()
	return m.Run()
}

// URL returns the URL of a server that tests share. Each makes a schema of its own there, see [Schema].
func URL(t testing.TB) string {
	t.Helper()
	if given := os.Getenv("PERDURE_TEST_POSTGRES"); given != "" {
		return given
	}
	bin := binaries(t)
	ours.once.Do(func() { ours.server, ours.err = start(bin, "fsync=off", "full_page_writes=off") })
	if ours.err != nil {
		t.Fatal(ours.err)
	}
	return ours.server.URL()
}

var schemas atomic.Int64

// Schema returns the name of a schema that is not there yet; it is dropped when the test ends.
func Schema(t testing.TB, url string) string {
	t.Helper()
	name := fmt.Sprintf("perdure_test_%d_%d", os.Getpid(), schemas.Add(1))
	t.Cleanup(func() {
		if err := execute(url, "DROP SCHEMA IF EXISTS "+name+" CASCADE"); err != nil {
			t.Logf("drop schema %s: %v", name, err)
		}
	})
	return name
}

// Empty removes all rows of a schema of perdure's, so that a test that needs many empty ones need not make them.
// It deletes: TRUNCATE makes a new file for each table and each index, which takes longer than most runs.
func Empty(t testing.TB, url, schema string) {
	t.Helper()
	err := execute(url, fmt.Sprintf(`DO $$
		DECLARE name text;
		BEGIN
			FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = '%[1]s' AND tablename <> 'schema_version' LOOP
				EXECUTE format('DELETE FROM %[1]s.%%I', name);
			END LOOP;
		END $$`, schema))
	if err != nil {
		t.Fatalf("empty schema %s: %v", schema, err)
	}
}

func execute(url, sql string) error {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	return errors.Join(err, conn.Close(ctx))
}

// Server is a cluster of its own, for tests that stop and restart it.
type Server struct {
	bin, dir string
	port     int
	settings []string
	cmd      *exec.Cmd
	exited   chan struct{}
	frozen   bool
}

// Start makes and starts a cluster with the server's settings, such as "fsync=off", and stops it when the test ends.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	s, err := start(binaries(t), settings...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// binaries returns the folder of Postgres' programs: PERDURE_TEST_POSTGRES_BIN, else that of the newest version.
func binaries(t testing.TB) string {
	t.Helper()
	if given := os.Getenv("PERDURE_TEST_POSTGRES_BIN"); given != "" {
		return given
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) > 0 {
		slices.SortFunc(found, func(a, b string) int { return version(a) - version(b) })
		return filepath.Dir(found[len(found)-1])
	}
	return filepath.Dir(need.Program(t, "initdb"))
}

func version(path string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
	return n
}

func start(bin string, settings ...string) (*Server, error) {
	dir, err := os.MkdirTemp("", "pgtest-")
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin, dir: dir, settings: settings}
	if err := s.create(); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	if err := s.Launch(); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

// create makes the cluster's files, and gives them to who will run it.
func (s *Server) create() error {
	cred, err := unprivileged()
	if err != nil {
		return err
	}
	if cred != nil {
		if err := os.Chown(s.dir, int(cred.uid), int(cred.gid)); err != nil {
			return err
		}
	}
	cmd := s.command("initdb", "-D", s.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	s.port, err = freePort()
	return err
}

// account is whom a program runs as.
type account struct{ uid, gid uint32 }

// unprivileged returns whom to run Postgres as when this process is root's; else nil.
func unprivileged() (*account, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return nil, err
		}
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	return &account{uint32(uid), uint32(gid)}, errors.Join(err1, err2)
}

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "HOME="+s.dir, "LC_ALL=C", "TZ=UTC")
	cred, _ := unprivileged()
	cmd.SysProcAttr = runAs(cred)
	return cmd
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Address returns where the server listens.
func (s *Server) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// URL returns the URL of the server's database.
func (s *Server) URL() string { return s.URLAt(s.Address()) }

// URLAt returns the URL of the server's database by way of another address, such as a proxy's.
func (s *Server) URLAt(address string) string {
	u := url.URL{Scheme: "postgres", User: url.User("postgres"), Host: address, Path: "/postgres", RawQuery: "sslmode=disable"}
	return u.String()
}

// Launch starts the server, and waits until it answers.
func (s *Server) Launch() error {
	args := []string{"-D", s.data(), "-p", strconv.Itoa(s.port), "-k", s.dir, "-c", "listen_addresses=127.0.0.1",
		"-c", "max_connections=300", "-c", "log_min_messages=fatal"}
	for _, set := range s.settings {
		args = append(args, "-c", set)
	}
	s.cmd, s.exited = s.command("postgres", args...), make(chan struct{})
	dieWithUs(s.cmd.SysProcAttr)
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	s.cmd.Stdout, s.cmd.Stderr = log, log
	started := make(chan error)
	go func(cmd *exec.Cmd, exited chan struct{}) {
		runtime.LockOSThread()
		defer close(exited)
		defer log.Close()
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait()
		}
	}(s.cmd, s.exited)
	if err := <-started; err != nil {
		return err
	}
	return s.await()
}

// answerWithin bounds how long a server may take to start: a recovery comes first after an immediate stop.
const answerWithin = time.Minute

// await waits until the server answers, and checks that it is this one.
func (s *Server) await() error {
	ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
	defer cancel()
	for {
		dir, err := s.dataDirectory(ctx)
		if err == nil && dir != s.data() {
			return fmt.Errorf("another server, of %s, answers at %s", dir, s.Address())
		}
		if err == nil {
			return nil
		}
		select {
		case <-s.exited:
			log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			return fmt.Errorf("postgres has ended: %s", log)
		case <-ctx.Done():
			return fmt.Errorf("postgres does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *Server) dataDirectory(ctx context.Context) (dir string, err error) {
	conn, err := pgx.Connect(ctx, s.URL())
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	err = conn.QueryRow(ctx, "SHOW data_directory").Scan(&dir)
	return dir, err
}

// Kill stops the server at once, as if the machine had lost its processes (pg_ctl stop -m immediate).
func (s *Server) Kill() {
	if s.frozen {
		s.Thaw()
	}
	s.cmd.Process.Signal(syscall.SIGQUIT)
	<-s.exited
}

// Stop stops the server and removes its files.
func (s *Server) Stop() {
	if s.cmd != nil && s.cmd.Process != nil {
		s.Kill()
	}
	os.RemoveAll(s.dir)
}
