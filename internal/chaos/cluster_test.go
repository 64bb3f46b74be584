//go:build unix

package chaos

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/pgtest"
	"github.com/perdure/perdure/perdurehttp"
)

// worker is the program of the workers, built once for all tests.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "perdure-chaos-")
	if err != nil {
		return "", err
	}
	built = dir
	return BuildWorker(dir)
})

var built string // the folder of the worker program, if it was made

func TestMain(m *testing.M) {
	code := pgtest.Run(m)
	if built != "" {
		os.RemoveAll(built)
	}
	os.Exit(code)
}

// cluster is a database server, and worker processes on it.
type cluster struct {
	t       *testing.T
	lease   time.Duration
	server  *pgtest.Server
	url     string // of the database, if it is not to be reached through a worker's proxy
	journal string
	workers []*worker
	mu      sync.Mutex
	deaths  map[int]int64 // when a process has died, by its ID
	frozen  map[int]bool  // processes that were stopped for a while
}

// worker is one of a cluster's workers: its processes follow each other at the same address.
type worker struct {
	c       *cluster
	name    string
	listen  string
	proxy   *Proxy
	clock   string // by how many seconds its clock is off
	args    []string
	cmd     *exec.Cmd
	died    chan struct{}
	said    *bytes.Buffer
	leaving bool
}

// newCluster starts Postgres; workers are added.
func newCluster(t *testing.T, lease time.Duration, settings ...string) *cluster {
	t.Helper()
	return clusterOn(t, lease, pgtest.Start(t, settings...))
}

// clusterOn is newCluster on a server.
func clusterOn(t *testing.T, lease time.Duration, server *pgtest.Server) *cluster {
	t.Helper()
	c := &cluster{t: t, lease: lease, server: server, journal: filepath.Join(t.TempDir(), "journal"),
		deaths: map[int]int64{}, frozen: map[int]bool{}}
	if err := os.WriteFile(c.journal, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, w := range c.workers {
			w.kill()
			w.proxy.Close()
		}
	})
	return c
}

// add starts a worker more, whose clock is off by some seconds.
func (c *cluster) add(clock int, args ...string) *worker {
	c.t.Helper()
	proxy, err := NewProxy(c.server.Address())
	if err != nil {
		c.t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	w := &worker{c: c, name: fmt.Sprint("worker ", len(c.workers)), listen: l.Addr().String(), proxy: proxy, clock: fmt.Sprint(clock), args: args}
	l.Close()
	c.workers = append(c.workers, w)
	w.start()
	return w
}

// start starts a worker's process, and waits until it serves.
func (w *worker) start() {
	w.c.t.Helper()
	program, err := build()
	if err != nil {
		w.c.t.Fatal(err)
	}
	url := w.c.url
	if url == "" {
		url = w.c.server.URLAt(w.proxy.Address()) + "&schema=chaos&connect_timeout=2"
	}
	args := append([]string{"-db", url, "-listen", w.listen, "-journal", w.c.journal,
		"-lease", w.c.lease.String()}, w.args...)
	for range 100 { // the database, or the way to it, may be away
		w.cmd, w.said, w.died = exec.Command(program, args...), &bytes.Buffer{}, make(chan struct{})
		w.cmd.Env = append(os.Environ(), ClockEnv+"="+w.clock)
		w.cmd.Stderr = w.said
		out, err := w.cmd.StdoutPipe()
		if err != nil {
			w.c.t.Fatal(err)
		}
		if err := w.cmd.Start(); err != nil {
			w.c.t.Fatal(err)
		}
		line, _ := bufio.NewReader(out).ReadString('\n')
		go w.watch(out)
		if strings.HasPrefix(line, "listening") {
			return
		}
		<-w.died
		<-time.After(300 * time.Millisecond)
	}
	w.c.t.Errorf("%s did not start: %s", w.name, w.said)
}

// watch waits for the process's end, and notes when that was.
func (w *worker) watch(out io.Reader) {
	cmd, died := w.cmd, w.died
	io.Copy(io.Discard, out)
	cmd.Wait()
	w.c.mu.Lock()
	w.c.deaths[cmd.Process.Pid] = monotonic()
	w.c.mu.Unlock()
	close(died)
}

func (w *worker) pid() int { return w.cmd.Process.Pid }

// kill kills a worker, and waits until it is dead.
func (w *worker) kill() {
	w.cmd.Process.Signal(syscall.SIGCONT)
	w.cmd.Process.Kill()
	<-w.died
}

// leave ends a worker as a deployment does.
func (w *worker) leave() {
	w.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-w.died:
	case <-time.After(time.Minute):
		w.c.t.Errorf("%s did not end after SIGTERM", w.name)
		w.kill()
	}
}

// freeze stops a worker's process for a while.
func (w *worker) freeze(d time.Duration) {
	w.c.mu.Lock()
	w.c.frozen[w.pid()] = true
	w.c.mu.Unlock()
	w.cmd.Process.Signal(syscall.SIGSTOP)
	<-time.After(d)
	w.cmd.Process.Signal(syscall.SIGCONT)
}

// client returns a client of a worker's API, which asks again for as long as patience.
func (w *worker) client(patience time.Duration) *perdurehttp.Client {
	w.c.t.Helper()
	c, err := perdurehttp.NewClient("http://"+w.listen, &perdurehttp.ClientOptions{Patience: patience, WaitPatience: patience})
	if err != nil {
		w.c.t.Fatal(err)
	}
	return c
}

// any returns one of the workers.
func (c *cluster) any() *worker { return c.workers[rand.IntN(len(c.workers))] }

// lines reads the journal.
func (c *cluster) lines() []Line {
	c.t.Helper()
	lines, err := ReadJournal(c.journal)
	if err != nil {
		c.t.Fatal(err)
	}
	return lines
}

// visit is one entry of a handler, until it returned or its process died.
type visit struct {
	Line
	until int64 // 0: it has not returned
}

// visits returns the entries of each task, in their order.
func (c *cluster) visits() map[string][]visit {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[string][]visit{}
	for _, l := range c.lines() {
		switch l.What {
		case "enter":
			all[l.Task] = append(all[l.Task], visit{l, c.deaths[l.PID]})
		case "leave":
			of := all[l.Task]
			for i := range of {
				if of[i].Epoch == l.Epoch && of[i].PID == l.PID && of[i].Turn == l.Turn {
					of[i].until = l.At
				}
			}
		}
	}
	return all
}

// neverTwiceAtOnce checks that every entry of a task has an epoch of its own, higher than those before, and begins
// when the one before has ended. Only a process that was frozen cannot know that it has lost its lease.
func (c *cluster) neverTwiceAtOnce() (entries int) {
	c.t.Helper()
	for task, visits := range c.visits() {
		for i, v := range visits[1:] {
			before := visits[i]
			if v.Turn == before.Turn && v.Epoch <= before.Epoch || v.Epoch < before.Epoch {
				c.t.Errorf("O2: task %s was entered with epoch %d after %d", task, v.Epoch, before.Epoch)
			}
			if !c.frozen[before.PID] && (before.until == 0 || before.until > v.At) {
				c.t.Errorf("never twice at once: task %s turn %d was entered by process %d %.3f s before process %d had left turn %d (entered with epochs %d and %d)",
					task, v.Turn, v.PID, float64(before.until-v.At)/1e9, before.PID, before.Turn, v.Epoch, before.Epoch)
			}
		}
		entries += len(visits)
	}
	return entries
}
