package main

import (
	"bytes"
	"testing"
)

func TestItPrintsLabelsAndSource(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"tier": "gold"`, `"example": "provenance"`, `"session": "demo"`, `"func": "provenance"`} {
		if !bytes.Contains(out.Bytes(), []byte(want)) {
			t.Errorf("%s is missing in:\n%s", want, &out)
		}
	}
}
