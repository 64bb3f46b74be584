// Command filestream keeps the stream of a func in files of its own instead of the store:
//
//	go run ./examples/filestream out "boats"
//	cat out/article.jsonl
//
// The task is kept in memory, and gone with the process; its stream is not.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/store/memstore"
)

func main() {
	if err := run(context.Background(), os.Stdout, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "filestream:", err)
		os.Exit(1)
	}
}

// declare returns a func that counts to its input, with its streams in a folder.
func declare(folder string) *perdure.Func[int, string] {
	return perdure.NewFunc[int, string]("count", &perdure.FuncOptions[int]{
		Stream: func(_ context.Context, taskID string) (perdure.StreamHandler, error) { return openFile(folder, taskID) },
	})
}

func count(ctx context.Context, turn *perdure.Turn[int, string]) (string, error) {
	for n := range turn.Input() {
		if err := turn.Emit(ctx, n+1); err != nil {
			return "", err
		}
	}
	return "counted", nil
}

func run(ctx context.Context, w io.Writer, args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("usage: filestream FOLDER TASK")
	}
	f := declare(args[0])
	eng, err := perdure.New(memstore.New(), &perdure.Options{Funcs: []perdure.Binding{f.Bind(count)}})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	stopped := make(chan error, 1)
	go func() { stopped <- eng.Run(ctx) }()
	err = follow(ctx, w, f, eng.Client(), args[1])
	stop()
	return errors.Join(err, <-stopped)
}

func follow(ctx context.Context, w io.Writer, f *perdure.Func[int, string], c perdure.Client, task string) error {
	h, err := f.Start(ctx, c, 3, &perdure.StartOptions{TaskID: task})
	if err != nil {
		return err
	}
	for e, err := range h.Events(ctx, 0) {
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%d %s %s%s\n", e.Number, e.Kind, e.Data, e.Status)
	}
	return nil
}
