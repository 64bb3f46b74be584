package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/perdure/perdure/store"
)

// contextTasks is how many operations of a kind RunContexts has under way at once.
const contextTasks = 300

// RunContexts makes many operations at once whose contexts end at random, and holds the store to its word: one that
// has returned the context's error has left nothing behind, each other one is applied.
func RunContexts(t *testing.T, open func(t *testing.T) store.Store) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			r := &races{T: t, store: open(t), rand: rand.New(rand.NewPCG(seed, seed)), epochs: make([]store.Lease, contextTasks)}
			_, err := r.store.Heartbeat(context.Background(), &store.HeartbeatRequest{Worker: "w", First: true, Lease: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			for _, step := range []func(){r.offer, r.checkpoint, r.queue, r.settle, r.claim, r.terminate, r.delete} {
				if step(); t.Failed() {
					return
				}
			}
		})
	}
}

// races is one run.
type races struct {
	*testing.T
	store  store.Store
	rand   *rand.Rand
	epochs []store.Lease // by task; the zero value of one that is not leased
}

func taskName(i int) string { return fmt.Sprint("t", i) }

// each calls f for every task at once, under a context that ends at random, and returns which of them went through.
func (r *races) each(what string, f func(ctx context.Context, i int) error) []bool {
	r.Helper()
	through := make([]bool, contextTasks)
	var all sync.WaitGroup
	for i := range through {
		ctx, cancel := context.WithCancel(context.Background())
		switch {
		case i%16 == 1:
			cancel()
		case i%4 > 0:
			time.AfterFunc(time.Duration(r.rand.IntN(4000))*time.Microsecond, cancel)
		}
		all.Go(func() {
			defer cancel()
			err := f(ctx, i)
			if through[i] = err == nil; err != nil && !errors.Is(err, context.Canceled) {
				r.Errorf("%s %d: %v", what, i, err)
			}
		})
	}
	all.Wait()
	n := 0
	for _, ok := range through {
		if ok {
			n++
		}
	}
	r.Logf("%s: %d of %d went through", what, n, contextTasks)
	return through
}

// check reports an operation whose trace is not what its answer said.
func (r *races) check(what string, i int, found, want bool) {
	r.Helper()
	if found != want {
		r.Errorf("%s %d: applied is %v, and its answer said %v", what, i, found, want)
	}
}

func (r *races) offerOne(ctx context.Context, i int, input string) (*store.Offered, error) {
	return r.store.Offer(ctx, &store.OfferRequest{
		TaskID: taskName(i), Func: "f", InputID: input, Input: []byte("1"), Digests: []store.Digest{{Sum: "d"}},
		Settings: &store.Settings{MultiTurn: true, Steerable: true, MaxPending: 2, MaxRecoveries: 9},
		Worker:   "w", Lease: true, Request: int64(i + 1),
	})
}

func (r *races) task(i int) *store.Task {
	r.Helper()
	t, err := r.store.Get(context.Background(), taskName(i))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		r.Fatal(err)
	}
	return t
}

// offer creates tasks, and then those that were left out.
func (r *races) offer() {
	through := r.each("offer", func(ctx context.Context, i int) error {
		o, err := r.offerOne(ctx, i, "a")
		if err == nil {
			r.epochs[i] = o.Entry.Lease
		}
		return err
	})
	for i, ok := range through {
		r.check("offer", i, r.task(i) != nil, ok)
		if ok {
			continue
		}
		o, err := r.offerOne(context.Background(), i, "a")
		if err != nil {
			r.Fatal(err)
		}
		r.epochs[i] = o.Entry.Lease
	}
}

func (r *races) checkpoint() {
	through := r.each("checkpoint", func(ctx context.Context, i int) error {
		_, err := r.store.Checkpoint(ctx, &store.CheckpointRequest{Lease: r.epochs[i], Number: 1, Events: [][]byte{[]byte("x")}})
		return err
	})
	for i, ok := range through {
		r.check("checkpoint", i, r.task(i).LastEvent == 1, ok)
	}
}

func (r *races) queue() {
	through := r.each("steer", func(ctx context.Context, i int) error {
		_, err := r.offerOne(ctx, i, "b")
		return err
	})
	for i, ok := range through {
		r.check("steer", i, r.task(i).Queued == 1, ok)
	}
}

// settle ends turns; what went through is suspended or waits with the next input.
func (r *races) settle() {
	through := r.each("settle", func(ctx context.Context, i int) error {
		_, err := r.store.Settle(ctx, &store.SettleRequest{
			Lease: r.epochs[i], Kind: store.SettleEnd, Outcome: store.Completed, Then: store.Suspended,
		})
		return err
	})
	for i, ok := range through {
		r.check("settle", i, r.task(i).Worker == "", ok)
	}
}

// claim claims what waits; what no answer has given is leased to nobody.
func (r *races) claim() {
	var mu sync.Mutex
	given := map[string]bool{}
	r.each("claim", func(ctx context.Context, i int) error {
		c, err := r.store.Claim(ctx, &store.ClaimRequest{
			Worker: "w", Request: int64(1000 + i), Limit: 1, Funcs: []store.ClaimFunc{{Name: "f", Limit: 1}},
		})
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		for _, e := range c.Entries {
			given[e.Task.ID] = true
		}
		return nil
	})
	for i := range contextTasks {
		t := r.task(i)
		r.check("claim", i, t.Worker == "w" && t.Request >= 1000, given[t.ID])
	}
}

func (r *races) terminate() {
	through := r.each("terminate", func(ctx context.Context, i int) error {
		_, err := r.store.Signal(ctx, &store.SignalRequest{TaskID: taskName(i), Kind: store.Terminate, RequestID: "r"})
		return err
	})
	for i, ok := range through {
		r.check("terminate", i, r.task(i).Status == store.Terminated, ok)
	}
}

func (r *races) delete() {
	through := r.each("delete", func(ctx context.Context, i int) error {
		_, err := r.store.Delete(ctx, &store.DeleteRequest{TaskID: taskName(i), RequestID: "d"})
		return err
	})
	for i, ok := range through {
		r.check("delete", i, r.task(i) == nil, ok)
	}
}
