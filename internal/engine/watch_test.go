package engine_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/memstore"
	"github.com/perdure/perdure/store/storetest"
)

// A read that the store did not answer is made again: nobody is told of a failure that is over in a moment.
func TestReadsAreMadeAgain(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		mem := memstore.New()
		failed := map[string]bool{}
		st := storetest.NewFaulty(mem, func(c storetest.Call) storetest.Fault {
			switch c.Op {
			case "Get", "Turn", "Turns", "List", "Workers", "Events":
				failed[c.Op] = true
				if c.N == 1 {
					return storetest.FailBefore
				}
			}
			return storetest.None
		})
		eng, err := perdure.New(st, &perdure.Options{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		_, err = mem.Offer(t.Context(), &store.OfferRequest{TaskID: "a", Func: "f", InputID: "i", Input: []byte("1"),
			Digests: []store.Digest{{Sum: "d"}}, Settings: &store.Settings{MaxPending: 1}})
		if err != nil {
			t.Fatal(err)
		}
		c := eng.Client()
		if _, err := c.Task(t.Context(), "a"); err != nil {
			t.Errorf("Task: %v", err)
		}
		if _, err := c.Turn(t.Context(), perdure.TurnQuery{TaskID: "a"}); err != nil {
			t.Errorf("Turn: %v", err)
		}
		for _, err := range c.Turns(t.Context(), "a", nil) {
			if err != nil {
				t.Errorf("Turns: %v", err)
			}
		}
		for _, err := range c.Tasks(t.Context(), nil) {
			if err != nil {
				t.Errorf("Tasks: %v", err)
			}
		}
		if _, err := eng.Workers(t.Context()); err != nil {
			t.Errorf("Workers: %v", err)
		}
		for _, err := range c.Events(t.Context(), "a", &perdure.EventOptions{NoWait: true}) {
			if err != nil {
				t.Errorf("Events: %v", err)
			}
		}
		if len(failed) < 6 {
			t.Errorf("only %v were read", failed)
		}
	})
}

// An engine that only watches is no worker, takes no lock and enters nothing, but starts and hears.
func TestAnEngineThatOnlyWatchesRunsNothing(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		mem := memstore.New()
		double := perdure.NewFunc[int, int]("double", nil)
		entered := 0
		bind := double.Bind(func(_ context.Context, turn *perdure.Turn[int, int]) (int, error) {
			entered++
			return 2 * turn.Input(), nil
		})
		run := func(watchOnly bool) *perdure.Engine {
			eng, err := perdure.New(mem, &perdure.Options{WatchOnly: watchOnly, Funcs: []perdure.Binding{bind}, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- eng.Run(ctx) }()
			t.Cleanup(func() {
				stop()
				if err := <-done; err != nil {
					t.Errorf("Run: %v", err)
				}
			})
			synctest.Wait()
			if err := eng.Ready(); err != nil {
				t.Errorf("Ready: %v", err)
			}
			return eng
		}
		watcher := run(true)
		h, err := double.Start(t.Context(), watcher.Client(), 21, nil)
		if err != nil {
			t.Fatal(err)
		}
		if workers, err := watcher.Workers(t.Context()); err != nil || len(workers) != 0 || entered != 0 {
			t.Errorf("got workers %v, %v, %d entries; want none", workers, err, entered)
		}
		run(false)
		if r, err := h.Result(t.Context()); err != nil || r.Output != 42 {
			t.Errorf("got %+v, %v", r, err)
		}
	})
}
