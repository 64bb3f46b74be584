// Command provenance starts a task and prints what the task, and any reader of it, know of where it came
// from:
//
//	go run ./examples/provenance
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/examples/funcs"
	"github.com/perdure/perdure/store/memstore"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "provenance:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, w io.Writer) error {
	eng, err := perdure.New(memstore.New(), &perdure.Options{Funcs: funcs.All(nil), Agent: "provenance-example"})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	stopped := make(chan error, 1)
	go func() { stopped <- eng.Run(ctx) }()

	result, err := funcs.Provenance.Run(ctx, eng.Client(), funcs.ProvenanceInput{}, &perdure.StartOptions{
		Session: "demo", Tags: map[string]string{"tier": "gold"}, // laid over the func's own tags
	})
	if err != nil {
		return err
	}
	info, err := perdure.Get(ctx, eng.Client(), result.TaskID)
	if err != nil {
		return err
	}
	stop()
	if err := <-stopped; err != nil {
		return err
	}
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	return out.Encode(map[string]any{"as the handler sees it": result.Output, "as a client sees it": info.Source})
}
