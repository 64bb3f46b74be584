package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestTheFirstReplyIsCutShortAndTheSecondIsNot(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"turn 1, partial: true\nYou said: Plan a trip to Rome.", "turn 2, partial: false\nYou said: Actually, Paris."} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, &out)
		}
	}
}
