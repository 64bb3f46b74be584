// Command digest prints the key sentences of text files and folders of them:
//
//	go run ./examples/digest -db digest.db README.md docs
//
// Stop it half-way, with Ctrl-C or kill -9, and run it again: what has been read is not read again.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/examples/funcs"
	"github.com/perdure/perdure/store/sqlitestore"
)

func main() {
	ctx, _ := signal.NotifyContext(context.Background(), os.Interrupt)
	if err := run(ctx, os.Stdout, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "digest:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, w io.Writer, args []string) error {
	flags := flag.NewFlagSet("digest", flag.ContinueOnError)
	db := flags.String("db", "digest.db", "the `file` that keeps the work")
	id := flags.String("id", "digest", "the task's `ID`: give another for other paths")
	delay := flags.Int("delay", 0, "`milliseconds` to wait after each file")
	if err := flags.Parse(args); err != nil {
		return err
	}
	st, err := sqlitestore.Open(ctx, *db, nil)
	if err != nil {
		return err
	}
	defer st.Close()
	eng, err := perdure.New(st, &perdure.Options{Funcs: funcs.All(nil)})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	stopped := make(chan error, 1)
	go func() { err := eng.Run(ctx); stop(err); stopped <- err }()

	in := funcs.DigestInput{Paths: flags.Args(), DelayMS: *delay}
	result, err := funcs.Digest.Run(ctx, eng.Client(), in, &perdure.StartOptions{TaskID: *id, InputID: "once"})
	stop(nil)
	if stopErr := <-stopped; err == nil {
		err = stopErr
	}
	if err == nil {
		_, err = fmt.Fprintf(w, "%s\n%d files read now, %d before\n", result.Output.Report, result.Output.Read, result.Output.Skipped)
	}
	return err
}
