// Command chat has a conversation and interrupts it:
//
//	go run ./examples/chat
//
// The second message comes while the first is being answered. That reply stops and is kept as far as it
// came; the second is answered in full.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/examples/funcs"
	"github.com/perdure/perdure/store/memstore"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "chat:", err)
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
	err = converse(ctx, w, eng.Client())
	stop()
	return errors.Join(err, <-stopped)
}

// converse says two things, the second a moment after the first, and prints the replies.
func converse(ctx context.Context, w io.Writer, c perdure.Client) error {
	var said []*perdure.Handle[funcs.ChatOutput]
	for _, message := range []string{"Plan a trip to Rome.", "Actually, Paris."} {
		h, err := funcs.Chat.Start(ctx, c, funcs.ChatInput{Message: message}, &perdure.StartOptions{TaskID: "trip"})
		if err != nil {
			return err
		}
		said = append(said, h)
		<-time.After(300 * time.Millisecond) // about ten words
	}
	for _, h := range said {
		r, err := h.Result(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "turn %d, partial: %v\n%s\n", r.Turn, r.Output.Partial, r.Output.Reply)
	}
	return nil
}
