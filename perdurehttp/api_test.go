package perdurehttp_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/perdurehttp"
	"github.com/perdure/perdure/store/memstore"
)

// api is a handler on an engine that runs, and what a test says to it.
type api struct {
	h       *perdurehttp.Handler
	eng     *perdure.Engine
	open    chan struct{} // lets a turn of hold end
	entries atomic.Int64  // of handlers
	stop    func()        // begins the engine's shutdown
	done    chan struct{} // closed when the engine has stopped
}

type note struct {
	Text string `json:"text"`
}

// inBubble runs a test of the handler in virtual time.
func inBubble(t *testing.T, opts *perdurehttp.HandlerOptions, test func(t *testing.T, a *api)) {
	bubble.Test(t, func(t *testing.T) { test(t, newAPI(t, opts)) })
}

func newAPI(t *testing.T, opts *perdurehttp.HandlerOptions) *api {
	t.Helper()
	a := &api{open: make(chan struct{}), done: make(chan struct{})}
	eng, err := perdure.New(memstore.New(), &perdure.Options{Funcs: a.bindings(), Logger: quiet, Agent: "tests"})
	if err != nil {
		t.Fatal(err)
	}
	if opts == nil {
		opts = &perdurehttp.HandlerOptions{}
	}
	opts.Logger = quiet
	a.eng, a.h = eng, perdurehttp.NewHandler(eng, opts)
	ctx, cancel := context.WithCancel(context.Background())
	a.stop = cancel
	go func() {
		defer close(a.done)
		eng.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-a.done })
	synctest.Wait()
	return a
}

// bindings: echo returns its input, hold waits until it may end or is interrupted, chat is a steerable
// conversation of such turns, stubborn ends only with its context, panicky panics in a label function.
func (a *api) bindings() []perdure.Binding {
	hold := func(ctx context.Context, turn *perdure.Turn[note, note]) (note, error) {
		a.entries.Add(1)
		select {
		case <-a.open:
			return turn.Input(), nil
		case <-turn.Interrupt().Done():
			return note{}, context.Cause(turn.Interrupt())
		}
	}
	echo := func(_ context.Context, turn *perdure.Turn[note, note]) (note, error) {
		a.entries.Add(1)
		turn.Metadata().Set("seen", turn.Input().Text)
		return turn.Input(), nil
	}
	fail := func(context.Context, *perdure.Turn[note, note]) (note, error) { return note{}, errors.New("no luck") }
	stubborn := func(ctx context.Context, _ *perdure.Turn[note, note]) (note, error) {
		<-ctx.Done()
		return note{}, ctx.Err()
	}
	loop := func(_ context.Context, turn *perdure.Turn[note, note]) (note, error) { return turn.Release() }
	return []perdure.Binding{
		perdure.NewFunc[note, note]("echo", nil).Bind(echo),
		perdure.NewFunc[note, note]("hold", nil).Bind(hold),
		perdure.NewFunc[note, note]("fail", nil).Bind(fail),
		perdure.NewFunc[note, note]("stubborn", nil).Bind(stubborn),
		perdure.NewFunc[note, note]("loop", &perdure.FuncOptions[note]{MaxRecoveries: 1}).Bind(loop),
		perdure.NewFunc[note, note]("chat", &perdure.FuncOptions[note]{MultiTurn: true, Steerable: true}).Bind(hold),
		perdure.NewFunc[note, note]("panicky", &perdure.FuncOptions[note]{
			Title: func(note, string) (string, error) { panic("a secret") },
		}).Bind(echo),
	}
}

// header is a header to send, as "Name: value".
type header = string

// do sends a request and returns the answer.
func (a *api) do(t *testing.T, method, target, body string, headers ...header) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	r.Host = "127.0.0.1:8088"
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if r.Header.Set(name, value); name == "Host" {
			r.Host = value
		}
	}
	w := httptest.NewRecorder()
	a.h.ServeHTTP(w, r)
	return w
}

// want fails the test unless the answer has the status, and returns it.
func (a *api) want(t *testing.T, status int, method, target, body string, headers ...header) *httptest.ResponseRecorder {
	t.Helper()
	w := a.do(t, method, target, body, headers...)
	if w.Code != status {
		t.Errorf("%s %s %.80s: got %d %s, want %d", method, target, body, w.Code, w.Body, status)
	}
	return w
}

// wantProblem fails the test unless the answer is a problem of the code, and returns it.
func (a *api) wantProblem(t *testing.T, code perdurehttp.Code, method, target, body string, headers ...header) *perdurehttp.Problem {
	t.Helper()
	return problem(t, a.do(t, method, target, body, headers...), code)
}

func problem(t *testing.T, w *httptest.ResponseRecorder, code perdurehttp.Code) *perdurehttp.Problem {
	t.Helper()
	var p perdurehttp.Problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatalf("%d %q is no problem: %v", w.Code, w.Body, err)
	}
	if p.Code != code || p.Status != w.Code || w.Header().Get("Content-Type") != "application/problem+json" || p.Title == "" {
		t.Errorf("got %d, %s, %+v, want a problem of code %s", w.Code, w.Header().Get("Content-Type"), p, code)
	}
	return &p
}

func decode[T any](t *testing.T, w *httptest.ResponseRecorder) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatalf("decode %q: %v", w.Body, err)
	}
	return v
}

// post starts a task.
func (a *api) post(t *testing.T, status int, body string, headers ...header) *httptest.ResponseRecorder {
	t.Helper()
	return a.want(t, status, http.MethodPost, "/v1/tasks", body, headers...)
}
