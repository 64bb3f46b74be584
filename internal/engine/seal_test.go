package engine

import (
	"testing"

	"github.com/perdure/perdure/store"
)

func TestDigestsThatRecogniseNothingAreRefused(t *testing.T) {
	for _, all := range [][]store.Digest{nil, {{}}, {{Key: "k"}}, {{Sum: "s\x00"}}, {{Sum: "s"}, {Sum: "s", Key: "\xff"}}} {
		if checkDigests(all) == nil {
			t.Errorf("S6: %q: accepted", all)
		}
	}
	if err := checkDigests([]store.Digest{{Sum: "s"}, {Key: "k", Sum: "s"}}); err != nil {
		t.Errorf("S6: got %v", err)
	}
}
