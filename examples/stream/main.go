// Command stream writes an article word by word, and follows it from the same process or another:
//
//	go run ./examples/stream article.db boats
//
// Kill it on the way, and run it again: the text goes on from the last checkpoint. What had been written after
// that is taken back, which the follower shows by beginning a new line.
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
		fmt.Fprintln(os.Stderr, "stream:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, w io.Writer, args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("usage: stream FILE.db TOPIC")
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

	// The same IDs in every run: a later one follows what an earlier one began.
	in := funcs.StreamInput{Topic: args[1], Words: 200, DelayMS: 10}
	h, err := funcs.Stream.Start(ctx, eng.Client(), in, &perdure.StartOptions{TaskID: "article", InputID: "once"})
	if err == nil {
		err = follow(ctx, w, h)
	}
	stop(nil)
	return errors.Join(err, <-stopped)
}

// follow prints the words as they come, from the first one on.
func follow(ctx context.Context, w io.Writer, h *perdure.Handle[funcs.StreamOutput]) error {
	for e, err := range h.Events(ctx, 0) {
		switch {
		case err != nil:
			return err
		case e.Kind == perdure.EventRewind:
			fmt.Fprintf(w, "\n(back to word %d)\n", e.To)
		case e.Kind == perdure.EventMessage:
			var word funcs.TextEvent
			if err := json.Unmarshal(e.Data, &word); err != nil {
				return err
			}
			fmt.Fprint(w, word.Text)
		case e.Kind == perdure.EventEnd:
			fmt.Fprintf(w, "\n(%s)\n", e.Status)
		}
	}
	return nil
}
