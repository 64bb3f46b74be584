package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
)

// Roles of a process that a measurement starts.
const (
	roleOrphanage = "orphanage" // COUNT: runs tasks at a place until it is killed
	roleReaders   = "readers"   // COUNT: reads the stream at a URL many times at once
	roleCycles    = "cycles"    // CALLERS BEGIN DURATION: runs tasks at a place from a moment on, for some time
)

// targetVariable is the variable of the environment that tells a child its place or URL. There may be a password in
// it, and everybody can read the arguments of a process.
const targetVariable = "PERDURE_BENCH_TARGET"

// Child is what a process does that a measurement has started with the command Options.Self.
func Child(ctx context.Context, out io.Writer, args []string) error {
	if len(args) != 2 && (len(args) != 4 || args[0] != roleCycles) {
		return fmt.Errorf("want ROLE COUNT, got %q", args)
	}
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	target := os.Getenv(targetVariable)
	switch args[0] {
	case roleOrphanage:
		return orphanage(ctx, out, target, n)
	case roleReaders:
		return readers(ctx, out, target, n)
	case roleCycles:
		return cycling(ctx, out, target, n, args[2], args[3])
	}
	return fmt.Errorf("unknown role %q", args[0])
}

// child starts a process, and returns what it writes.
func (o Options) child(ctx context.Context, role, target string, args ...string) (*exec.Cmd, *bufio.Reader, error) {
	cmd := exec.CommandContext(ctx, o.Self[0], slices.Concat(o.Self[1:], []string{role}, args)...)
	cmd.Env = append(os.Environ(), targetVariable+"="+target)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	return cmd, bufio.NewReader(out), cmd.Start()
}
