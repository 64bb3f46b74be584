package perduretest_test

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/perduretest"
)

// inner is set in the child process in which the tests run that fail on purpose.
const inner = "PERDURETEST_INNER"

func TestAFatalInsideRunFailsThatTestAndNoOther(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run=^(TestInnerFatal|TestInnerNext)$", "-test.v")
	cmd.Env = append(os.Environ(), inner+"=1")
	out, err := cmd.CombinedOutput()
	text := string(out)
	if err == nil || !strings.Contains(text, "--- FAIL: TestInnerFatal") || !strings.Contains(text, "an assertion fails") {
		t.Errorf("got %v, want the test to fail:\n%s", err, text)
	}
	if !strings.Contains(text, "--- PASS: TestInnerNext") || strings.Contains(text, "panic") {
		t.Errorf("want the next test to run:\n%s", text)
	}
}

func TestInnerFatal(t *testing.T) {
	if os.Getenv(inner) == "" {
		return
	}
	f := perdure.NewFunc[int, int]("f", nil)
	perduretest.Run(t, nil, func(t *testing.T, h *perduretest.Harness) {
		if _, err := f.Start(t.Context(), h.Client(), 1, nil); err != nil {
			t.Fatal(err)
		}
		t.Fatal("an assertion fails")
	}, f.Bind(func(ctx context.Context, _ *perdure.Turn[int, int]) (int, error) {
		<-ctx.Done() // not before the drain time is over
		return 0, ctx.Err()
	}))
}

func TestInnerNext(*testing.T) {}
