package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// asProgram makes this test's binary behave like the program, so that it can really be killed.
const asProgram = "COUNTDOWN_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestTheSecondRunGoesOnWhereTheFirstDied(t *testing.T) {
	db := filepath.Join(t.TempDir(), "count.db")
	first := exec.CommandContext(t.Context(), os.Args[0], db)
	first.Env = append(os.Environ(), asProgram+"=1")
	out, err := first.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 137 {
		t.Fatalf("first run: got %v, want exit code 137\n%s", err, out)
	}
	for _, run := range []string{"second", "third"} {
		again := exec.CommandContext(t.Context(), os.Args[0], db)
		again.Env = first.Env
		out, err = again.CombinedOutput()
		want := `{"steps":10,"entries":["fresh","recovered"],"attempts":[1,1]}`
		if err != nil || !bytes.Contains(out, []byte(want)) {
			t.Fatalf("%s run: got %v, want the whole story\n%s", run, err, out)
		}
	}
}

func TestWithoutAFileItSaysHowToUseIt(t *testing.T) {
	if err := run(t.Context(), &bytes.Buffer{}, nil); err == nil {
		t.Error("got no error, want the usage")
	}
}
