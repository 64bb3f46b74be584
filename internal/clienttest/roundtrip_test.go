package clienttest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/pgtest"
	"github.com/perdure/perdure/perdurehttp"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/memstore"
	"github.com/perdure/perdure/store/pgstore"
	"github.com/perdure/perdure/store/sqlitestore"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func FuzzRoundTripOnMemory(f *testing.F) { roundTrips(f, memstore.New()) }

func FuzzRoundTripOnSQLite(f *testing.F) {
	st, err := sqlitestore.Open(f.Context(), filepath.Join(f.TempDir(), "perdure.db"), &sqlitestore.Options{UnsafeNoSync: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { st.Close() })
	roundTrips(f, st)
}

func FuzzRoundTripOnPostgres(f *testing.F) {
	url := pgtest.URL(f)
	st, err := pgstore.Open(f.Context(), url, &pgstore.Options{Schema: pgtest.Schema(f, url)})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { st.Close() })
	roundTrips(f, st)
}

// roundTrips starts tasks with any input and labels. What is accepted is read back as it went in, what is not is refused for
// itself, and neither takes long.
func roundTrips(f *testing.F, st store.Store) {
	for _, input := range []string{`{"a":[1,2.50,-0,1e400],"b":"\ud800\u0000ä<"}`, `{"a":1,"\u0061":2}`, "\"\xff\"", `"\ufffd"`, `[[[[]]]]`, ` null `, `1 2`, ``,
		strings.Repeat("[", 501) + strings.Repeat("]", 501), strings.Repeat(`{"a":`, 499) + `[]` + strings.Repeat("}", 499)} {
		f.Add([]byte(input), "title", "value", true)
		f.Add([]byte(input), "ti\x00tle", "a:b\\", false)
		f.Add([]byte(input), "<\u2028\U0001F600>", "na\xc3", true)
	}
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	eng, err := perdure.New(st, &perdure.Options{Funcs: []perdure.Binding{anything()}, Logger: quiet})
	if err != nil {
		f.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- eng.Run(ctx) }()
	srv := httptest.NewServer(perdurehttp.NewHandler(eng, &perdurehttp.HandlerOptions{Logger: quiet}))
	f.Cleanup(func() {
		srv.Close()
		stop()
		if err := <-stopped; err != nil {
			f.Error(err)
		}
	})
	remote, err := perdurehttp.NewClient(srv.URL, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, input []byte, title, tag string, overHTTP bool) {
		r := roundTrip{t: t, c: eng.Client()}
		if overHTTP {
			r.c = remote
		}
		begin := time.Now()
		r.run(&perdure.StartRequest{Func: "any", InputID: "i", Input: input, Title: title, Tags: map[string]string{"k": tag}})
		if took := time.Since(begin); took > 20*time.Second { // the machine may be busy
			t.Errorf("it took %v", took)
		}
	})
}

type roundTrip struct {
	t *testing.T
	c perdure.Client
}

func (r *roundTrip) run(req *perdure.StartRequest) {
	ctx := r.t.Context()
	a, err := r.c.Start(ctx, req)
	if err != nil {
		if !errors.Is(err, perdure.ErrInvalid) && !errors.Is(err, perdure.ErrTooLarge) {
			r.t.Fatalf("%q: got %v, want ErrInvalid or ErrTooLarge", req.Input, err)
		}
		return
	}
	req.TaskID = a.TaskID
	o, err := r.c.Outcome(ctx, perdure.TurnQuery{TaskID: a.TaskID})
	r.must(err)
	turn, err := r.c.Turn(ctx, perdure.TurnQuery{TaskID: a.TaskID})
	r.must(err)
	info, err := r.c.Task(ctx, a.TaskID)
	r.must(err)
	r.same("input", req.Input, turn.Input)
	r.same("output", req.Input, o.Output)
	r.same("metadata", req.Input, info.Metadata["input"])
	for e, err := range r.c.Events(ctx, a.TaskID, nil) {
		r.must(err)
		if e.Kind == perdure.EventMessage {
			r.same("event", req.Input, e.Data)
		}
	}
	if info.Title != req.Title || info.Tags["k"] != req.Tags["k"] {
		r.t.Errorf("got title %q and tags %q, want %q and %q", info.Title, info.Tags, req.Title, req.Tags)
	}
	found := false
	for listed, err := range r.c.Tasks(ctx, &perdure.ListOptions{Tags: req.Tags}) {
		r.must(err)
		found = found || listed.ID == a.TaskID
	}
	if again, err := r.c.Start(ctx, req); err != nil || !again.Known || !found {
		r.t.Errorf("got %+v, %v as a repeat, found by its tag: %v", again, err, found)
	}
	r.must(r.c.Delete(ctx, a.TaskID, nil))
}

func (r *roundTrip) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *roundTrip) same(what string, in, out json.RawMessage) {
	r.t.Helper()
	if !SameJSON(in, out) {
		r.t.Errorf("%q has come back, as %s, as %q", in, what, out)
	}
}
