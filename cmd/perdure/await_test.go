package main

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/memstore"
)

// silent is a database server that takes connections and never answers.
func silent(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	<-ctx.Done()
	return ctx.Err()
}

func TestADatabaseIsWaitedForAsLongAsToldAndThatIsToldSoon(t *testing.T) {
	absent := func(context.Context) error { return io.EOF }
	refused := errors.New("wrong password")
	for what, c := range map[string]struct {
		wait       time.Duration
		reach      func(context.Context) error
		took, told time.Duration // told: -1: never
	}{
		"silence":             {2 * time.Second, silent, 2 * time.Second, time.Second},
		"silence, briefly":    {300 * time.Millisecond, silent, 300 * time.Millisecond, 300 * time.Millisecond},
		"silence, for long":   {time.Minute, silent, time.Minute, time.Second},
		"nobody there":        {2 * time.Second, absent, 2 * time.Second, 0},
		"nobody, for long":    {time.Minute, absent, time.Minute, 0},
		"a refusal":           {time.Minute, func(context.Context) error { return refused }, 0, -1},
		"a refusal, not soon": {time.Minute, func(context.Context) error { <-time.After(3 * time.Second); return refused }, 3 * time.Second, time.Second},
	} {
		t.Run(what, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				begun, told := time.Now(), time.Duration(-1)
				o := &opening{wait: c.wait, reach: c.reach, open: func(context.Context) (store.Store, error) {
					t.Error("it was opened")
					return nil, nil
				}, tell: func(error) {
					if told < 0 {
						told = time.Since(begun)
					}
				}}
				_, err := o.done(t.Context())
				if err == nil || time.Since(begun) != c.took || told != c.told {
					t.Errorf("got %v after %v, told after %v, want an error after %v, told after %v", err, time.Since(begun), told, c.took, c.told)
				}
			})
		})
	}
}

// What there is to migrate may take longer than the wait.
func TestTheWaitForADatabaseIsOverWhenItAnswers(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		begun, tries := time.Now(), 0
		o := &opening{wait: 10 * time.Second, tell: func(error) {}, reach: func(ctx context.Context) error {
			if time.Since(begun) < time.Second {
				return io.EOF
			}
			return nil
		}, open: func(ctx context.Context) (store.Store, error) {
			if tries++; tries == 1 {
				return nil, io.EOF // it went once more
			}
			select {
			case <-time.After(time.Hour):
				return memstore.New(), nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}}
		if st, err := o.done(t.Context()); err != nil || st == nil || tries != 2 {
			t.Errorf("got %v, %v after %d tries", st, err, tries)
		}
	})
}

func TestTheWaitForADatabaseEndsWithItsContext(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := time.Now()
		o := &opening{wait: time.Minute, reach: silent, tell: func(error) {}}
		if _, err := o.done(ctx); err == nil || time.Since(begun) != time.Second {
			t.Errorf("got %v after %v", err, time.Since(begun))
		}
	})
}
