// Package clienttest holds every perdure.Client to one suite (P1): the engine's own, and the one that
// speaks HTTP, on every store.
package clienttest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/store"
)

// Run runs the suite, each test in a bubble of virtual time. newStore returns an empty store and open a
// client of an engine on it; both are called within the bubble and may use t.Cleanup.
func Run(t *testing.T, newStore func(t *testing.T) store.Store, open func(t *testing.T, eng *perdure.Engine) perdure.Client) {
	for _, tests := range [][]test{startTests(), labelTests(), readTests(), stopTests(), streamTests(), textTests()} {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				bubble.Test(t, func(t *testing.T) {
					tt.run(t, newEnv(t, newStore(t), open))
				})
			})
		}
	}
}

type test struct {
	name string
	run  func(t *testing.T, e *env)
}

// env is an engine that runs the suite's funcs, and the client that is tested.
type env struct {
	client  perdure.Client
	eng     *perdure.Engine
	entries atomic.Int64  // of handlers, in all
	open    chan struct{} // the "gate" func waits for one receive from it
	stop    func()        // shuts the engine down and waits for that
}

// Note is the input of the suite's funcs.
type Note struct {
	Text string `json:"text"`
}

func newEnv(t *testing.T, st store.Store, open func(*testing.T, *perdure.Engine) perdure.Client) *env {
	t.Helper()
	e := &env{open: make(chan struct{})}
	eng, err := perdure.New(st, &perdure.Options{Funcs: e.bindings(), Agent: "suite", Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	e.eng, e.client = eng, open(t, eng)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- eng.Run(ctx) }()
	e.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		done <- nil
	}
	t.Cleanup(e.stop)
	synctest.Wait()
	if err := eng.Ready(); err != nil {
		t.Fatalf("engine is not ready: %v", err)
	}
	return e
}

// Chat is the suite's multi-turn func.
var chat = perdure.NewFunc[Note, Note]("chat", &perdure.FuncOptions[Note]{MultiTurn: true, Steerable: true, MaxPending: 2})

// bindings are the suite's funcs: echo returns its input, gate waits to be let through, chat is a
// steerable conversation whose turns wait like gate's when told to "hold", fail fails, label is labelled
// by functions, loop gives its turn back until it is parked, any gives back any JSON.
func (e *env) bindings() []perdure.Binding {
	echo := perdure.NewFunc[Note, Note]("echo", nil)
	gate := perdure.NewFunc[Note, Note]("gate", nil)
	fail := perdure.NewFunc[Note, Note]("fail", nil)
	loop := perdure.NewFunc[Note, Note]("loop", &perdure.FuncOptions[Note]{MaxRecoveries: 1})
	label := perdure.NewFunc[Note, Note]("label", &perdure.FuncOptions[Note]{
		Title: func(in Note, id string) (string, error) {
			if in.Text == "bad" {
				return "", errors.New("no title for this")
			}
			return in.Text + " of " + id, nil
		},
		Tags: func(Note, string) (map[string]string, error) { return map[string]string{"a": "func", "b": "func"}, nil },
	})
	return []perdure.Binding{
		speak(), anything(), echo.Bind(e.echo), label.Bind(e.echo), gate.Bind(e.gate), chat.Bind(e.chat),
		fail.Bind(func(context.Context, *perdure.Turn[Note, Note]) (Note, error) { return Note{}, errors.New("no luck") }),
		loop.Bind(func(_ context.Context, turn *perdure.Turn[Note, Note]) (Note, error) {
			e.entries.Add(1)
			if turn.Recoveries() < 2 && turn.Input().Text == "loop" {
				return turn.Release()
			}
			return turn.Input(), nil
		}),
	}
}

// anything gives back any JSON in every way there is.
func anything() perdure.Binding {
	f := perdure.NewFunc[json.RawMessage, json.RawMessage]("any", nil)
	return f.Bind(func(ctx context.Context, turn *perdure.Turn[json.RawMessage, json.RawMessage]) (json.RawMessage, error) {
		return turn.Input(), errors.Join(turn.Emit(ctx, turn.Input()), turn.Metadata().Set("input", turn.Input()))
	})
}

func (e *env) echo(_ context.Context, turn *perdure.Turn[Note, Note]) (Note, error) {
	e.entries.Add(1)
	return turn.Input(), nil
}

// gate waits to be let through; an interrupt ends it by its cause.
func (e *env) gate(_ context.Context, turn *perdure.Turn[Note, Note]) (Note, error) {
	e.entries.Add(1)
	select {
	case <-e.open:
		return turn.Input(), nil
	case <-turn.Interrupt().Done():
		return Note{}, context.Cause(turn.Interrupt())
	}
}

func (e *env) chat(ctx context.Context, turn *perdure.Turn[Note, Note]) (Note, error) {
	e.entries.Add(1)
	if turn.Input().Text != "hold" {
		return turn.Input(), nil
	}
	select {
	case <-e.open:
	case <-ctx.Done():
	}
	return turn.Input(), nil
}

// request returns a start of a func with a note.
func request(fn, taskID, inputID, text string) *perdure.StartRequest {
	input, _ := json.Marshal(Note{Text: text})
	return &perdure.StartRequest{Func: fn, TaskID: taskID, InputID: inputID, Input: input}
}

// start starts, and fails the test if that is refused.
func (e *env) start(t *testing.T, req *perdure.StartRequest) *perdure.Accepted {
	t.Helper()
	a, err := e.client.Start(t.Context(), req)
	if err != nil {
		t.Fatalf("Start %s: %v", req.TaskID, err)
	}
	return a
}

// refused starts, and fails the test unless that is refused with the error wanted.
func (e *env) refused(t *testing.T, req *perdure.StartRequest, want error) error {
	t.Helper()
	a, err := e.client.Start(t.Context(), req)
	if !errors.Is(err, want) {
		t.Errorf("Start of func %.20q, task %.20q: got %+v, %v, want %v", req.Func, req.TaskID, a, err, want)
	}
	return err
}

// outcome waits for the outcome of a handle's turn.
func (e *env) outcome(t *testing.T, a *perdure.Accepted) *perdure.Outcome {
	t.Helper()
	o, err := e.client.Outcome(t.Context(), perdure.TurnQuery{TaskID: a.TaskID, Incarnation: a.Incarnation, Turn: a.Turn})
	if err != nil {
		t.Fatalf("Outcome of %s: %v", a.TaskID, err)
	}
	return o
}

// text decodes an output.
func text(t *testing.T, data json.RawMessage) string {
	t.Helper()
	var n Note
	if err := json.Unmarshal(data, &n); err != nil {
		t.Fatalf("output %s: %v", data, err)
	}
	return n.Text
}

// advance lets virtual time pass, and what it sets off settle.
func advance(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}
