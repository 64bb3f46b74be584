package main

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// asProgram makes this test's binary behave like the program, so that it can really be killed.
const asProgram = "ORDER_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestItGoesOnWhereItWasKilled(t *testing.T) {
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := func() *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), self)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), asProgram+"=1")
		return cmd
	}
	first := program()
	out, err := first.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Scan() // the first step, printed just before its checkpoint
	lines.Scan() // the second: the first is durable
	if got := lines.Text(); got != "fresh: boat [reserved packed]" {
		t.Errorf("before the kill: got %q", got)
	}
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait() // it was killed

	for _, run := range []string{"second", "third"} {
		out, err := program().CombinedOutput()
		if err != nil || !strings.HasSuffix(string(out), "completed [reserved packed sent]\n") || strings.Contains(string(out), "fresh") {
			t.Fatalf("%s run: got %v, want it to go on\n%s", run, err, out)
		}
	}
}
