package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/examples/funcs"
	"github.com/perdure/perdure/perdurehttp"
	"github.com/perdure/perdure/store/memstore"
)

// inProcess serves the example funcs, with a task p1 that has ended and a suspended a1.
func inProcess(t testing.TB) http.Handler {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	eng, err := perdure.New(memstore.New(), &perdure.Options{Funcs: funcs.All(&funcs.Options{}), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- eng.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	c := eng.Client()
	for _, req := range []perdure.StartRequest{
		{Func: "provenance", TaskID: "p1", Title: "t", Tags: map[string]string{"k": "v"}, Input: []byte(`{}`)},
		{Func: "approval", TaskID: "a1", Input: []byte(`{"request":"x"}`)},
		{Func: "countdown", TaskID: "c1", Input: []byte(`{"steps":1,"fail_at":[1,1,1,1,1,1,1]}`)},
	} {
		if _, err := c.Start(ctx, &req); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Outcome(ctx, perdure.TurnQuery{TaskID: req.TaskID}); err != nil {
			t.Fatal(err)
		}
	}
	return perdurehttp.NewHandler(eng, &perdurehttp.HandlerOptions{Logger: quiet})
}

// onScreen returns a call of the program whose output people read, and what they have read.
func onScreen(environ ...string) (a *app, read func() string) {
	out := &lockedBuffer{}
	a = &app{in: strings.NewReader(""), environ: environ, out: &screen{w: out, people: true}, errOut: &screen{w: out, people: true}}
	return a, out.String
}

// arguments returns arguments that a command's usage asks for.
func arguments(c *cobra.Command) (args []string) {
	for _, word := range strings.Fields(c.Use)[1:] {
		switch strings.TrimSuffix(word, "...") {
		case "ID":
			args = append(args, "p1")
		case "FUNC":
			args = append(args, "provenance")
		}
	}
	return args
}

// spoiled passes on what a server answers, with evil in every string that may be anything.
func spoiled(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.URL.Path, r.URL.RawPath = strings.ReplaceAll(r.URL.Path, evil, ""), ""
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.Header().Del("Content-Length")
		w.WriteHeader(rec.Code)
		for line := range bytes.Lines(rec.Body.Bytes()) {
			prefix, data := []byte(nil), line
			if after, ok := bytes.CutPrefix(line, []byte("data: ")); ok {
				prefix, data = []byte("data: "), after
			}
			var v any
			if json.Unmarshal(data, &v) != nil {
				w.Write(line)
				continue
			}
			data, _ = json.Marshal(spoil("", v))
			w.Write(append(append(prefix, data...), '\n'))
		}
	})
}

func spoil(key string, v any) any {
	switch v := v.(type) {
	case map[string]any:
		spoiled := map[string]any{}
		for k, value := range v {
			name := k
			if key == "metadata" || key == "tags" || key == "output" || key == "data" && k != "text" {
				name += evil
			}
			spoiled[name] = spoil(k, value)
		}
		return spoiled
	case []any:
		for i := range v {
			v[i] = spoil(key, v[i])
		}
	case string:
		if _, err := time.Parse(time.RFC3339, v); err != nil && key != "status" && key != "kind" && key != "code" && key != "task_id" {
			return v + evil
		}
	}
	return v
}

// refusing answers everything with a problem, or with what no server of ours says.
func refusing(status int, body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		io.WriteString(w, body)
	})
}

// TestNothingOfATaskReachesATerminal walks the commands, so that a new one is tested by itself.
func TestNothingOfATaskReachesATerminal(t *testing.T) {
	problem, err := json.Marshal(map[string]any{"type": evil, "title": evil, "detail": "no" + evil, "code": "conflict",
		"task_id": "p1" + evil, "current_status": "parked" + evil, "current_func": evil, "reason": evil, "reasons": []string{evil}})
	if err != nil {
		t.Fatal(err)
	}
	servers := map[string]http.Handler{
		"spoiled":  spoiled(inProcess(t)),
		"conflict": refusing(http.StatusConflict, string(problem)),
		"unknown":  refusing(http.StatusTeapot, strings.ReplaceAll(string(problem), "conflict", evil[:1]+"x")),
		"no JSON":  refusing(http.StatusBadRequest, evil),
		"lies":     refusing(http.StatusOK, evil),
	}
	for name, h := range servers {
		server := httptest.NewServer(h)
		t.Cleanup(server.Close)
		a, _ := onScreen()
		for _, c := range a.rootCommand().Commands() {
			if c.Flags().Lookup("url") != nil {
				t.Run(name+"/"+c.Name(), func(t *testing.T) { showAll(t, server.URL, c, name == "conflict" && c.Name() != "doctor") })
			}
		}
	}
}

// showAll runs a command with each of its switches, and checks what it shows; if told, something must be there that
// was escaped.
func showAll(t *testing.T, url string, c *cobra.Command, something bool) {
	variants := [][]string{nil}
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Value.Type() == "bool" && f.Name != "help" {
			variants = append(variants, []string{"--" + f.Name})
		}
	})
	shown := ""
	for _, id := range []string{"p1", "a1", "c1", "p1" + evil} {
		for _, flags := range variants {
			a, read := onScreen("PERDURE_URL=" + url)
			a.in = strings.NewReader("hello\n")
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			args := append([]string{c.Name()}, arguments(c)...)
			for i := range args {
				args[i] = strings.Replace(args[i], "p1", id, 1)
			}
			a.run(ctx, append(args, flags...))
			cancel()
			noneActs(t, strings.Join(append(args, flags...), " "), read())
			shown += read()
		}
	}
	if something && !strings.Contains(shown, `\u202e`) {
		t.Errorf("%s shows nothing of what the server says: %q", c.Name(), shown)
	}
}

func TestTheChatScreenShowsNothingThatActs(t *testing.T) {
	v := &view{talk: &conversation{id: "c" + evil}, open: map[int64]*exchange{}, width: 80}
	data, err := json.Marshal(map[string]string{"text": "reply" + evil})
	if err != nil {
		t.Fatal(err)
	}
	show := func(msg tea.Msg) {
		t.Helper()
		_, cmd := v.Update(msg)
		shown := v.View().Content
		if cmd != nil {
			if printed, err := json.Marshal(cmd()); err == nil {
				shown += string(printed)
			}
		}
		noneActs(t, "the screen", ours.Replace(shown))
	}
	show(accepted{1, "hello" + evil})
	show(emitted{perdure.Event{Number: 1, Turn: 1, Kind: perdure.EventMessage, Data: data}})
	show(trouble{&usageError{io.EOF}})
	x := v.exchange(1)
	noneActs(t, "what is printed", ours.Replace(v.render(x, replyEnd(&perdure.TurnInfo{Status: perdure.Failed, Error: &perdure.TaskError{Message: evil}}))))
	noneActs(t, "the head", ours.Replace(faint("conversation "+v.talk.id)))
}

// ours takes out the styles of the screen itself.
var ours = strings.NewReplacer("\x1b[m", "", "\x1b[1m", "", "\x1b[2m", "", "\x1b[7m", "")
