// Command multiturn is an agent with a session, on a file:
//
//	go run ./examples/multiturn notes.db "buy milk"
//	go run ./examples/multiturn notes.db "water the plants"
//	go run ./examples/multiturn notes.db
//
// Each run is a turn of the same task, in a process of its own. The last one, without a note, finishes it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/examples/funcs"
	"github.com/perdure/perdure/store/sqlitestore"
)

func main() {
	if err := run(context.Background(), os.Stdout, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "multiturn:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, w io.Writer, args []string) error {
	in := funcs.MultiturnInput{Finish: true}
	switch len(args) {
	case 1:
	case 2:
		in = funcs.MultiturnInput{Note: args[1]}
	default:
		return fmt.Errorf("usage: multiturn FILE.db [NOTE]")
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

	result, err := funcs.Multiturn.Run(ctx, eng.Client(), in, &perdure.StartOptions{TaskID: "notes", Session: "kitchen"})
	if err == nil {
		err = json.NewEncoder(w).Encode(result.Output)
	}
	stop(nil)
	return errors.Join(err, <-stopped)
}
