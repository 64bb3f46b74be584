// Command order handles an order in three steps of a second. Kill it on the way (kill -9) and run it
// again: it goes on at the step that it was at.
//
//	go run ./examples/order
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/store/sqlitestore"
)

type Order struct {
	Item string `json:"item"`
}

type Receipt struct {
	Steps []string `json:"steps"`
}

var steps = []string{"reserved", "packed", "sent"}

// Ship is the declaration. Programs that only start orders need no more than this.
var Ship = perdure.NewFunc[Order, Receipt]("ship", nil)

// ship is the handler. After a crash it is entered again with what its last checkpoint kept.
func ship(ctx context.Context, turn *perdure.Turn[Order, Receipt]) (Receipt, error) {
	var r Receipt
	if _, err := turn.Metadata().Get("receipt", &r); err != nil {
		return r, err
	}
	for len(r.Steps) < len(steps) {
		select {
		case <-time.After(time.Second): // stands for work
		case <-turn.Interrupt().Done():
			return r, context.Cause(turn.Interrupt())
		}
		r.Steps = append(r.Steps, steps[len(r.Steps)])
		fmt.Printf("%s: %s %v\n", turn.Entry(), turn.Input().Item, r.Steps)
		if err := turn.Metadata().Set("receipt", r); err != nil {
			return r, err
		}
		if err := turn.Checkpoint(ctx); err != nil {
			return r, err
		}
	}
	return r, nil
}

func run(ctx context.Context, file string) error {
	st, err := sqlitestore.Open(ctx, file, nil)
	if err != nil {
		return err
	}
	defer st.Close()
	eng, err := perdure.New(st, &perdure.Options{Funcs: []perdure.Binding{Ship.Bind(ship)}})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	stopped := make(chan error, 1)
	go func() { err := eng.Run(ctx); stop(err); stopped <- err }()

	// The same IDs in every run: a later one finds the order that an earlier one accepted.
	ids := &perdure.StartOptions{TaskID: "order-7", InputID: "1"}
	res, err := Ship.Run(ctx, eng.Client(), Order{Item: "boat"}, ids)
	if err == nil {
		fmt.Println(res.Status, res.Output.Steps)
	}
	stop(nil)
	return errors.Join(err, <-stopped)
}

func main() {
	if err := run(context.Background(), "orders.db"); err != nil {
		log.Fatal(err)
	}
}
