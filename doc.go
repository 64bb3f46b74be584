// Package perdure makes long-running work survive. The input of a durable function is stored before the
// function runs, a lease says which process may run it, and when that process dies another one enters the
// function again, with the same input and with what its last checkpoint kept.
//
// # Nouns
//
// A [Func] is a durable function: a stable name, an input type, an output type, options. [NewFunc] declares
// it; [Func.Bind] binds it to a [Handler] in the programs that run it. A task is one unit of work of a func,
// kept in a store under its task ID. A turn is the handling of one input: a task has one, or many if its func
// suspends or is declared MultiTurn. An attempt is one try at a turn as the retry policy counts them. A
// worker is one start of one [Engine]. A lease is its right to write to a task; each lease has a higher epoch
// than the one before. The entry mode says why a handler is entered: [Fresh], [Resumed] or [Recovered]. The
// interrupt is the request to wrap up: a newer input, a cancel, the deadline, a shutdown. Metadata is a task's
// small key/values, kept across attempts and turns. A stream is a task's numbered [Event] lines: what its
// handlers emit, and the ends of its turns.
//
// # A program
//
//	package main
//
//	import (
//		"context"
//		"errors"
//		"fmt"
//		"log"
//		"time"
//
//		"github.com/perdure/perdure"
//		"github.com/perdure/perdure/store/sqlitestore"
//	)
//
//	type Order struct {
//		Item string `json:"item"`
//	}
//
//	type Receipt struct {
//		Steps []string `json:"steps"`
//	}
//
//	var steps = []string{"reserved", "packed", "sent"}
//
//	// Ship is the declaration. Programs that only start orders need no more than this.
//	var Ship = perdure.NewFunc[Order, Receipt]("ship", nil)
//
//	// ship is the handler. After a crash it is entered again with what its last checkpoint kept.
//	func ship(ctx context.Context, turn *perdure.Turn[Order, Receipt]) (Receipt, error) {
//		var r Receipt
//		if _, err := turn.Metadata().Get("receipt", &r); err != nil {
//			return r, err
//		}
//		for len(r.Steps) < len(steps) {
//			select {
//			case <-time.After(time.Second): // stands for work
//			case <-turn.Interrupt().Done():
//				return r, context.Cause(turn.Interrupt())
//			}
//			r.Steps = append(r.Steps, steps[len(r.Steps)])
//			fmt.Printf("%s: %s %v\n", turn.Entry(), turn.Input().Item, r.Steps)
//			if err := turn.Metadata().Set("receipt", r); err != nil {
//				return r, err
//			}
//			if err := turn.Checkpoint(ctx); err != nil {
//				return r, err
//			}
//		}
//		return r, nil
//	}
//
//	func run(ctx context.Context, file string) error {
//		st, err := sqlitestore.Open(ctx, file, nil)
//		if err != nil {
//			return err
//		}
//		defer st.Close()
//		eng, err := perdure.New(st, &perdure.Options{Funcs: []perdure.Binding{Ship.Bind(ship)}})
//		if err != nil {
//			return err
//		}
//		ctx, stop := context.WithCancelCause(ctx)
//		stopped := make(chan error, 1)
//		go func() { err := eng.Run(ctx); stop(err); stopped <- err }()
//
//		// The same IDs in every run: a later one finds the order that an earlier one accepted.
//		ids := &perdure.StartOptions{TaskID: "order-7", InputID: "1"}
//		res, err := Ship.Run(ctx, eng.Client(), Order{Item: "boat"}, ids)
//		if err == nil {
//			fmt.Println(res.Status, res.Output.Steps)
//		}
//		stop(nil)
//		return errors.Join(err, <-stopped)
//	}
//
//	func main() {
//		if err := run(context.Background(), "orders.db"); err != nil {
//			log.Fatal(err)
//		}
//	}
//
// Kill it on the way, with kill -9, and run it again: it says "recovered", and goes on after the last step
// that was checkpointed.
//
// # Guarantees
//
//   - What [Func.Start] has accepted is durable, and has one turn, however often the input ID is sent.
//   - One handler at a time holds a task's lease. Only its writes are taken.
//   - After a crash the turn is entered again, with the same input, the same attempt number, and the metadata
//     of its last checkpoint. This does not use up a retry.
//   - The end of a turn and the beginning of the next queued one are one write. A caller is told of an outcome
//     only after it is stored, and may ask for it again later, from any process.
//   - A shutdown makes no outcome: what it interrupts goes on in the next process.
//   - A stream can be read from any number on, by anybody, at any time: each number once, in order, after it
//     is durable. Events of a try that did not come to its end are taken back by an [EventRewind].
//
// # Caveats
//
//   - Code is entered again, not replayed. What a handler did after its last checkpoint is done again:
//     effects outside the store happen at least once. Call [Scope.Checkpoint] before a side effect, and give
//     the other side an idempotency key or [Scope.Epoch], which rises with every entry.
//   - A process that was frozen, or a handler that ignores the end of its ctx, may still run code after
//     another worker has taken over. Its writes to the store are refused; its effects elsewhere are not.
//   - Go cannot stop a goroutine. A handler that ignores the end of ctx is reported after 10 s, and goes on.
//   - A panic of a handler, or of other code of yours that is called, is an error of its turn or call. One in a
//     goroutine that a handler has started itself ends the process: nobody else can recover it.
//
// See docs/guide.md for a chapter on each of these.
package perdure
