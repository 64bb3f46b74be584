// Command approval asks for something and waits for a decision, which may come days later and to another
// process:
//
//	go run ./examples/approval orders.db order-7 request "buy a boat"
//	go run ./examples/approval orders.db order-7 approve Ada
//
// In between the task is a row in the file, and no process runs.
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
		fmt.Fprintln(os.Stderr, "approval:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, w io.Writer, args []string) error {
	if len(args) != 4 || args[2] != "request" && args[2] != "approve" && args[2] != "reject" {
		return fmt.Errorf("usage: approval FILE.db ID request TEXT | approval FILE.db ID approve|reject NAME")
	}
	in := funcs.ApprovalInput{Request: args[3]}
	if args[2] != "request" {
		approved := args[2] == "approve"
		in = funcs.ApprovalInput{Approved: &approved, By: args[3]}
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

	result, err := funcs.Approval.Run(ctx, eng.Client(), in, &perdure.StartOptions{TaskID: args[1]})
	stop(nil)
	if stopErr := <-stopped; err == nil {
		err = stopErr
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "task %s is %s: ", result.TaskID, result.Status)
	return json.NewEncoder(w).Encode(result.Output)
}
