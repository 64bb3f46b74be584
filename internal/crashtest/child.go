// Package crashtest kills and stops real processes: servers on a SQLite file that die by SIGKILL at named
// points and at random, and that are frozen by SIGSTOP for longer than their lease.
//
// The tests run their own binary again as the server.
package crashtest

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/perdurehttp"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/sqlitestore"
)

// lease of the servers: short, so that being frozen for longer than it does not take long.
const lease = 500 * time.Millisecond

// Work is a task of some steps. Each is an event; after some of them comes a checkpoint.
type Work struct {
	Steps   int `json:"steps"`
	PauseMS int `json:"pause_ms"`
	Every   int `json:"every,omitempty"` // how many steps to a checkpoint; 0: each
}

// Done is what became of it.
type Done struct {
	Steps   int      `json:"steps"`
	Entries []string `json:"entries"`
}

var work = perdure.NewFunc[Work, Done]("work", nil)

// serve is the child process: an engine and its HTTP API on a file, until it is told to end or killed.
// Every handler entry is a line in the journal.
func serve(ctx context.Context, path, listen, journal, point string, out io.Writer) error {
	st, err := sqlitestore.Open(ctx, path, nil)
	if err != nil {
		return err
	}
	defer st.Close()
	log, err := os.OpenFile(journal, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	eng, err := perdure.New(&lethal{Store: st, point: point}, &perdure.Options{
		Funcs: []perdure.Binding{work.Bind(worker(log)), talk.Bind(talker(log))}, Lease: lease, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/", perdurehttp.NewHandler(eng, nil))
	mux.HandleFunc("GET /reader", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, readerPage) })
	mux.HandleFunc("GET /own", readOwn(path))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Second}
	go server.Serve(l)
	defer server.Close()
	fmt.Fprintln(out, l.Addr())
	return eng.Run(ctx)
}

// readOwn reads the files of the store as a program does that uploads or hashes them: when it closes them, SQLite's
// locks are gone.
func readOwn(path string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for _, suffix := range []string{"", "-wal", "-shm"} {
			if _, err := os.ReadFile(path + suffix); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
		}
		io.WriteString(w, "read")
	}
}

// noteEntry writes a handler's entry into the journal. Its line begins with a line's end: a kill may have cut the one
// before it in two.
func noteEntry(journal io.Writer, turn *perdure.Scope) error {
	line := fmt.Sprintf("\n%s %d %d %s %d\n", turn.TaskID(), turn.Number(), turn.Epoch(), turn.Entry(), os.Getpid())
	_, err := io.WriteString(journal, line)
	return err
}

// Heard is the reply of a conversation: all that was said so far.
type Heard struct {
	Heard   []string `json:"heard"`
	Partial bool     `json:"partial"`
}

var talk = perdure.NewFunc[string, Heard]("talk", &perdure.FuncOptions[string]{MultiTurn: true, Steerable: true})

// talkFor is how long a reply takes unless it is steered.
const talkFor = 20 * time.Millisecond

// talker hears each message once, and replies for a while or until it is steered.
func talker(journal io.Writer) perdure.Handler[string, Heard] {
	return func(ctx context.Context, turn *perdure.Turn[string, Heard]) (Heard, error) {
		if err := noteEntry(journal, turn.Scope); err != nil {
			return Heard{}, err
		}
		m := turn.Metadata()
		var last int64
		if _, err := m.Get("last", &last); err != nil {
			return Heard{}, err
		}
		if last != turn.Number() {
			if err := errors.Join(m.Append("heard", turn.Input()), m.Set("last", turn.Number()), turn.Checkpoint(ctx)); err != nil {
				return Heard{}, err
			}
		}
		var out Heard
		select {
		case <-time.After(talkFor):
		case <-turn.Interrupt().Done():
			if turn.Causes() != (perdure.Causes{Steered: true}) {
				return Heard{}, context.Cause(turn.Interrupt())
			}
			out.Partial = true
		}
		_, err := m.Get("heard", &out.Heard)
		return out, err
	}
}

// readerPage is a page with an EventSource that tells another server what it has read.
//
//go:embed reader.html
var readerPage string

// worker writes down each entry, and counts steps in the metadata.
func worker(journal io.Writer) perdure.Handler[Work, Done] {
	return func(ctx context.Context, turn *perdure.Turn[Work, Done]) (Done, error) {
		if err := noteEntry(journal, turn.Scope); err != nil {
			return Done{}, err
		}
		m := turn.Metadata()
		if err := m.Append("entries", turn.Entry()); err != nil {
			return Done{}, err
		}
		var done Done
		if _, err := m.Get("steps", &done.Steps); err != nil {
			return Done{}, err
		}
		for done.Steps < turn.Input().Steps {
			select {
			case <-time.After(time.Duration(turn.Input().PauseMS) * time.Millisecond):
			case <-turn.Interrupt().Done():
				return Done{}, context.Cause(turn.Interrupt())
			}
			done.Steps++
			if err := turn.Emit(ctx, done.Steps); err != nil {
				return Done{}, err
			}
			if done.Steps%max(1, turn.Input().Every) > 0 {
				continue
			}
			if err := errors.Join(m.Set("steps", done.Steps), turn.Checkpoint(ctx)); err != nil {
				return Done{}, err
			}
		}
		_, err := m.Get("entries", &done.Entries)
		return done, err
	}
}

// lethal kills its process on one side of one write: its point is "offer:1:after", for example.
type lethal struct {
	*sqlitestore.Store
	point  string
	writes [3]atomic.Int64
}

// at kills the process if that is the point.
func (l *lethal) at(op string, n int64, side string) {
	if l.point == op+":"+strconv.FormatInt(n, 10)+":"+side {
		if self, err := os.FindProcess(os.Getpid()); err == nil {
			self.Kill()
		}
		select {} // until it arrives
	}
}

func deadly[T any](l *lethal, i int, op string, write func() (T, error)) (T, error) {
	n := l.writes[i].Add(1)
	l.at(op, n, "before")
	v, err := write()
	l.at(op, n, "after")
	return v, err
}

// Offer implements store.Store.
func (l *lethal) Offer(ctx context.Context, req *store.OfferRequest) (*store.Offered, error) {
	return deadly(l, 0, "offer", func() (*store.Offered, error) { return l.Store.Offer(ctx, req) })
}

// Checkpoint implements store.Store.
func (l *lethal) Checkpoint(ctx context.Context, req *store.CheckpointRequest) (*store.Checkpointed, error) {
	return deadly(l, 1, "checkpoint", func() (*store.Checkpointed, error) { return l.Store.Checkpoint(ctx, req) })
}

// Settle implements store.Store.
func (l *lethal) Settle(ctx context.Context, req *store.SettleRequest) (*store.Settled, error) {
	return deadly(l, 2, "settle", func() (*store.Settled, error) { return l.Store.Settle(ctx, req) })
}

// visit is a line of the journal.
type visit struct {
	task, entry string
	turn, epoch int64
	pid         int
}

func parseVisit(line string) (visit, error) {
	f := strings.Fields(line)
	if len(f) != 5 {
		return visit{}, fmt.Errorf("journal line %q", line)
	}
	turn, err1 := strconv.ParseInt(f[1], 10, 64)
	epoch, err2 := strconv.ParseInt(f[2], 10, 64)
	pid, err3 := strconv.Atoi(f[4])
	return visit{task: f[0], entry: f[3], turn: turn, epoch: epoch, pid: pid}, errors.Join(err1, err2, err3)
}
