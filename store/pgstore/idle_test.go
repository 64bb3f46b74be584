package pgstore

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/internal/pgtest"
	"github.com/perdure/perdure/store/rules"
)

// A worker that has nothing to do makes no more than four round trips a second, however many funcs it has.
func TestAnIdleWorkerAsksLittle(t *testing.T) {
	const counted = 60 // seconds
	url := pgtest.URL(t)
	for _, funcs := range []int{1, 10, 50} {
		c := &trips{}
		bubble.Test(t, func(t *testing.T) {
			config, err := pgxpool.ParseConfig(url)
			if err != nil {
				t.Fatal(err)
			}
			config.ConnConfig.Tracer = c
			pool, err := pgxpool.NewWithConfig(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			defer pool.Close()
			s, err := New(t.Context(), pool, &Options{Schema: pgtest.Schema(t, url), PollOnly: true, UnsafeClock: new(rules.Clock).Now})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			defer idle(t, s, funcs)()
			<-time.After(10 * time.Second)
			before := c.n.Load()
			<-time.After(counted * time.Second)
			asked := c.n.Load() - before
			t.Logf("%d funcs: %.1f round trips a second", funcs, float64(asked)/counted)
			if asked > 4*counted {
				t.Errorf("%d funcs: %d round trips in %d s", funcs, asked, counted)
			}
		})
	}
}

// idle runs an engine of some funcs, and returns what ends it.
func idle(t *testing.T, s *Store, funcs int) (end func()) {
	t.Helper()
	opts := &perdure.Options{Logger: slog.New(slog.DiscardHandler)}
	for i := range funcs {
		f := perdure.NewFunc[int, int](fmt.Sprint("f", i), nil)
		opts.Funcs = append(opts.Funcs, f.Bind(func(context.Context, *perdure.Turn[int, int]) (int, error) { return 0, nil }))
	}
	eng, err := perdure.New(s, opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- eng.Run(ctx) }()
	return func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
