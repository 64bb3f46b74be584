//go:build unix

package crashtest

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/perdurehttp"
)

var rounds = flag.Int("rounds", 8, "rounds of random kills")

func TestMain(m *testing.M) {
	if len(os.Args) == 6 && os.Args[1] == "serve" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		if err := serve(ctx, os.Args[2], os.Args[3], os.Args[4], os.Args[5], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// place is a file with the server on it, which is started again and again at the same address.
type place struct {
	t       *testing.T
	path    string
	journal string
	listen  string
	client  *perdurehttp.Client

	mu    sync.Mutex
	child *exec.Cmd
	died  chan struct{}
}

func newPlace(t *testing.T) *place {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p := &place{t: t, path: filepath.Join(dir, "tasks.db"), journal: filepath.Join(dir, "journal"), listen: l.Addr().String()}
	l.Close()
	if p.client, err = perdurehttp.NewClient("http://"+p.listen, &perdurehttp.ClientOptions{Patience: time.Minute}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	return p
}

// start starts the server, to die at a point if one is given, and waits until it listens or is dead.
func (p *place) start(point string) {
	p.t.Helper()
	cmd := exec.Command(os.Args[0], "serve", p.path, p.listen, p.journal, point)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	died := make(chan struct{})
	p.mu.Lock()
	p.child, p.died = cmd, died
	p.mu.Unlock()
	_, readErr := bufio.NewReader(out).ReadString('\n')
	go func() { cmd.Wait(); close(died) }()
	if readErr != nil && point == "" {
		<-died
		p.t.Fatalf("server did not start: %s", stderr.String())
	}
}

func (p *place) signal(s os.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.child != nil {
		p.child.Process.Signal(s)
	}
}

// kill kills the server and waits until it is dead.
func (p *place) kill() {
	p.signal(syscall.SIGCONT)
	p.signal(syscall.SIGKILL)
	p.wait()
}

func (p *place) wait() {
	p.mu.Lock()
	died := p.died
	p.mu.Unlock()
	if died != nil {
		<-died
	}
}

func (p *place) visits() []visit {
	p.t.Helper()
	b, err := os.ReadFile(p.journal)
	if err != nil {
		p.t.Fatal(err)
	}
	all, err := parseJournal(string(b))
	if err != nil {
		p.t.Fatal(err)
	}
	return all
}

// parseJournal leaves out lines that were cut in two: they have no end, but another one begins after them.
func parseJournal(text string) (all []visit, err error) {
	text = strings.TrimRight(text[:strings.LastIndex(text, "\n")+1], "\n")
	if text == "" {
		return nil, nil
	}
	for lines := range strings.SplitSeq(text, "\n\n") {
		whole := lines[strings.LastIndex(lines, "\n")+1:]
		v, err := parseVisit(whole)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

func TestALineThatAKillCutsIsLeftOut(t *testing.T) {
	all, err := parseJournal("\na 1 1 fresh 7\n\nb 1 1 re\nc 1 2 recovered 8\n\nd 1 3 fresh 8\n")
	if err != nil || len(all) != 3 || all[1].task != "c" {
		t.Errorf("got %v, %v", all, err)
	}
	if all, err := parseJournal("\na 1 1 fresh 7\n\nb 1 1 re"); err != nil || len(all) != 1 {
		t.Errorf("got %v, %v for a last line that was cut", all, err)
	}
	if all, err := parseJournal("\na 1 1 fresh 7\n\nb 1 1 re\n\nc 1 2 recovered 8\n"); err == nil {
		t.Errorf("got %v for a line that lacks something and was not cut", all)
	}
}

func (p *place) run(task string, in Work) (perdure.Result[Done], error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), 2*time.Minute)
	defer cancel()
	return work.Run(ctx, p.client, in, &perdure.StartOptions{TaskID: task, InputID: "input-" + task})
}

func TestAServerKilledAtAWriteLosesNothing(t *testing.T) {
	points := []string{"offer:1:before", "offer:1:after", "checkpoint:1:before", "checkpoint:1:after",
		"checkpoint:3:before", "checkpoint:3:after", "settle:1:before", "settle:1:after"}
	for _, point := range points {
		t.Run(point, func(t *testing.T) {
			p := newPlace(t)
			p.start(point)
			answer := make(chan error, 1)
			var res perdure.Result[Done]
			go func() {
				var err error
				res, err = p.run("a", Work{Steps: 3})
				answer <- err
			}()
			p.wait() // for its death
			p.start("")
			if err := <-answer; err != nil {
				t.Fatal(err)
			}
			if res.Output.Steps != 3 {
				t.Errorf("got %d steps, want 3", res.Output.Steps)
			}
			if n := len(p.visits()); n > 2 {
				t.Errorf("the handler was entered %d times for one death", n)
			}
		})
	}
	t.Logf("proof: %d kills of a server at named points, nothing lost", len(points))
}

func TestRandomKillsLoseNothing(t *testing.T) {
	const callers, each = 8, 3
	p := newPlace(t)
	p.start("")
	var wg sync.WaitGroup
	kills := 0
	for round := range *rounds {
		for caller := range callers {
			wg.Go(func() {
				for i := range each {
					task := fmt.Sprintf("r%d-c%d-%d", round, caller, i)
					steps := rand.IntN(5)
					res, err := p.run(task, Work{Steps: steps, PauseMS: rand.IntN(30), Every: 1 + rand.IntN(3)})
					if err != nil || res.Output.Steps != steps {
						t.Errorf("%s: got %+v, %v, want %d steps", task, res.Output, err, steps)
					}
					p.streamed(task, steps)
				}
			})
		}
		<-time.After(time.Duration(rand.IntN(150)) * time.Millisecond)
		p.kill()
		kills++
		p.start("")
		if round%20 == 19 {
			wg.Wait() // else what one round has begun waits for hundreds of kills
		}
	}
	wg.Wait()
	t.Logf("proof: %d random kills of a server, %d inputs accepted, %d handler entries, each input with its outcome and its stream",
		kills, *rounds*callers*each, p.enteredOncePerEpoch())
}

// streamed checks that the stream of a task that has ended is 1, 2, 3 … when rewinds are applied, and
// when none is shown.
func (p *place) streamed(task string, steps int) {
	var want []string
	for n := range steps {
		want = append(want, fmt.Sprint(n+1))
	}
	for _, committed := range []bool{false, true} {
		var fold perdure.Fold
		for e, err := range p.client.Events(p.t.Context(), task, &perdure.EventOptions{Committed: committed}) {
			if err != nil {
				p.t.Errorf("events of %s: %v", task, err)
			}
			fold.Add(e)
		}
		var got []string
		for _, e := range fold.Messages() {
			got = append(got, string(e.Data))
		}
		if !slices.Equal(got, want) {
			p.t.Errorf("E2: stream of %s, committed %t: got %q, want %q", task, committed, got, want)
		}
	}
}

// enteredOncePerEpoch checks that no lease entered a handler twice, and returns how many entries there were.
func (p *place) enteredOncePerEpoch() int {
	p.t.Helper()
	entered := map[string]bool{}
	for _, v := range p.visits() {
		k := fmt.Sprintf("%s/%d/%d", v.task, v.turn, v.epoch)
		if entered[k] {
			p.t.Errorf("O2: task %s turn %d was entered twice with epoch %d", v.task, v.turn, v.epoch)
		}
		entered[k] = true
	}
	return len(entered)
}

func TestAServerFrozenBeyondItsLeaseGoesOn(t *testing.T) {
	p := newPlace(t)
	p.start("")
	answer := make(chan error, 1)
	var res perdure.Result[Done]
	go func() {
		var err error
		res, err = p.run("a", Work{Steps: 10, PauseMS: 100})
		answer <- err
	}()
	for entered := false; !entered; <-time.After(10 * time.Millisecond) {
		b, err := os.ReadFile(p.journal)
		entered = err == nil && len(b) > 0
	}
	p.signal(syscall.SIGSTOP)
	frozen := time.After(3 * lease)
	second := newPlace(t)
	second.path = p.path
	cmd := exec.Command(os.Args[0], "serve", second.path, second.listen, second.journal, "")
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "in use") && !strings.Contains(string(out), "locked") {
		// It is frozen anywhere, also in a transaction.
		t.Errorf("O5: a second engine on the file of a frozen one: %v, %s", err, out)
	}
	<-frozen
	p.signal(syscall.SIGCONT)
	if err := <-answer; err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(res.Output.Entries, " "); got != "fresh" || res.Output.Steps != 10 {
		t.Errorf("got %d steps, entered %s; the lock keeps the lease, so it is entered once", res.Output.Steps, got)
	}
}

func TestShutdownReleasesUncounted(t *testing.T) {
	p := newPlace(t)
	p.start("")
	answer := make(chan error, 1)
	var res perdure.Result[Done]
	go func() {
		var err error
		res, err = p.run("a", Work{Steps: 5, PauseMS: 200})
		answer <- err
	}()
	for entered := false; !entered; <-time.After(10 * time.Millisecond) {
		b, err := os.ReadFile(p.journal)
		entered = err == nil && len(b) > 0
	}
	p.signal(syscall.SIGTERM)
	p.wait()
	p.start("")
	if err := <-answer; err != nil || res.Output.Steps != 5 {
		t.Fatalf("got %+v, %v", res, err)
	}
	turn, err := p.client.Turn(t.Context(), perdure.TurnQuery{TaskID: "a"})
	if err != nil || turn.Recoveries != 0 || turn.Attempt != 1 || turn.Entry != perdure.Recovered {
		t.Errorf("H1: got %+v, %v, want entry recovered, uncounted", turn, err)
	}
}
