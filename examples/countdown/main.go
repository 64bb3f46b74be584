// Command countdown counts to ten and is killed on the way. Run it twice:
//
//	go run ./examples/countdown count.db
//	go run ./examples/countdown count.db
//
// The first run dies at step 4. The second goes on there, and tells how it was entered.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/examples/funcs"
	"github.com/perdure/perdure/store/sqlitestore"
)

func main() {
	if err := run(context.Background(), os.Stdout, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "countdown:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, w io.Writer, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: countdown FILE.db")
	}
	st, err := sqlitestore.Open(ctx, args[0], nil)
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

	// The same task ID and input ID: the second run finds what the first began, and waits for it.
	in := funcs.CountdownInput{Steps: 10, DelayMS: 20, CrashAt: 4}
	ids := &perdure.StartOptions{TaskID: "countdown", InputID: "once"}
	result, err := funcs.Countdown.Run(ctx, eng.Client(), in, ids)
	if err != nil {
		return err
	}
	stop(nil)
	if err := <-stopped; err != nil {
		return err
	}
	return json.NewEncoder(w).Encode(result.Output)
}
