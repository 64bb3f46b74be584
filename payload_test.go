package perdure_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/rig"
)

// cut is a text that was cut between the bytes of a character.
const cut, mended = "na\xc3", "na\uFFFD"

type texts struct {
	Text string          `json:"text"`
	More []texts         `json:"more,omitempty"`
	Raw  json.RawMessage `json:"raw,omitempty"`
}

func TestAnInputThatIsNoUTF8IsRefused(t *testing.T) {
	f := perdure.NewFunc[texts, int]("f", nil)
	rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
		for _, in := range []texts{{Text: cut}, {More: []texts{{}, {Text: cut}}}, {Raw: json.RawMessage(`"` + cut + `"`)}} {
			_, err := f.Start(t.Context(), s.Client, in, &perdure.StartOptions{TaskID: "t"})
			if !errors.Is(err, perdure.ErrInvalid) || !strings.Contains(err.Error(), "not UTF-8") {
				t.Errorf("S6: got %v, want ErrInvalid that says so", err)
			}
		}
		_, err := s.Client.Task(t.Context(), "t")
		rig.Fails(t, "S6: nothing is created", err, perdure.ErrNotFound)
		for _, in := range []texts{{Text: "\uFFFD"}, {Raw: json.RawMessage(`"\ufffd"`)}} {
			if _, err := f.Start(t.Context(), s.Client, in, nil); err != nil {
				t.Errorf("S6: the character U+FFFD itself: %v", err)
			}
		}
		rig.Is(t, "S6: replaced", s.Counter("texts_replaced_total"), 0)
	}, f.Bind(func(context.Context, *perdure.Turn[texts, int]) (int, error) { return 0, nil }))
}

func TestBytesOfATurnThatAreNoUTF8AreReplacedAndTold(t *testing.T) {
	f := perdure.NewFunc[string, texts]("f", nil)
	rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
		h, err := f.Start(t.Context(), s.Client, "all", nil)
		if err != nil {
			t.Fatal(err)
		}
		r, err := h.Result(t.Context())
		if err != nil || r.Output.Text != mended || string(r.Output.Raw) != `"`+mended+`"` || r.Reason != mended {
			t.Errorf("S6: got %+v, %v, want U+FFFD in output and reason", r, err)
		}
		events := 0
		for e, err := range h.Events(t.Context(), 0) {
			if err != nil {
				t.Fatal(err)
			}
			if e.Kind == perdure.EventMessage {
				var text string
				if err := json.Unmarshal(e.Data, &text); err != nil || text != mended {
					t.Errorf("S6: event: got %q, %v", text, err)
				}
				events++
			}
		}
		rig.Is(t, "events", events, 2)
		info, err := h.Info(t.Context())
		if err != nil || string(info.Metadata["set"]) != `"na\ufffd"` || string(info.Metadata["append"]) != `["na\ufffd"]` {
			t.Errorf("S6: metadata: got %s, %v", info.Metadata, err)
		}
		rig.Is(t, "S6: replaced", s.Counter("texts_replaced_total"), 6)
		rig.Is(t, "S6: lines in the log", strings.Count(s.Logs.String(), "U+FFFD"), 1)

		h, err = f.Start(t.Context(), s.Client, "fail", nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = h.Result(t.Context())
		if failed := (*perdure.TaskError)(nil); !errors.As(err, &failed) || failed.Message != mended+"\uFFFD" {
			t.Errorf("Y3: got %v", err)
		}
		rig.Is(t, "S6: replaced", s.Counter("texts_replaced_total"), 7)
		rig.Is(t, "S6: lines in the log", strings.Count(s.Logs.String(), "U+FFFD"), 2)
	}, f.Bind(func(ctx context.Context, turn *perdure.Turn[string, texts]) (texts, error) {
		if turn.Input() == "fail" {
			return texts{}, errors.New(cut + "\x00")
		}
		err := errors.Join(turn.EmitMany(ctx, cut, "na\xff"), turn.Metadata().Set("set", cut), turn.Metadata().Append("append", cut))
		if err != nil {
			return texts{}, err
		}
		return turn.Suspend(texts{Text: cut, Raw: json.RawMessage(`"` + cut + `"`)}, cut)
	}))
}

func TestALabelFunctionMayCutACharacter(t *testing.T) {
	f := perdure.NewFunc[string, int]("f", &perdure.FuncOptions[string]{
		Title:       func(in, _ string) (string, error) { return in[:1], nil },
		Description: func(in, _ string) (string, error) { return in[:1] + "\x00", nil },
		Tags:        func(in, _ string) (map[string]string, error) { return map[string]string{"cut": in[:1]}, nil },
	})
	rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
		if _, err := f.Start(t.Context(), s.Client, "ä", &perdure.StartOptions{TaskID: "typed"}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Client.Start(t.Context(), &perdure.StartRequest{Func: "f", Input: json.RawMessage(`"ä"`), TaskID: "untyped"}); err != nil {
			t.Fatal(err)
		}
		for i, id := range []string{"typed", "untyped"} {
			info := rig.Task(t, s.Client, id)
			if info.Title != "\uFFFD" || info.Description != "\uFFFD\uFFFD" || info.Tags["cut"] != "\uFFFD" {
				t.Errorf("S8: got %q, %q, %q", info.Title, info.Description, info.Tags)
			}
			if line := "task=" + id; strings.Count(s.Logs.String(), line) != 1 {
				t.Errorf("S8: start %d: %s, want a line with %s", i, s.Logs, line)
			}
		}
		rig.Is(t, "S8: replaced", s.Counter("texts_replaced_total"), 2)
		_, err := f.Start(t.Context(), s.Client, "ä", &perdure.StartOptions{Title: cut})
		rig.Fails(t, "S6: a caller's own title", err, perdure.ErrInvalid)
	}, f.Bind(func(context.Context, *perdure.Turn[string, int]) (int, error) { return 0, nil }))
}

func TestHalvesOfSurrogatePairsAreDifferentInputs(t *testing.T) {
	f := perdure.NewFunc[json.RawMessage, json.RawMessage]("f", nil)
	rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
		start := func(input string) error {
			_, err := s.Client.Start(t.Context(), &perdure.StartRequest{Func: "f", TaskID: "t", InputID: "i", Input: json.RawMessage(input)})
			return err
		}
		rig.Is(t, "S2: the first", start(`{"a":"\ud800"}`), nil)
		rig.Fails(t, "S2: another half", start(`{"a":"\ud801"}`), perdure.ErrInputMismatch)
		rig.Fails(t, "S2: the character that stands for none", start(`{"a":"\ufffd"}`), perdure.ErrInputMismatch)
		rig.Is(t, "S2: the same", start(` {"a":"\uD800"}`), nil)
		o, err := s.Client.Outcome(t.Context(), perdure.TurnQuery{TaskID: "t"})
		if err != nil || string(o.Output) != `{"a":"\ud800"}` {
			t.Errorf("got %s, %v, want the output as the input was written", o.Output, err)
		}
	}, f.Bind(func(_ context.Context, turn *perdure.Turn[json.RawMessage, json.RawMessage]) (json.RawMessage, error) {
		return turn.Input(), nil
	}))
}

func TestAnInputNamesFieldsOnceAndAsTheyAreDeclared(t *testing.T) {
	f := perdure.NewFunc[map[string]texts, int]("f", nil)
	rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
		for input, want := range map[string]string{
			`{"k":{"Text":"x"}}`: "Text", `{"k":{"text":"x","TEXT":"y"}}`: "TEXT", `{"k":{"more":[{"text":"x","text":"y"}]}}`: `"text" twice`,
			`{"k":{},"k":{}}`: `"k" twice`, `{"k":{"raw":{"x":[{"a":1,"\u0061":2}]}}}`: `"a" twice`, `{"k":{"more":[{"Raw":1}]}}`: "Raw",
		} {
			_, err := s.Client.Start(t.Context(), &perdure.StartRequest{Func: "f", Input: json.RawMessage(input)})
			if !errors.Is(err, perdure.ErrInvalid) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want ErrInvalid with %s", input, err, want)
			}
		}
		input := `{"text":{"text":"x"},"Text":{},"TEXT":{"raw":{"a":1,"A":2}}}`
		if _, err := s.Client.Start(t.Context(), &perdure.StartRequest{Func: "f", Input: json.RawMessage(input)}); err != nil {
			t.Errorf("keys of maps are data: %v", err)
		}
	}, f.Bind(func(context.Context, *perdure.Turn[map[string]texts, int]) (int, error) { return 0, nil }))
	raw := perdure.NewFunc[json.RawMessage, int]("f", nil)
	rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
		_, err := raw.Start(t.Context(), s.Client, json.RawMessage(`{"a":{"b":1,"b":2}}`), nil)
		rig.Fails(t, "of a typed start", err, perdure.ErrInvalid)
	})
}

// nest returns arrays in arrays.
func nest(depth int) json.RawMessage {
	return json.RawMessage(strings.Repeat("[", depth) + strings.Repeat("]", depth))
}

func TestNestingHasOneLimit(t *testing.T) {
	const most = 500
	f := perdure.NewFunc[json.RawMessage, json.RawMessage]("f", nil)
	emitted, set, appended := make(chan error, 1), make(chan error, 1), make(chan error, 1)
	rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
		r, err := f.Run(t.Context(), s.Client, nest(most), nil)
		if err != nil || string(r.Output) != string(nest(most)) {
			t.Errorf("at the limit: got %d bytes, %v", len(r.Output), err)
		}
		for _, err := range []error{<-emitted, <-set, <-appended} {
			rig.Fails(t, "S6: one deeper", err, perdure.ErrInvalid)
		}
		_, err = f.Start(t.Context(), s.Client, nest(most+1), nil)
		rig.Fails(t, "S6: an input one deeper", err, perdure.ErrInvalid)
		for _, depth := range []int{most + 1, 9_998, 100_000} {
			_, err := s.Client.Start(t.Context(), &perdure.StartRequest{Func: "f", Input: nest(depth)})
			if !errors.Is(err, perdure.ErrInvalid) || !strings.Contains(err.Error(), "more than 500 deep") {
				t.Errorf("S6: depth %d: got %v", depth, err)
			}
		}
		_, err = f.Run(t.Context(), s.Client, json.RawMessage(`"deep"`), nil)
		if failed := (*perdure.TaskError)(nil); !errors.As(err, &failed) || failed.Type != "encode" {
			t.Errorf("S6: an output one deeper: got %v, want a failure of type encode", err)
		}
	}, f.Bind(func(ctx context.Context, turn *perdure.Turn[json.RawMessage, json.RawMessage]) (json.RawMessage, error) {
		if string(turn.Input()) == `"deep"` {
			return nest(most + 1), nil
		}
		emitted <- turn.Emit(ctx, nest(most+1))
		set <- turn.Metadata().Set("k", nest(most+1))
		appended <- turn.Metadata().Append("k", nest(most))
		return turn.Input(), turn.Emit(ctx, nest(most))
	}))
}

func TestAPolicyIsReadStrictly(t *testing.T) {
	for _, text := range []string{`{"attempts":2,"attempts":5}`, `{"attempts":2,"ATTEMPTS":5}`, `{"Attempts":2}`, `{"tries":2}`, "{\"initial\":\"1s\xff\"}"} {
		var p perdure.RetryPolicy
		if err := json.Unmarshal([]byte(text), &p); err == nil {
			t.Errorf("%s: accepted as %+v", text, p)
		}
	}
	p := perdure.ExponentialRetry(3)
	data, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var again perdure.RetryPolicy
	if err := json.Unmarshal(data, &again); err != nil || fmt.Sprint(again) != fmt.Sprint(p) {
		t.Errorf("%s: got %+v, %v", data, again, err)
	}
}
