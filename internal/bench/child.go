package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
)

// Roles of a process that a measurement starts.
const (
	roleOrphanage = "orphanage" // PLACE COUNT: runs tasks until it is killed
	roleReaders   = "readers"   // URL COUNT: reads a stream many times at once
	roleCycles    = "cycles"    // PLACE CALLERS BEGIN DURATION: runs tasks from a moment on, for some time
)

// Child is what a process does that a measurement has started with the command Options.Self.
func Child(ctx context.Context, out io.Writer, args []string) error {
	if len(args) != 3 && (len(args) != 5 || args[0] != roleCycles) {
		return fmt.Errorf("want ROLE TARGET COUNT, got %q", args)
	}
	n, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	switch args[0] {
	case roleOrphanage:
		return orphanage(ctx, out, args[1], n)
	case roleReaders:
		return readers(ctx, out, args[1], n)
	case roleCycles:
		return cycling(ctx, out, args[1], n, args[3], args[4])
	}
	return fmt.Errorf("unknown role %q", args[0])
}

// child starts a process, and returns what it writes.
func (o Options) child(ctx context.Context, args ...string) (*exec.Cmd, *bufio.Reader, error) {
	cmd := exec.CommandContext(ctx, o.Self[0], append(o.Self[1:len(o.Self):len(o.Self)], args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	return cmd, bufio.NewReader(out), cmd.Start()
}
