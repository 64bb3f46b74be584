package clienttest

import (
	"errors"
	"strings"
	"testing"

	"github.com/perdure/perdure"
)

func labelTests() []test {
	return []test{
		{"S8 labels are stored", labels},
		{"S8 functions label an untyped start, and what the call gives comes first", labelFuncs},
		{"S8 the error of a label function reaches the caller", labelError},
		{"S6 labels over their limits are too large", labelLimits},
		{"S9 reserved tags are refused and name the tag", reserved},
		{"S9 a task is stamped with its source", source},
	}
}

func labels(t *testing.T, e *env) {
	req := request("echo", "t1", "i1", "x")
	req.Title, req.Description, req.Session = "A <title>", "Beschreibung ä", "s1"
	req.Tags = map[string]string{"team": "red", "odd:key\\": "a:b"}
	e.start(t, req)
	info, err := e.client.Task(t.Context(), "t1")
	if err != nil {
		t.Fatal(err)
	}
	if info.Title != req.Title || info.Description != req.Description || info.Session != "s1" || info.Agent != "suite" {
		t.Errorf("got %+v, want the labels of the start", info)
	}
	if len(info.Tags) != 2 || info.Tags["team"] != "red" || info.Tags["odd:key\\"] != "a:b" {
		t.Errorf("tags: got %v, want %v", info.Tags, req.Tags)
	}
}

func labelFuncs(t *testing.T, e *env) {
	req := request("label", "t1", "i1", "note")
	req.Tags = map[string]string{"b": "call"}
	e.start(t, req)
	info, err := e.client.Task(t.Context(), "t1")
	if err != nil {
		t.Fatal(err)
	}
	if info.Title != "note of t1" || info.Tags["a"] != "func" || info.Tags["b"] != "call" {
		t.Errorf("got title %q, tags %v, want the func's, with b from the call", info.Title, info.Tags)
	}
}

func labelError(t *testing.T, e *env) {
	err := e.refused(t, request("label", "t1", "i1", "bad"), perdure.ErrInvalid)
	if err != nil && !strings.Contains(err.Error(), "no title for this") {
		t.Errorf("got %v, want the function's own words", err)
	}
	if _, err := e.client.Task(t.Context(), "t1"); !errors.Is(err, perdure.ErrNotFound) {
		t.Errorf("Task: got %v, want ErrNotFound", err)
	}
}

func labelLimits(t *testing.T, e *env) {
	long := strings.Repeat("ä", 257)
	for name, set := range map[string]func(*perdure.StartRequest){
		"title":       func(r *perdure.StartRequest) { r.Title = long },
		"session":     func(r *perdure.StartRequest) { r.Session = long },
		"description": func(r *perdure.StartRequest) { r.Description = strings.Repeat("x", 1025) },
		"tag key":     func(r *perdure.StartRequest) { r.Tags = map[string]string{strings.Repeat("k", 65): "v"} },
		"tag value":   func(r *perdure.StartRequest) { r.Tags = map[string]string{"k": long} },
	} {
		req := request("echo", "t1", "i1", "x")
		set(req)
		if _, err := e.client.Start(t.Context(), req); !errors.Is(err, perdure.ErrTooLarge) {
			t.Errorf("%s: got %v, want ErrTooLarge", name, err)
		}
	}
	req := request("echo", "t1", "i1", "x")
	req.Title = "\xff"
	e.refused(t, req, perdure.ErrInvalid)
}

func reserved(t *testing.T, e *env) {
	req := request("echo", "t1", "i1", "x")
	req.Tags = map[string]string{"perdure.host": "x"}
	if err := e.refused(t, req, perdure.ErrInvalid); err != nil && !strings.Contains(err.Error(), "perdure.host") {
		t.Errorf("got %v, want the tag named", err)
	}
}

func source(t *testing.T, e *env) {
	e.start(t, request("echo", "t1", "i1", "x"))
	info, err := e.client.Task(t.Context(), "t1")
	if err != nil || info.Source.Func != "echo" || info.Source.Program == "" || info.Source.Library == "" {
		t.Errorf("got %+v, %v, want the source with func, program and library", info, err)
	}
}
