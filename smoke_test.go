package perdure_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/store/memstore"
)

type in struct{ N int }
type out struct{ N int }

func TestSmoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memstore.New()
		f := perdure.NewFunc[in, out]("double", &perdure.FuncOptions[in]{Retry: perdure.FixedRetry(3, time.Second)})
		fail := errors.New("first time")
		eng, err := perdure.New(st, &perdure.Options{Funcs: []perdure.Binding{f.Bind(func(ctx context.Context, turn *perdure.Turn[in, out]) (out, error) {
			if turn.Attempt() < 2 && turn.Input().N == 7 {
				return out{}, fail
			}
			if turn.Input().N == 9 {
				<-turn.Interrupt().Done()
				return out{}, context.Cause(turn.Interrupt())
			}
			turn.Metadata().Increment("n", 1)
			if err := turn.Checkpoint(ctx); err != nil {
				return out{}, err
			}
			return out{turn.Input().N * 2}, nil
		})}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- eng.Run(ctx) }()
		synctest.Wait()
		if err := eng.Ready(); err != nil {
			t.Fatal(err)
		}
		r, err := f.Run(ctx, eng.Client(), in{4}, nil)
		t.Log(r, err)
		r, err = f.Run(ctx, eng.Client(), in{7}, nil)
		t.Log(r, err)
		h, err := f.Start(ctx, eng.Client(), in{9}, nil)
		if err != nil {
			t.Fatal(err)
		}
		h.Cancel(ctx, "because")
		r, err = h.Result(ctx)
		t.Log(r, err)
		h, err = f.Start(ctx, eng.Client(), in{9}, nil)
		cancel()
		t.Log(<-done)
		i, err := h.Info(t.Context())
		t.Logf("%+v %v", i, err)
	})
}
