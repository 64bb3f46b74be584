package main

import (
	"bytes"
	"path/filepath"
	"testing"
)

func TestEachRunIsATurnOfTheSameTask(t *testing.T) {
	db := filepath.Join(t.TempDir(), "notes.db")
	for _, step := range []struct {
		args []string
		want string
	}{
		{[]string{db, "buy milk"}, `{"session":"kitchen","turn":1,"entry":"fresh","notes":["buy milk"]}`},
		{[]string{db, "water the plants"}, `{"session":"kitchen","turn":2,"entry":"resumed","notes":["buy milk","water the plants"]}`},
		{[]string{db}, `{"session":"kitchen","turn":3,"entry":"resumed","notes":["buy milk","water the plants"]}`},
	} {
		var out bytes.Buffer
		if err := run(t.Context(), &out, step.args); err != nil {
			t.Fatal(err)
		}
		if got := out.String(); got != step.want+"\n" {
			t.Errorf("got %swant %s", got, step.want)
		}
	}
	if err := run(t.Context(), &bytes.Buffer{}, []string{db, "too late"}); err == nil {
		t.Error("a note for a finished task: got no error")
	}
}
