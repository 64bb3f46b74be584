package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Group are clusters of one origin, of which one replicates to others. The first is the primary.
type Group struct {
	t       testing.TB
	Servers []*Server
}

// StartGroup makes n clusters of one origin, starts the first, and stops all when the test ends. settings are
// those of all. See Follow.
func StartGroup(t testing.TB, n int, settings ...string) *Group {
	t.Helper()
	bin := binaries(t)
	g := &Group{t: t}
	settings = append([]string{"wal_keep_size=1GB", "fsync=off", "wal_sender_timeout=60s", "wal_retrieve_retry_interval=100ms", "restart_after_crash=on"}, settings...)
	for i := range n {
		dir, err := os.MkdirTemp("", "pgtest-")
		if err != nil {
			t.Fatal(err)
		}
		s := &Server{bin: bin, dir: dir, settings: settings}
		t.Cleanup(s.Stop)
		if i == 0 {
			err = s.create()
		} else {
			err = s.copyOf(g.Servers[0])
		}
		if err != nil {
			t.Fatal(err)
		}
		g.Servers = append(g.Servers, s)
	}
	g.launch(g.Servers[0])
	return g
}

func (g *Group) launch(s *Server) {
	g.t.Helper()
	if err := s.Launch(); err != nil {
		g.t.Fatal(err)
	}
}

// copyOf makes a cluster's files as those of another one, which has not been started yet.
func (s *Server) copyOf(other *Server) (err error) {
	if out, err := exec.Command("cp", "-a", other.dir+"/.", s.dir).CombinedOutput(); err != nil {
		return fmt.Errorf("copy a cluster: %w\n%s", err, out)
	}
	s.port, err = freePort()
	return err
}

// Set adds to a server's settings, from its next start on.
func (s *Server) Set(settings ...string) { s.settings = append(slices.Clone(s.settings), settings...) }

// Follow starts a server as a standby named name of another one, reached at an address, and waits until it replicates.
func (g *Group) Follow(s, of *Server, name, address string) {
	g.t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		g.t.Fatal(err)
	}
	signal := filepath.Join(s.data(), "standby.signal")
	if err := os.WriteFile(signal, nil, 0o600); err != nil {
		g.t.Fatal(err)
	}
	if err := s.own(signal); err != nil {
		g.t.Fatal(err)
	}
	s.Set(fmt.Sprintf("primary_conninfo=host=%s port=%s user=postgres application_name=%s", host, port, name))
	g.launch(s)
	g.Replicates(of, name)
}

// URL is that of whichever server is the primary.
func (g *Group) URL() string {
	var hosts []string
	for _, s := range g.Servers {
		hosts = append(hosts, s.Address())
	}
	return "postgres://postgres@" + strings.Join(hosts, ",") + "/postgres?sslmode=disable&target_session_attrs=read-write&connect_timeout=2"
}

// Replicates waits until a standby is there for a primary.
func (g *Group) Replicates(of *Server, name string) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
	defer cancel()
	for {
		var there bool
		err := of.ask(ctx, "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE state = 'streaming' AND application_name = '"+name+"')", &there)
		if there {
			return
		}
		select {
		case <-ctx.Done():
			g.t.Fatalf("standby %s does not replicate: %v", name, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// own gives a file to who runs the server.
func (s *Server) own(path string) error {
	cred, err := unprivileged()
	if err != nil || cred == nil {
		return err
	}
	return os.Chown(path, int(cred.uid), int(cred.gid))
}

// ask runs a query that returns one value.
func (s *Server) ask(ctx context.Context, sql string, into any) error {
	conn, err := pgx.Connect(ctx, s.URL())
	if err != nil {
		return err
	}
	return errors.Join(conn.QueryRow(ctx, sql).Scan(into), conn.Close(ctx))
}

// Ask runs a query that returns one value, as the server's owner.
func (s *Server) Ask(sql string, into any) error { return s.ask(context.Background(), sql, into) }

// Exec runs statements as the server's owner.
func (s *Server) Exec(sql string) error { return execute(s.URL(), sql) }

// Promote makes a standby a primary, and waits until it is one.
func (s *Server) Promote() error {
	var promoted bool
	if err := s.ask(context.Background(), "SELECT pg_promote(true, 60)", &promoted); err != nil {
		return err
	}
	if !promoted {
		return errors.New("the standby was not promoted within a minute")
	}
	return nil
}

// processes returns the server's processes, the first one first.
func (s *Server) processes() []int {
	all := []int{s.cmd.Process.Pid}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		_, after, _ := strings.Cut(string(text), ") ")
		fields := strings.Fields(after)
		if len(fields) > 1 && fields[1] == strconv.Itoa(all[0]) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			all = append(all, pid)
		}
	}
	return all
}

// Freeze stops all of the server's processes, and Thaw lets them go on.
func (s *Server) Freeze() {
	s.frozen = true
	s.signal(stopSignal)
}

// Thaw ends a Freeze.
func (s *Server) Thaw() {
	s.frozen = false
	s.signal(goOnSignal)
}

func (s *Server) signal(signal syscall.Signal) {
	for _, pid := range s.processes() {
		kill(pid, signal)
	}
}

// Crash kills one of the server's processes that serve clients, upon which the server ends all of them, recovers, and goes on.
func (s *Server) Crash() error {
	var pid int
	conn, err := pgx.Connect(context.Background(), s.URL())
	if err != nil {
		return err
	}
	if err := conn.QueryRow(context.Background(), "SELECT pg_backend_pid()").Scan(&pid); err != nil {
		return err
	}
	if err := kill(pid, syscall.SIGKILL); err != nil {
		return err
	}
	conn.Close(context.Background())
	return s.await()
}
