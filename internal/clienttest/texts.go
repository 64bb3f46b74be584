package clienttest

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/perdure/perdure"
)

func textTests() []test {
	return []test{
		{"S6 a start with a text that no store keeps is refused", textsOfStart},
		{"S6 what is asked of a task with such a text is refused, or does not find it", textsOfStops},
		{"S6 what is looked for by such a text is not found", textsOfReads},
		{"S6 inputs are strict JSON", strictInputs},
		{"S6 payloads come back as they went in", payloads},
	}
}

// badTexts are none that every store keeps.
var badTexts = []string{"\x00", "a\x00b", "\xff", "na\xc3", "\xed\xa0\x80"}

func textsOfStart(t *testing.T, e *env) {
	strs := reflect.TypeFor[perdure.StartRequest]()
	for _, bad := range badTexts {
		for f := range strs.Fields() {
			if f.Type.Kind() != reflect.String {
				continue
			}
			req := request("echo", "t1", "i1", "x")
			reflect.ValueOf(req).Elem().FieldByIndex(f.Index).SetString(bad)
			if _, err := e.client.Start(t.Context(), req); !errors.Is(err, perdure.ErrInvalid) {
				t.Errorf("%s = %q: got %v, want ErrInvalid", f.Name, bad, err)
			}
		}
		for _, tags := range []map[string]string{{bad: "v"}, {"k": bad}} {
			req := request("echo", "t1", "i1", "x")
			req.Tags = tags
			e.refused(t, req, perdure.ErrInvalid)
		}
		req := request("echo", "t1", "i1", "x")
		req.Input = json.RawMessage(`{"text":"` + bad + `"}`)
		e.refused(t, req, perdure.ErrInvalid)
	}
	if _, err := e.client.Task(t.Context(), "t1"); !errors.Is(err, perdure.ErrNotFound) {
		t.Errorf("Task: got %v, want ErrNotFound: nothing was stored", err)
	}
}

func textsOfStops(t *testing.T, e *env) {
	e.start(t, request("gate", "t1", "i1", "x"))
	ctx := t.Context()
	for _, bad := range badTexts {
		for what, c := range map[string]struct {
			err  func() error
			want error
		}{
			"cancel of a task":    {func() error { _, err := e.client.Cancel(ctx, bad, nil); return err }, perdure.ErrNotFound},
			"terminate of a task": {func() error { _, err := e.client.Terminate(ctx, bad, nil); return err }, perdure.ErrNotFound},
			"resume of a task":    {func() error { _, err := e.client.Resume(ctx, bad, nil); return err }, perdure.ErrNotFound},
			"delete of a task":    {func() error { return e.client.Delete(ctx, bad, nil) }, nil},
			"cancel of an input": {func() error {
				_, err := e.client.Cancel(ctx, "t1", &perdure.CancelOptions{InputID: bad})
				return err
			}, perdure.ErrNotFound},
			"reason of a cancel": {func() error {
				_, err := e.client.Cancel(ctx, "t1", &perdure.CancelOptions{Reason: bad})
				return err
			}, perdure.ErrInvalid},
			"reason of a terminate": {func() error {
				_, err := e.client.Terminate(ctx, "t1", &perdure.TerminateOptions{Reason: bad})
				return err
			}, perdure.ErrInvalid},
			"request ID of a cancel": {func() error {
				_, err := e.client.Cancel(ctx, "t1", &perdure.CancelOptions{RequestID: bad})
				return err
			}, perdure.ErrInvalid},
			"request ID of a terminate": {func() error {
				_, err := e.client.Terminate(ctx, "t1", &perdure.TerminateOptions{RequestID: bad})
				return err
			}, perdure.ErrInvalid},
			"request ID of a resume": {func() error {
				_, err := e.client.Resume(ctx, "t1", &perdure.ResumeOptions{RequestID: bad})
				return err
			}, perdure.ErrInvalid},
			"request ID of a delete": {func() error { return e.client.Delete(ctx, "t1", &perdure.DeleteOptions{RequestID: bad}) }, perdure.ErrInvalid},
		} {
			if err := c.err(); !errors.Is(err, c.want) {
				t.Errorf("%s %q: got %v, want %v", what, bad, err, c.want)
			}
		}
	}
	info, err := e.client.Task(ctx, "t1")
	if err != nil || info.Status != perdure.InProgress || info.Turn.Cancel {
		t.Errorf("got %+v, %v, want the task as it was", info, err)
	}
}

func textsOfReads(t *testing.T, e *env) {
	req := request("gate", "t1", "i1", "x")
	req.Session, req.Tags = "s", map[string]string{"k": "v"}
	e.start(t, req)
	ctx := t.Context()
	for _, bad := range badTexts {
		_, taskErr := e.client.Task(ctx, bad)
		_, turnErr := e.client.Turn(ctx, perdure.TurnQuery{TaskID: bad})
		_, inputErr := e.client.Turn(ctx, perdure.TurnQuery{TaskID: "t1", InputID: bad})
		_, outcomeErr := e.client.Outcome(ctx, perdure.TurnQuery{TaskID: bad})
		_, ofInputErr := e.client.Outcome(ctx, perdure.TurnQuery{TaskID: "t1", InputID: bad})
		errs := []error{taskErr, turnErr, inputErr, outcomeErr, ofInputErr}
		for _, err := range e.client.Turns(ctx, bad, nil) {
			errs = append(errs, err)
		}
		for _, err := range e.client.Events(ctx, bad, nil) {
			errs = append(errs, err)
		}
		for i, err := range errs {
			if !errors.Is(err, perdure.ErrNotFound) {
				t.Errorf("read %d of %q: got %v, want ErrNotFound", i, bad, err)
			}
		}
		for want, all := range map[int][]perdure.ListOptions{
			0: {{Funcs: []string{bad}}, {Session: bad}, {Agent: bad}, {Tags: map[string]string{"k": bad}}, {Tags: map[string]string{bad: "v"}},
				{Session: "s", Agent: bad}, {Funcs: []string{"gate"}, Tags: map[string]string{"k": "v", bad: "v"}}},
			1: {{Funcs: []string{bad, "gate"}}},
		} {
			for _, opts := range all {
				if got, err := count(t, e, &opts); err != nil || got != want {
					t.Errorf("list %+v: got %d tasks, %v, want %d", opts, got, err, want)
				}
			}
		}
	}
}

func count(t *testing.T, e *env, opts *perdure.ListOptions) (n int, err error) {
	for _, err := range e.client.Tasks(t.Context(), opts) {
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

func strictInputs(t *testing.T, e *env) {
	for input, want := range map[string]string{
		`{"text":"x","text":"y"}`: `"text" twice`, `{"Text":"x"}`: "Text", `{"text":"x","TEXT":"y"}`: "TEXT", `{"more":1}`: "more",
		strings.Repeat("[", 501) + strings.Repeat("]", 501): "nested", strings.Repeat("[", 9998) + strings.Repeat("]", 9998): "nested",
	} {
		req := request("echo", "t1", "i1", "x")
		req.Input = json.RawMessage(input)
		if err := e.refused(t, req, perdure.ErrInvalid); err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: got %v, want %s named", input, err, want)
		}
	}
}

// payloads gives a func that takes any JSON what is at the edges of JSON, and reads it back by every way there is.
func payloads(t *testing.T, e *env) {
	for i, input := range []string{
		`null`, `""`, `{}`, `-0`, `1e400`, `123456789012345678901234567890.50`, `"\u0000"`, `"\ud800"`, `{"\udc00":"\ud83d"}`, `"\ufffd"`,
		`"<&>\u2028"`, `"` + "\uFFFD\u0085\u202e" + `"`, `{"b":1,"a":[2],"B":3}`, strings.Repeat("[", 500) + strings.Repeat("]", 500),
	} {
		req := request("any", fmt.Sprint("t", i), "i", "")
		req.Input = json.RawMessage(input)
		a := e.start(t, req)
		o := e.outcome(t, a)
		turn, err := e.client.Turn(t.Context(), perdure.TurnQuery{TaskID: a.TaskID})
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]json.RawMessage{"output": o.Output, "input of the turn": turn.Input, "output of the turn": turn.Output}
		for turn, err := range e.client.Turns(t.Context(), a.TaskID, nil) {
			if err != nil {
				t.Fatal(err)
			}
			got["input of the turns"] = turn.Input
		}
		for event, err := range e.client.Events(t.Context(), a.TaskID, nil) {
			if err != nil {
				t.Fatal(err)
			}
			if event.Kind == perdure.EventMessage {
				got["event"] = event.Data
			}
		}
		info, err := e.client.Task(t.Context(), a.TaskID)
		if err != nil {
			t.Fatal(err)
		}
		got["metadata"] = info.Metadata["input"]
		for what, data := range got {
			if !SameJSON(data, []byte(input)) {
				t.Errorf("%.60s: as %s it is %.60s", input, what, data)
			}
		}
	}
}
