// Command perdure serves durable functions and looks after their tasks. "perdure help" says how.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	a := &app{in: os.Stdin, out: os.Stdout, errOut: os.Stderr, environ: os.Environ()}
	os.Exit(a.run(context.Background(), os.Args[1:]))
}

// interruptible returns a context that ends with the first interrupt; the second kills the process.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}
