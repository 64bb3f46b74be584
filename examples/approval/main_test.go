package main

import (
	"bytes"
	"path/filepath"
	"testing"
)

func TestADecisionComesToAnotherRun(t *testing.T) {
	db := filepath.Join(t.TempDir(), "orders.db")
	for _, c := range []struct {
		verb, arg, want string
	}{
		{"request", "buy a boat", `task order-7 is suspended: {"state":"awaiting approval","request":"buy a boat"}` + "\n"},
		{"approve", "Ada", `task order-7 is completed: {"approved":true,"by":"Ada","request":"buy a boat"}` + "\n"},
	} {
		var out bytes.Buffer
		if err := run(t.Context(), &out, []string{db, "order-7", c.verb, c.arg}); err != nil {
			t.Fatalf("%s: %v", c.verb, err)
		}
		if out.String() != c.want {
			t.Errorf("%s: got %q, want %q", c.verb, &out, c.want)
		}
	}
}
