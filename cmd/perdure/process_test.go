package main

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/need"
	"github.com/perdure/perdure/internal/pgtest"
)

// drains starts a turn on a server, ends the server by a signal and checks that the turn has drained and the exit
// code is 0.
func (s *site) drains(how string, end func(*process) error) {
	s.t.Helper()
	s.must("start", "countdown", "--id", "c", "--input", `{"steps":1000,"delay_ms":20}`)
	eventually(s.t, "it counts", func() bool { return strings.Contains(s.must("get", "c", "--json"), `"step": 2`) })
	p := s.current()
	if err := end(p); err != nil {
		s.t.Fatal(err)
	}
	select {
	case <-p.done:
	case <-time.After(deadline):
		s.t.Fatalf("%s: the server has not ended", how)
	}
	if state := p.cmd.ProcessState; state.ExitCode() != 0 {
		s.t.Errorf("%s: the server ended with %v, want exit code 0", how, state)
	}
	if info := s.task("c", "--db", s.db); info.Lease != nil || info.Status != perdure.InProgress || info.Turn.Recoveries != 0 {
		s.t.Errorf("%s: got status %s, lease %v, %d recoveries, want it given back", how, info.Status, info.Lease, info.Turn.Recoveries)
	}
}

func sends(signals ...os.Signal) func(*process) error {
	return func(p *process) error {
		for _, sig := range signals {
			if err := p.cmd.Process.Signal(sig); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestAHangUpDrainsAndIsNeverTheSecondSignal(t *testing.T) {
	t.Parallel()
	for how, signals := range map[string][]os.Signal{
		"SIGHUP": {syscall.SIGHUP}, "SIGHUP twice": {syscall.SIGHUP, syscall.SIGHUP}, "as systemd does": {syscall.SIGTERM, syscall.SIGHUP},
		"a terminal, then its supervisor": {syscall.SIGHUP, syscall.SIGTERM},
	} {
		s := serving(t)
		s.drains(how, sends(signals...))
	}
}

// serveWith starts a server whose standard output and error are what is given, under another program.
func (s *site) serveWith(output *os.File, before ...string) {
	s.t.Helper()
	s.url = "http://" + freeAddress(s.t)
	args := append(before, binary, "serve", "--examples", "--db", s.db, "--listen", strings.TrimPrefix(s.url, "http://"), "--log-level", "debug")
	c := s.command(context.WithoutCancel(s.t.Context()))
	c.Path, c.Args = args[0], args
	if path, err := exec.LookPath(args[0]); err == nil {
		c.Path = path
	}
	c.Stdout, c.Stderr = output, output
	if err := c.Start(); err != nil {
		s.t.Fatal(err)
	}
	p := &process{cmd: c, done: make(chan struct{})}
	s.server = p
	go func() { c.Wait(); close(p.done) }()
	eventually(s.t, "it serves", func() bool { return s.do("workers").code == 0 })
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestADeadLogCutsNoDrain(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	s.serveWith(w)
	w.Close()
	s.drains("a log without a reader", sends(syscall.SIGTERM))
}

func TestAStuckLogCutsNoDrain(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	w.SetWriteDeadline(time.Now().Add(time.Second))
	for err = nil; err == nil; {
		_, err = w.Write(make([]byte, 4096))
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	s.serveWith(w)
	w.Close()
	s.drains("a log that nobody reads", sends(syscall.SIGTERM))
}

func TestNohupOutlivesItsTerminal(t *testing.T) {
	t.Parallel()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	s := newSite(t)
	s.serveWith(null, "sh", "-c", `trap "" HUP; exec "$0" "$@"`)
	p := s.current()
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	s.must("start", "countdown", "--input", `{"steps":1}`, "--wait")
	s.drains("SIGTERM behind an ignored SIGHUP", sends(syscall.SIGTERM))
}

func TestProcessOneDrains(t *testing.T) {
	t.Parallel()
	ns := []string{"unshare", "--pid", "--fork", "--kill-child", "--mount-proc"}
	if err := exec.Command(ns[0], append(ns[1:], "true")...).Run(); err != nil {
		need.Missing(t, "the right to make a namespace of processes (unshare)")
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	s := newSite(t)
	s.serveWith(null, ns...)
	s.drains("process 1", func(p *process) error { // the signal goes to the child of unshare
		return exec.Command("pkill", "-TERM", "-P", strconv.Itoa(p.cmd.Process.Pid)).Run()
	})
}

func TestADatabaseThatIsNotThereYetIsWaitedFor(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	server.Kill()
	s := newSite(t)
	s.db = server.URL()
	p, err := s.launch()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Launch(); err != nil {
		t.Fatal(err)
	}
	select {
	case line := <-p.ready:
		if !readyLine.MatchString(line) {
			<-p.done
			t.Fatalf("got %q\n%s", line, p.stderr)
		}
	case <-time.After(deadline):
		t.Fatal("it is not ready")
	}
	if code := s.stop(); code != 0 {
		t.Errorf("got exit code %d", code)
	}
	if log := p.stderr.String(); strings.Count(log, "waiting for the database") > 4 {
		t.Errorf("it is told again and again:\n%s", log)
	}
}

func TestWhoIsAskedToEndWhileItWaitsForADatabaseEnds(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.db = "postgres://u:s3cret@127.0.0.1:1/x"
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c := s.command(t.Context(), "serve", "--db", s.db, "--listen", "127.0.0.1:0")
	c.Stdout, c.Stderr = w, w
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	first := make([]byte, 4096)
	n, err := r.Read(first)
	if err != nil || !strings.Contains(string(first[:n]), "waiting for the database") || strings.Contains(string(first[:n]), "s3cret") {
		t.Errorf("got %q, %v", first[:n], err)
	}
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, r)
	if err := c.Wait(); err != nil {
		t.Errorf("it ends with %v, want exit code 0", err)
	}
}

func TestNoPasswordOfADatabaseIsPrinted(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, db := range []string{"host=127.0.0.1 port=1 user=u password=s3cret dbname=x", "pg://u:s3cret@h/db", "postgres://u:s3cret@127.0.0.1:1/x?sslmode=maybe"} {
		for _, c := range []string{"serve --listen 127.0.0.1:0 --wait-for-db 0", "ls", "doctor", "migrate", "export", "import", "bench cycles", "start countdown"} {
			r := s.do(append(strings.Fields(c), "--db", db)...)
			if r.code == 0 || strings.Contains(r.out+r.err, "s3cret") {
				t.Errorf("%s --db %q: got %+v", c, db, r)
			}
		}
	}
	s.do("serve", "postgres://u:s3cret@h/db").wants(t, 2, "xxxxx@h/db")
	s.do("ls", "--url", "http://u:s3cret@h:x").wants(t, 2, "xxxxx@h")
	s.do("ls", "--url", "http://u:s3cret@127.0.0.1:1").wants(t, 1, "no server answers at http://u:xxxxx@127.0.0.1:1")
	if files, err := os.ReadDir(s.dir); err != nil || len(files) > 0 {
		t.Errorf("a connection string has become a file: %v, %v", files, err)
	}
}
