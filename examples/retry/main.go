// Command retry makes a call that fails three times before it succeeds:
//
//	go run ./examples/retry
//
// The waits between the attempts are the policy's. They hold no goroutine, and with a store on disk they
// would survive a restart.
package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/examples/funcs"
	"github.com/perdure/perdure/store/memstore"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "retry:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, w io.Writer) error {
	eng, err := perdure.New(memstore.New(), &perdure.Options{Funcs: funcs.All(nil)})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	stopped := make(chan error, 1)
	go func() { stopped <- eng.Run(ctx) }()

	for _, in := range []funcs.RetryInput{{Failures: 3}, {Failures: 9}, {Failures: 3, Permanent: true}} {
		result, err := funcs.Retry.Run(ctx, eng.Client(), in, nil)
		if err != nil {
			fmt.Fprintf(w, "%+v: %s: %v\n", in, result.Status, err)
			continue
		}
		fmt.Fprintf(w, "%+v: %s after %d attempts\n", in, result.Status, result.Output.Attempts)
	}
	stop()
	return <-stopped
}
