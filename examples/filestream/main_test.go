package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/perdure/perdure"
)

func TestTheStreamIsInTheFile(t *testing.T) {
	dir := t.TempDir()
	var out bytes.Buffer
	if err := run(t.Context(), &out, []string{dir, "a:b"}); err != nil {
		t.Fatal(err)
	}
	if want := "1 message 1\n2 message 2\n3 message 3\n0 end completed\n"; out.String() != want {
		t.Errorf("got\n%swant\n%s", &out, want)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "a_b.jsonl")); err != nil || bytes.Count(b, []byte(`"data":`)) != 3 {
		t.Errorf("got %s, %v", b, err)
	}
}

func TestALineThatACrashHasCutIsNoMessage(t *testing.T) {
	dir := t.TempDir()
	put := func(data string) {
		f, err := openFile(dir, "t")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := f.Put(context.Background(), perdure.Event{Kind: perdure.EventMessage, Data: []byte(data)}); err != nil {
			t.Fatal(err)
		}
	}
	put("1")
	name := filepath.Join(dir, "t.jsonl")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, append(b, b[1:len(b)/2]...), 0o600); err != nil {
		t.Fatal(err)
	}
	put("2")
	f, err := openFile(dir, "t")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	events, err := f.Get(t.Context(), 0)
	if err != nil || len(events) != 2 || events[1].Number != 2 || string(events[1].Data) != "2" {
		t.Errorf("got %+v, %v, want two messages", events, err)
	}
}
