//go:build unix

package crashtest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/perdurehttp"
)

// fileRounds is how often at least a server's file is put at risk.
const fileRounds = 10

// perils are what happens to a file under a server. Those with a loss take a file from its name; what was there is
// kept under the name with ".kept", and put back when the server is dead.
var perils = []struct {
	name string
	loss func(path string) (lost []string, err error)
}{
	{"moved", func(path string) ([]string, error) { return []string{path}, os.Rename(path, path+".kept") }},
	{"watched", nil},
	{"removed", func(path string) ([]string, error) { return []string{path}, takeAway(path) }},
	{"watched", nil},
	{"replaced", func(path string) ([]string, error) {
		return []string{path}, errors.Join(os.Link(path, path+".kept"), os.Rename(path+".backup", path))
	}},
	{"its log removed", func(path string) ([]string, error) { return []string{path + "-wal"}, takeAway(path + "-wal") }},
	{"all moved", func(path string) (lost []string, err error) {
		for _, suffix := range []string{"", "-wal", "-shm"} {
			lost = append(lost, path+suffix)
			err = errors.Join(err, os.Rename(path+suffix, path+suffix+".kept"))
		}
		return lost, err
	}},
	{"its shared memory removed", func(path string) ([]string, error) { return nil, os.Remove(path + "-shm") }},
}

func takeAway(name string) error { return errors.Join(os.Link(name, name+".kept"), os.Remove(name)) }

func TestNothingAcknowledgedIsLostWithItsFile(t *testing.T) {
	p := newPlace(t)
	kept, losses := 0, 0
	n := max(fileRounds, *rounds)
	for round := range n {
		p.start("")
		l := &load{place: p, round: round}
		l.begin()
		p.watched()
		peril := perils[round%len(perils)]
		var lost []string
		if peril.loss != nil {
			losses++
			var err error
			if lost, err = peril.loss(p.path); err != nil {
				t.Fatal(err)
			}
			l.nothingFromNowOn()
		}
		p.kill()
		l.end()
		for _, name := range lost {
			if err := os.Rename(name+".kept", name); err != nil {
				t.Fatal(err)
			}
		}
		p.start("")
		kept += l.check(peril.name)
		p.kill()
		if t.Failed() {
			return
		}
	}
	t.Logf("proof: %d kills of a server whose file was watched, read by its own process, copied, backed up and linked under load, and %d times taken from its name: "+
		"%d inputs acknowledged, each kept; nothing acknowledged and nothing told after a loss", 2*n, losses, kept)
}

// watched does what operators, and the process itself, do to a file in use. None of it is a reason to lose anything.
func (p *place) watched() {
	p.t.Helper()
	res, err := http.Get("http://" + p.listen + "/own")
	if err != nil || res.StatusCode != http.StatusOK {
		p.t.Fatalf("the server reads its own file: %v", err)
	}
	res.Body.Close()
	backup, copied := p.path+".backup", filepath.Join(p.t.TempDir(), "copy")
	os.Remove(backup)
	err = errors.Join(
		guest(p.path, func(db *sqlite.Conn) error {
			return sqlitex.ExecuteTransient(db, `SELECT count(*) FROM tasks`, nil)
		}),
		guest(p.path, func(db *sqlite.Conn) error {
			return sqlitex.ExecuteTransient(db, `VACUUM INTO ?`, &sqlitex.ExecOptions{Args: []any{copied + ".vacuum"}})
		}),
		guest(p.path, func(db *sqlite.Conn) error { return backUp(db, backup) }),
		copyFile(p.path, copied), copyFile(p.path+"-wal", copied+"-wal"),
		os.Link(p.path, copied+".link"), os.Remove(copied+".link"))
	if err != nil {
		p.t.Fatal(err)
	}
}

// guest opens a file as SQLite's shell does, and closes it.
func guest(path string, do func(*sqlite.Conn) error) error {
	db, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		return err
	}
	db.SetBusyTimeout(10 * time.Second)
	return errors.Join(do(db), db.Close())
}

func backUp(from *sqlite.Conn, path string) error {
	to, err := sqlite.OpenConn(path, sqlite.OpenReadWrite|sqlite.OpenCreate)
	if err != nil {
		return err
	}
	b, err := sqlite.NewBackup(to, "", from, "")
	if err != nil {
		return errors.Join(err, to.Close())
	}
	_, err = b.Step(-1)
	return errors.Join(err, b.Close(), to.Close())
}

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	return errors.Join(err, os.WriteFile(to, b, 0o600))
}

// load is what clients start while a file is at risk.
type load struct {
	*place
	round   int
	client  *perdurehttp.Client
	stop    context.CancelFunc
	callers sync.WaitGroup

	mu    sync.Mutex
	acked []string
	lost  bool // the file has lost its name: what is asked from now on is not acknowledged
}

func (l *load) begin() {
	l.t.Helper()
	var err error
	if l.client, err = perdurehttp.NewClient("http://"+l.listen, &perdurehttp.ClientOptions{Patience: time.Millisecond}); err != nil {
		l.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(l.t.Context())
	l.stop = stop
	begun := make(chan struct{}, 1)
	for caller := range 4 {
		l.callers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				l.ask(ctx, fmt.Sprintf("f%d-%d-%d", l.round, caller, i))
				select {
				case begun <- struct{}{}:
				default:
				}
			}
		})
	}
	<-begun
}

// ask starts a task, and notes it when that was acknowledged.
func (l *load) ask(ctx context.Context, task string) {
	l.mu.Lock()
	lost := l.lost
	l.mu.Unlock()
	_, err := work.Start(ctx, l.client, Work{Steps: 1}, &perdure.StartOptions{TaskID: task, InputID: "input-" + task})
	if err != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.acked = append(l.acked, task); lost {
		l.t.Errorf("%s was acknowledged after the file had lost its name", task)
	}
}

// nothingFromNowOn checks what a server does whose file has lost its name: it is not ready, says why, and tells of
// nothing.
func (l *load) nothingFromNowOn() {
	l.t.Helper()
	l.mu.Lock()
	l.lost = true
	known := l.acked[0]
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(l.t.Context(), 200*time.Millisecond)
	defer cancel()
	if info, err := l.client.Task(ctx, known); err == nil {
		l.t.Errorf("after the loss the server tells of %+v", info)
	}
	for until := time.Now().Add(10 * time.Second); ; <-time.After(10 * time.Millisecond) {
		err := l.client.Ready(l.t.Context())
		if err != nil && errors.Is(err, perdure.ErrUnavailable) {
			return
		}
		if time.Now().After(until) {
			l.t.Errorf("after the loss the server is ready: %v", err)
			return
		}
	}
}

func (l *load) end() {
	l.stop()
	l.callers.Wait()
}

// check looks for all that was acknowledged, and returns how much that was.
func (l *load) check(peril string) int {
	l.t.Helper()
	if len(l.acked) == 0 {
		l.t.Errorf("round %d: nothing was acknowledged", l.round)
	}
	for _, task := range l.acked {
		ctx, cancel := context.WithTimeout(l.t.Context(), time.Minute)
		h, err := work.Attach(ctx, l.place.client, task, nil)
		if err == nil {
			_, err = h.Result(ctx)
		}
		if err != nil {
			l.t.Errorf("round %d, %s: %s was acknowledged: %v", l.round, peril, task, err)
		}
		cancel()
	}
	return len(l.acked)
}
