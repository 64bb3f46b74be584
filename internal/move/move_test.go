package move

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/pgtest"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/memstore"
	"github.com/perdure/perdure/store/pgstore"
	"github.com/perdure/perdure/store/sqlitestore"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func onSQLite(t *testing.T) store.Store {
	t.Helper()
	return opened(t)(sqlitestore.Open(t.Context(), filepath.Join(t.TempDir(), "tasks.db"), nil))
}

func onPostgres(t *testing.T) store.Store {
	t.Helper()
	url := pgtest.URL(t)
	s, err := pgstore.Open(t.Context(), url, &pgstore.Options{Schema: pgtest.Schema(t, url)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func opened(t *testing.T) func(*sqlitestore.Store, error) store.Store {
	return func(s *sqlitestore.Store, err error) store.Store {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
}

var (
	talk = perdure.NewFunc[string, string]("talk", &perdure.FuncOptions[string]{MultiTurn: true, Steerable: true, KeepTurns: 20})
	flop = perdure.NewFunc[string, string]("flop", &perdure.FuncOptions[string]{Retry: perdure.RetryPolicy{Attempts: 2, Initial: time.Hour}})
	hold = perdure.NewFunc[string, string]("hold", nil)
)

// bindings leave tasks in every state, with metadata, events, rewinds, errors and labels.
func bindings(entered chan<- string) []perdure.Binding {
	return []perdure.Binding{
		talk.Bind(func(ctx context.Context, turn *perdure.Turn[string, string]) (string, error) {
			m := turn.Metadata()
			err := errors.Join(m.Append("heard", turn.Input()), turn.Emit(ctx, map[string]any{"said": turn.Input(), "<html>": true}))
			if turn.Recoveries() == 0 && turn.Input() == "again" {
				return turn.Release()
			}
			if turn.Input() == "end" {
				return turn.Finish("the end")
			}
			return strings.ToUpper(turn.Input()), errors.Join(err, turn.Checkpoint(ctx))
		}),
		flop.Bind(func(ctx context.Context, turn *perdure.Turn[string, string]) (string, error) {
			return "", errors.Join(turn.Emit(ctx, "trying"), errors.New("no luck: \u2028 <&>"))
		}),
		hold.Bind(func(ctx context.Context, turn *perdure.Turn[string, string]) (string, error) {
			entered <- turn.TaskID()
			<-ctx.Done()
			return "", context.Cause(ctx)
		}),
	}
}

// fill runs tasks on a store, and returns with some of them still held by a worker that is gone.
func fill(t *testing.T, st store.Store) {
	t.Helper()
	entered := make(chan string, 10)
	eng, err := perdure.New(st, &perdure.Options{Funcs: bindings(entered), Agent: "mover", Drain: 100 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- eng.Run(ctx) }()
	c := eng.Client()
	for n := range 5 {
		id := fmt.Sprint("talk-", n)
		for i := range 30 {
			in := []string{"hello", "again", strings.Repeat("long ", 2000)}[i%3]
			_, err := talk.Run(t.Context(), c, in, &perdure.StartOptions{TaskID: id, Title: "T", Description: "D <b>", Session: "s",
				Tags: map[string]string{"k": fmt.Sprint(n)}})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := talk.Run(t.Context(), c, "end", &perdure.StartOptions{TaskID: "talk-0"}); err != nil {
		t.Fatal(err)
	}
	if _, err := flop.Start(t.Context(), c, "x", &perdure.StartOptions{TaskID: "flop"}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := hold.Start(t.Context(), c, "x", nil); err != nil {
			t.Fatal(err)
		}
		<-entered
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	// A worker that dies with a task, and an input that waits behind its turn.
	_, err = st.Heartbeat(t.Context(), &store.HeartbeatRequest{Worker: "gone", Lease: time.Minute, First: true})
	if err != nil {
		t.Fatal(err)
	}
	for i, input := range []string{"first", "second"} {
		o, err := st.Offer(t.Context(), &store.OfferRequest{TaskID: "held", Func: "talk", InputID: input, Input: []byte(`"x"`),
			Digests: []store.Digest{{Key: "k", Sum: input}}, Settings: &store.Settings{Steerable: true, MultiTurn: true, MaxPending: 3, MaxRecoveries: 3},
			Lease: i == 0, Worker: "gone", Request: 1})
		if err != nil || i == 0 && o.Entry == nil {
			t.Fatalf("got %+v, %v", o, err)
		}
	}
}

func export(t *testing.T, st store.Store) (text []byte, tasks int) {
	t.Helper()
	var b bytes.Buffer
	tasks, err := Export(t.Context(), st, &b)
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), tasks
}

func TestTasksMoveWithoutLoss(t *testing.T) {
	for name, way := range map[string]struct{ from, to func(*testing.T) store.Store }{
		"SQLite to Postgres":   {onSQLite, onPostgres},
		"Postgres to SQLite":   {onPostgres, onSQLite},
		"SQLite to memory":     {onSQLite, func(*testing.T) store.Store { return memstore.New() }},
		"Postgres to Postgres": {onPostgres, onPostgres},
	} {
		t.Run(name, func(t *testing.T) {
			from, to := way.from(t), way.to(t)
			fill(t, from)
			text, tasks := export(t, from)
			if tasks != 10 {
				t.Fatalf("%d tasks were exported, want 10", tasks)
			}
			// Broken off in the middle, and begun again.
			if _, err := Import(t.Context(), to, bytes.NewReader(text[:2*len(text)/3])); !errors.Is(err, ErrFormat) {
				t.Errorf("import of a part: %v, want ErrFormat", err)
			}
			for range 2 { // the second time all is there
				if n, err := Import(t.Context(), to, bytes.NewReader(text)); err != nil || n != tasks {
					t.Fatalf("imported %d tasks, %v; want %d", n, err, tasks)
				}
			}
			moved, _ := export(t, to)
			compare(t, text, moved)
			goesOn(t, to)
		})
	}
}

// compare compares every record of two exports.
func compare(t *testing.T, want, got []byte) {
	t.Helper()
	wantLines, gotLines := bytes.Split(want, []byte("\n")), bytes.Split(got, []byte("\n"))
	if len(wantLines) != len(gotLines) {
		t.Errorf("%d lines, want %d", len(gotLines), len(wantLines))
	}
	for i := range min(len(wantLines), len(gotLines)) {
		if !bytes.Equal(wantLines[i], gotLines[i]) {
			t.Fatalf("line %d:\n%.2000s\nwant:\n%.2000s", i+1, gotLines[i], wantLines[i])
		}
	}
}

// goesOn checks that the tasks go on where they are now: also the one whose worker died in the other store.
func goesOn(t *testing.T, st store.Store) {
	t.Helper()
	entered := make(chan string, 10)
	eng, err := perdure.New(st, &perdure.Options{Funcs: bindings(entered), Drain: 100 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- eng.Run(ctx) }()
	h, err := talk.Attach(t.Context(), eng.Client(), "held", &perdure.AttachOptions{InputID: "second"})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := h.Result(t.Context()); err != nil || r.Output != "X" {
		t.Errorf("the held task: got %+v, %v", r, err)
	}
	if r, err := talk.Run(t.Context(), eng.Client(), "more", &perdure.StartOptions{TaskID: "talk-1"}); err != nil || r.Turn != 31 {
		t.Errorf("a conversation: got %+v, %v", r, err)
	}
	h, err = talk.Start(t.Context(), eng.Client(), "new", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Result(t.Context()); err != nil {
		t.Error(err)
	}
	for range 3 {
		<-entered
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestImportRefusesOtherTasksOfTheSameID(t *testing.T) {
	from, to := onSQLite(t), onSQLite(t)
	fill(t, from)
	text, _ := export(t, from)
	_, err := to.Offer(t.Context(), &store.OfferRequest{TaskID: "flop", Func: "flop", InputID: "i", Input: []byte("1"),
		Digests: []store.Digest{{Sum: "d"}}, Settings: &store.Settings{MaxPending: 1}})
	if err != nil {
		t.Fatal(err)
	}
	var conflict *store.ConflictError
	if _, err := Import(t.Context(), to, bytes.NewReader(text)); !errors.As(err, &conflict) {
		t.Errorf("got %v, want a conflict", err)
	}
}

func TestImportRefusesWhatIsNoExport(t *testing.T) {
	for _, text := range []string{"", "{}", "[]", "hello", `{"perdure":99}`, `{"perdure":1}`, `{"perdure":1}{"tasks":3}`, `{"perdure":1}{"task":7}`} {
		if _, err := Import(t.Context(), memstore.New(), strings.NewReader(text)); !errors.Is(err, ErrFormat) {
			t.Errorf("%q: got %v, want ErrFormat", text, err)
		}
	}
}
