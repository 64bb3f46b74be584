package engine_test

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/internal/rig"
	"github.com/perdure/perdure/store/memstore"
)

// boom is what all code of these tests panics with.
const boom = "boom"

// fuse panics where it is lit.
type fuse struct{ lit rig.Box[string] }

func (f *fuse) at(place string) {
	if f.lit.Get() == place {
		panic(boom)
	}
}

// bomb is a value whose marshallers panic where their fuse is lit.
type bomb struct {
	fuse  *fuse
	place string
}

// burning is the fuse of bombs that are unmarshalled: those are made by the decoder.
var burning atomic.Pointer[fuse]

func (b bomb) MarshalJSON() ([]byte, error) {
	if b.fuse != nil {
		b.fuse.at("marshal " + b.place)
	}
	return []byte(`"` + b.place + `"`), nil
}

func (b *bomb) UnmarshalJSON(data []byte) error {
	b.fuse, b.place = burning.Load(), strings.Trim(string(data), `"`)
	b.fuse.at("unmarshal " + b.place)
	return nil
}

// trap is an error whose methods panic where its fuse is lit.
type trap struct{ fuse *fuse }

func (e *trap) Error() string {
	e.fuse.at("Error") // that of a typed nil panics by itself
	return "trap"
}
func (e *trap) Is(error) bool { e.fuse.at("Is"); return false }
func (e *trap) As(any) bool   { e.fuse.at("As"); return false }
func (e *trap) Unwrap() error { e.fuse.at("Unwrap"); return nil }

// burningCodec panics where its fuse is lit.
type burningCodec struct{ fuse *fuse }

func (c burningCodec) Encode(label string, plain []byte) ([]byte, error) {
	c.fuse.at("encode " + kindOf(label))
	return append([]byte(">"), plain...), nil
}

func (c burningCodec) Decode(label string, stored []byte) ([]byte, error) {
	c.fuse.at("decode " + kindOf(label))
	return stored[1:], nil
}

func (c burningCodec) Digests(canonical []byte) []perdure.Digest {
	c.fuse.at("digests")
	return []perdure.Digest{{Sum: string(canonical)}}
}

func kindOf(label string) string { kind, _, _ := strings.Cut(label, ":"); return kind }

// burningStream panics where its fuse is lit.
type burningStream struct {
	fuse   *fuse
	events rig.Box[[]perdure.Event]
}

func (s *burningStream) Put(_ context.Context, e perdure.Event) error {
	s.fuse.at("stream put")
	s.events.Change(func(all []perdure.Event) []perdure.Event {
		e.Number = int64(len(all)) + 1
		return append(all, e)
	})
	return nil
}

func (s *burningStream) Get(_ context.Context, after int64) ([]perdure.Event, error) {
	s.fuse.at("stream get")
	return s.events.Get()[after:], nil
}

func (s *burningStream) Close() error { s.fuse.at("stream close"); return nil }

type burningLog struct {
	slog.Handler
	fuse *fuse
}

func (l burningLog) Handle(context.Context, slog.Record) error { l.fuse.at("log"); return nil }
func (l burningLog) Enabled(context.Context, slog.Level) bool  { l.fuse.at("log enabled"); return true }
func (l burningLog) WithGroup(string) slog.Handler             { l.fuse.at("log group"); return l }
func (l burningLog) WithAttrs([]slog.Attr) slog.Handler        { l.fuse.at("log attributes"); return l }

// minefield is an engine all of whose users' code panics where the fuse is lit.
type minefield struct {
	*fuse
	*rig.Server
	t       *testing.T
	f       *perdure.Func[bomb, bomb]
	stream  *perdure.Func[bomb, bomb]
	unlucky *perdure.Func[int, int]
	safe    *rig.Func
}

// fields opens one for each kind of a test.
func (m *minefield) open() {
	m.fuse = &fuse{}
	burning.Store(m.fuse)
	label := func(name string) func(bomb, string) (string, error) {
		return func(bomb, string) (string, error) { m.at(name); return name, nil }
	}
	opts := perdure.FuncOptions[bomb]{Title: label("title"), Description: label("description"),
		Tags: func(bomb, string) (map[string]string, error) { m.at("tags"); return nil, nil }}
	m.f = perdure.NewFunc[bomb, bomb]("f", &opts)
	kept := &burningStream{fuse: m.fuse}
	m.stream = perdure.NewFunc[bomb, bomb]("stream", &perdure.FuncOptions[bomb]{
		Stream: func(context.Context, string) (perdure.StreamHandler, error) { m.at("stream factory"); return kept, nil }})
	m.unlucky = perdure.NewFunc[int, int]("unlucky", &perdure.FuncOptions[int]{Retry: perdure.RetryPolicy{Attempts: 3, Initial: time.Second,
		Retryable: func(error) bool { m.at("predicate"); return true }}})
	m.safe = perdure.NewFunc[int, int]("safe", nil)
	m.Server = rig.Serve(m.t, memstore.New(), perdure.Options{Codec: burningCodec{m.fuse}, Logger: slog.New(burningLog{fuse: m.fuse})},
		m.f.Bind(m.run), m.stream.Bind(m.run), m.unlucky.Bind(m.fail), m.safe.Bind(rig.Stay))
}

// run comes by all places of a handler.
func (m *minefield) run(ctx context.Context, turn *perdure.Turn[bomb, bomb]) (bomb, error) {
	m.at("handler")
	turn.Logger().Info("entered")
	turn.Logger().WithGroup("g").With("k", 1).Info("entered")
	if err := turn.Metadata().Set("k", bomb{m.fuse, "metadata"}); err != nil {
		return bomb{}, err
	}
	if err := turn.Checkpoint(ctx); err != nil {
		return bomb{}, err
	}
	var b bomb
	if _, err := turn.Metadata().Get("k", &b); err != nil {
		return bomb{}, err
	}
	if err := turn.Emit(ctx, bomb{m.fuse, "event"}); err != nil {
		return bomb{}, err
	}
	return bomb{m.fuse, "output"}, nil
}

func (m *minefield) fail(context.Context, *rig.Turn) (int, error) {
	if m.lit.Get() == "typed nil" {
		var none *trap
		return 0, none
	}
	return 0, &trap{m.fuse}
}

// call starts a task, waits for its outcome, and reads its stream.
func (m *minefield) call(f *perdure.Func[bomb, bomb]) error {
	h, err := f.Start(m.t.Context(), m.Client, bomb{m.fuse, "input"}, nil)
	if err != nil {
		return err
	}
	if _, err = h.Result(m.t.Context()); err != nil {
		return err
	}
	if _, _, err := readInput(m.t.Context(), m.Client, h.TaskID()); err != nil {
		return err
	}
	for _, err := range m.Client.Events(m.t.Context(), h.TaskID(), nil) {
		if err != nil {
			return err
		}
	}
	return nil
}

func readInput(ctx context.Context, c perdure.Client, id string) (*perdure.TurnInfo, *perdure.Info, error) {
	turn, err := c.Turn(ctx, perdure.TurnQuery{TaskID: id})
	if err != nil {
		return nil, nil, err
	}
	info, err := c.Task(ctx, id)
	return turn, info, err
}

// each lights the fuse at each of some places, in a field of its own. A neighbour that runs is to go on, and to end.
func each(t *testing.T, places []string, act func(t *testing.T, m *minefield)) {
	for _, place := range places {
		t.Run(place, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				m := &minefield{t: t}
				m.open()
				neighbour := rig.Start(t, m.Client, m.safe, 1, "neighbour")
				synctest.Wait()
				m.lit.Set(place)
				act(t, m)
				rig.Is(t, "the neighbour's entries", rig.Task(t, m.Client, "neighbour").Turn.Recoveries, 0)
				m.lit.Set("")
				rig.Is(t, "ready", m.Engine.Ready(), nil)
				rig.Is(t, "an untouched call", m.call(m.f), nil)
				if _, err := m.Client.Cancel(t.Context(), "neighbour", nil); err != nil {
					t.Error(err)
				}
				rig.Ends(t, "the neighbour", neighbour, perdure.Cancelled)
			})
		})
	}
}

func TestAPanicOfTheProgramsCodeIsTheErrorOfItsCall(t *testing.T) {
	each(t, []string{"title", "description", "tags", "marshal input", "digests", "encode input"}, func(t *testing.T, m *minefield) {
		err := m.call(m.f)
		var p *perdure.PanicError
		if !errors.As(err, &p) || !strings.Contains(p.Error(), boom) || !strings.Contains(p.Stack(), "guard_test.go") {
			t.Errorf("got %v, want a *PanicError with its stack", err)
		}
		rig.Is(t, "entries", m.Counter("entries_total"), 1)
	})
	each(t, []string{"unmarshal output", "decode event"}, func(t *testing.T, m *minefield) {
		var p *perdure.PanicError
		if err := m.call(m.f); !errors.As(err, &p) {
			t.Errorf("got %v, want a *PanicError", err)
		}
	})
	each(t, []string{"stream factory", "stream get", "stream close"}, func(t *testing.T, m *minefield) {
		m.lit.Set("")
		h, err := m.stream.Start(t.Context(), m.Client, bomb{m.fuse, "input"}, &perdure.StartOptions{TaskID: "t"})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = h.Result(t.Context())
		m.lit.Set(t.Name()[strings.LastIndex(t.Name(), "/")+1:])
		m.lit.Change(func(s string) string { return strings.ReplaceAll(s, "_", " ") })
		for _, err = range m.Client.Events(t.Context(), "t", nil) {
		}
		var p *perdure.PanicError
		if told := m.lit.Get() != "stream close"; errors.As(err, &p) != told || !told && err != nil {
			t.Errorf("reader: got %v, want a *PanicError: %t; one who has had the end is told nothing", err, told)
		}
	})
}

func TestAPanicOfTheProgramsCodeInATurnFailsThatTurn(t *testing.T) {
	panics := func(t *testing.T, err error) {
		t.Helper()
		var e *perdure.TaskError
		if !errors.As(err, &e) || e.Type != "panic" || !strings.Contains(e.Message+e.Stack, boom) && !strings.Contains(e.Stack, "guard_test.go") {
			t.Errorf("got %v, want a failed turn, and the panic with its stack", err)
		}
	}
	each(t, []string{"handler"}, func(t *testing.T, m *minefield) { panics(t, m.call(m.f)) })
	each(t, []string{"marshal metadata", "marshal event", "marshal output", "unmarshal metadata", "encode event", "encode output", "encode metadata"},
		func(t *testing.T, m *minefield) {
			var e *perdure.TaskError
			if err := m.call(m.f); !errors.As(err, &e) || !strings.Contains(e.Message, boom) {
				t.Errorf("got %v, want a failed turn that says %s", err, boom)
			}
		})
	each(t, []string{"stream factory", "stream put"}, func(t *testing.T, m *minefield) {
		var e *perdure.TaskError
		if err := m.call(m.stream); !errors.As(err, &e) || !strings.Contains(e.Message, boom) {
			t.Errorf("got %v, want a failed turn that says %s", err, boom)
		}
	})
	each(t, []string{"Error", "Is", "As", "Unwrap", "predicate", "typed nil"}, func(t *testing.T, m *minefield) {
		_, err := m.unlucky.Run(t.Context(), m.Client, 1, nil)
		panics(t, err)
		rig.Is(t, "retries", m.Counter("retries_total"), map[bool]int64{true: 0, false: m.Counter("retries_total")}[m.lit.Get() == "predicate"])
	})
}

func TestAPanicOfADecoderParks(t *testing.T) {
	each(t, []string{"decode input", "unmarshal input", "decode metadata"}, func(t *testing.T, m *minefield) {
		place := m.lit.Get()
		m.lit.Set("")
		h, err := m.f.Start(t.Context(), m.Client, bomb{m.fuse, "input"}, &perdure.StartOptions{TaskID: "before"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.Result(t.Context()); err != nil {
			t.Fatal(err)
		}
		m.lit.Set(place)
		_, err = m.f.Run(t.Context(), m.Client, bomb{m.fuse, "input"}, &perdure.StartOptions{TaskID: "t"})
		if place == "decode metadata" { // it had none when it was entered
			if info := rig.Task(t, m.Client, "before"); len(info.Unreadable) != 1 || len(info.Metadata) != 0 {
				t.Errorf("reading it: got %+v, want it said that its metadata cannot be read", info)
			}
			return
		}
		var parked *perdure.ParkedError
		if !errors.As(err, &parked) || !strings.Contains(parked.Reason, map[bool]string{true: boom, false: "panicked"}[place == "decode input"]) {
			t.Errorf("got %v, want it parked, and the reason", err)
		}
	})
}

func TestAPanicOfALogHandlerIsDroppedAndCounted(t *testing.T) {
	each(t, []string{"log", "log enabled", "log group", "log attributes"}, func(t *testing.T, m *minefield) {
		rig.Is(t, "call", m.call(m.f), nil)
		if m.Counter("logs_dropped_total") == 0 {
			t.Error("nothing was counted")
		}
	})
}

func TestAHandlerThatEndsItsGoroutineFailsItsTurn(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", &rig.Options{Retry: perdure.FixedRetry(3, time.Second)})
	rig.In(t, perdure.Options{MaxRunning: 1}, func(t *testing.T, s *rig.Server) {
		for range 2 {
			var e *perdure.TaskError
			_, err := f.Run(t.Context(), s.Client, 1, nil)
			if !errors.As(err, &e) || e.Type != "misuse" || !strings.Contains(e.Message, "Goexit") {
				t.Errorf("got %v, want a misuse that names Goexit", err)
			}
		}
		rig.Is(t, "turns that run", s.Counter("turns_running"), 0)
	}, f.Bind(func(context.Context, *rig.Turn) (int, error) {
		runtime.Goexit()
		return 0, nil
	}))
}
