// Command perdure serves durable functions and looks after their tasks. "perdure help" says how.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime"
	"syscall"
)

// heapFloor lets that much garbage gather before it is collected. While little is running the heap is
// small, and the collector would run tens of times a second under load. It is never touched: it takes
// address space and no memory.
const heapFloor = 64 << 20

func main() {
	floor := make([]byte, heapFloor)
	a := newApp(os.Stdin, os.Stdout, os.Stderr, os.Environ())
	code := a.run(context.Background(), os.Args[1:])
	runtime.KeepAlive(floor)
	os.Exit(code)
}

// interruptible returns a context that ends with the first interrupt; the second kills the process.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}
