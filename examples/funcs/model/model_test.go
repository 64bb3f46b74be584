package model_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/perdure/perdure/examples/funcs/model"
)

// endpoint serves chat completions: it answers what the test says.
func endpoint(t *testing.T, serve http.HandlerFunc) *model.OpenAI {
	t.Helper()
	s := httptest.NewServer(serve)
	t.Cleanup(s.Close)
	return &model.OpenAI{URL: s.URL + "/v1/", Name: "small", Key: "secret", HTTP: s.Client()}
}

// read returns what a model says, and its error.
func read(ctx context.Context, m model.Model) (string, error) {
	var b strings.Builder
	for text, err := range m.Stream(ctx, []model.Message{{Role: model.User, Content: "hello"}}) {
		if err != nil {
			return b.String(), err
		}
		b.WriteString(text)
	}
	return b.String(), nil
}

func data(text string) string {
	return fmt.Sprintf("data: {\"choices\":[{\"delta\":{\"content\":%q}}]}\n\n", text)
}

func TestAnEndpointIsAskedAndItsAnswerStreamed(t *testing.T) {
	m := endpoint(t, func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Model    string
			Stream   bool
			Messages []model.Message
		}
		err := json.NewDecoder(r.Body).Decode(&body)
		if err != nil || body.Model != "small" || !body.Stream || len(body.Messages) != 1 || body.Messages[0].Content != "hello" ||
			r.URL.Path != "/v1/chat/completions" || r.Header.Get("Authorization") != "Bearer secret" {
			t.Errorf("asked %s with %+v, %v", r.URL, body, err)
		}
		fmt.Fprint(w, ": ready\n\n", `data: {"choices":[{"delta":{"role":"assistant"}}]}`+"\n\n", data("good "), data("day"), "data: [DONE]\n\n")
	})
	if text, err := read(t.Context(), m); text != "good day" || err != nil {
		t.Errorf("got %q, %v", text, err)
	}
}

func TestAnAnswerThatIsCutOffOrAFailureIsAnError(t *testing.T) {
	for name, c := range map[string]struct {
		serve http.HandlerFunc
		want  string
	}{
		"cut off": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, data("good ")) }, "ended before its end"},
		"status":  {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no such model", 404) }, "404 Not Found: no such model"},
		"error": {func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "data: {\"error\":{\"message\":\"overloaded\"}}\n\n")
		}, "overloaded"},
		"nonsense": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "data: {\n\n") }, "read model's answer"},
	} {
		if _, err := read(t.Context(), endpoint(t, c.serve)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestAReaderMayLeaveAndAnEndedContextIsTheCause(t *testing.T) {
	stopped := make(chan struct{})
	m := endpoint(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, data("good "))
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(stopped)
	})
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	for text, err := range m.Stream(ctx, nil) {
		if err != nil {
			if !errors.Is(err, enough) {
				t.Errorf("got %v, want the cause", err)
			}
			break
		}
		if text != "good " {
			t.Errorf("got %q", text)
		}
		cancel(enough)
	}
	<-stopped
	for range (model.Scripted{}).Stream(t.Context(), nil) {
		break
	}
	for range endpoint(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, data("a"), data("b")) }).Stream(t.Context(), nil) {
		break
	}
}

func TestAReaderWhoLeavesWhileTheContextEndsHearsNothingMore(t *testing.T) {
	m := endpoint(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, data("a"), data("b")) })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, err := range m.Stream(ctx, nil) {
		if err != nil {
			t.Error(err)
		}
		cancel()
		break
	}
}
