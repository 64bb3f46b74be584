package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/pgtest"
)

// binary is the program, built once for all tests.
var binary string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "perdure-cmd")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP) // which nohup ignores, and a child with it: what is caught is not ignored there
	binary = filepath.Join(dir, "perdure")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		return 1
	}
	return pgtest.Run(m)
}

// deadline bounds every wait of a test.
const deadline = 60 * time.Second

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	over := time.After(deadline)
	for !holds() {
		select {
		case <-tick.C:
		case <-over:
			t.Fatalf("after %v: not yet: %s", deadline, what)
		}
	}
}

// site is a folder with a store's file, and at most one server on it.
type site struct {
	t    *testing.T
	dir  string
	db   string
	url  string
	args []string // of serve

	mu     sync.Mutex
	server *process
}

// process is a server that runs.
type process struct {
	cmd    *exec.Cmd
	ready  chan string // its first line; closed when it ends
	done   chan struct{}
	stderr *bytes.Buffer // to be read after done
}

func newSite(t *testing.T, args ...string) *site {
	t.Helper()
	dir := t.TempDir()
	s := &site{t: t, dir: dir, db: filepath.Join(dir, "perdure.db"), args: append([]string{"--examples"}, args...)}
	t.Cleanup(func() {
		if p := s.current(); p != nil {
			p.cmd.Process.Kill()
			<-p.done
		}
	})
	return s
}

// serving returns a site with a server that takes work.
func serving(t *testing.T, args ...string) *site {
	t.Helper()
	s := newSite(t, args...)
	s.start()
	return s
}

func (s *site) current() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.server
}

// command returns the program with an environment of its own.
func (s *site) command(ctx context.Context, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, binary, args...)
	c.Dir = s.dir
	c.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "PERDURE_URL=" + s.url}
	return c
}

var readyLine = regexp.MustCompile(`^perdure: ready at (http://127\.0\.0\.1:\d+), db .*, funcs: .+`)

// start starts the server, at the address of the one before, and waits until it is ready.
func (s *site) start() {
	s.t.Helper()
	p, err := s.launch()
	if err != nil {
		s.t.Fatal(err)
	}
	select {
	case line := <-p.ready:
		m := readyLine.FindStringSubmatch(line)
		if m == nil {
			<-p.done
			s.t.Fatalf("serve: got %q, want the ready line\n%s", line, p.stderr)
		}
		s.url = m[1]
	case <-time.After(deadline):
		s.t.Fatal("serve: not ready")
	}
}

// launch starts the server and returns at once.
func (s *site) launch() (*process, error) {
	address := strings.TrimPrefix(s.url, "http://")
	if address == "" {
		address = "127.0.0.1:0"
	}
	c := s.command(context.WithoutCancel(s.t.Context()), append([]string{"serve", "--db", s.db, "--listen", address}, s.args...)...)
	p := &process{cmd: c, ready: make(chan string, 1), done: make(chan struct{}), stderr: &bytes.Buffer{}}
	c.Stderr = p.stderr
	stdout, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.server = p
	s.mu.Unlock()
	go func() {
		line, _ := bufio.NewReader(stdout).ReadString('\n')
		p.ready <- line
		c.Wait()
		close(p.done)
	}()
	return p, nil
}

// kill ends the server as kill -9 does.
func (s *site) kill() {
	s.t.Helper()
	p := s.current()
	if err := p.cmd.Process.Kill(); err != nil {
		s.t.Fatal(err)
	}
	<-p.done
}

// stop sends SIGTERM and returns the exit code.
func (s *site) stop() int {
	s.t.Helper()
	p := s.current()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	select {
	case <-p.done:
	case <-time.After(deadline):
		s.t.Fatal("the server has not stopped after SIGTERM")
	}
	return p.cmd.ProcessState.ExitCode()
}

// supervise starts the server again whenever it dies, until the test ends.
func (s *site) supervise() {
	over := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-over:
				return
			case <-s.current().done:
			}
			if _, err := s.launch(); err != nil {
				s.t.Error(err)
				return
			}
		}
	})
	s.t.Cleanup(func() { close(over); wg.Wait() })
}

// result is what a command left.
type result struct {
	out, err string
	code     int
}

// do runs a command against the server.
func (s *site) do(args ...string) result { return s.feed("", args...) }

// feed runs a command with a standard input.
func (s *site) feed(input string, args ...string) result {
	s.t.Helper()
	return s.begin(input, args...)()
}

// begin starts a command, and returns a function that waits for it.
func (s *site) begin(input string, args ...string) func() result {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), deadline)
	c := s.command(ctx, args...)
	var out, stderr bytes.Buffer
	c.Stdout, c.Stderr, c.Stdin = &out, &stderr, strings.NewReader(input)
	if err := c.Start(); err != nil {
		s.t.Fatal(err)
	}
	return func() result {
		s.t.Helper()
		defer cancel()
		err := c.Wait()
		if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
			s.t.Fatalf("perdure %s: %v", strings.Join(args, " "), err)
		}
		return result{out.String(), stderr.String(), c.ProcessState.ExitCode()}
	}
}

// must runs a command that has to succeed, and returns its output.
func (s *site) must(args ...string) string {
	s.t.Helper()
	r := s.do(args...)
	if r.code != 0 {
		s.t.Fatalf("perdure %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.out, r.err)
	}
	return r.out
}

// task returns a task as "get --json" shows it.
func (s *site) task(id string, flags ...string) *perdure.Info {
	s.t.Helper()
	return decode[*perdure.Info](s.t, s.must(append([]string{"get", id, "--json"}, flags...)...))
}

func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	return v
}

// wants checks the exit code of a command, and a part of what it says on standard error, in one line.
func (r result) wants(t *testing.T, code int, message string) {
	t.Helper()
	if r.code != code || !strings.Contains(r.err, message) || r.out != "" {
		t.Errorf("got exit code %d, %q on stderr, %q on stdout; want code %d and %q", r.code, r.err, r.out, code, message)
	}
	if !strings.HasPrefix(r.err, "perdure: ") || strings.Count(r.err, "\n") != 1 {
		t.Errorf("got %q on stderr, want one line that begins with perdure:", r.err)
	}
}
