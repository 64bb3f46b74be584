package main

import (
	"bytes"
	"testing"
)

func TestItPrintsHowEachCallEnded(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"{Failures:3 Permanent:false}: completed after 4 attempts",
		"{Failures:9 Permanent:false}: failed: call 5: connection reset by peer",
		"{Failures:3 Permanent:true}: failed: call 1: connection reset by peer",
	} {
		if !bytes.Contains(out.Bytes(), []byte(want+"\n")) {
			t.Errorf("%q is missing in:\n%s", want, &out)
		}
	}
}
