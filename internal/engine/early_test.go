package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/memstore"
)

type noClaims struct{ store.Store }

func (s noClaims) Claim(context.Context, *store.ClaimRequest) (*store.Claimed, error) {
	return nil, errors.New("relation is locked")
}

// What is heard for leases on their way is bounded: a claim that the store does not take keeps none of it for ever.
func TestWhatIsHeardEarlyIsBounded(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		e := New(Config{Store: noClaims{memstore.New()}, Logger: slog.New(slog.DiscardHandler), MaxRunning: 10, Lease: 15 * time.Second, Drain: time.Second, MaxOutput: 1 << 20})
		ctx, end := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- e.Run(ctx) }()
		synctest.Wait()
		const n = 3000
		for i := range n {
			_, _, err := e.Offer(ctx, &store.OfferRequest{TaskID: fmt.Sprint("t", i), Func: "elsewhere", InputID: "i", Input: []byte("1"), Settings: &store.Settings{}})
			if err != nil {
				t.Fatal(err)
			}
		}
		<-time.After(time.Minute)
		e.mu.Lock()
		kept := len(e.early)
		e.mu.Unlock()
		if kept > maxEarly {
			t.Errorf("1c: %d tasks of another engine's func were started, and %d pieces of news about them are kept", n, kept)
		}
		end()
		<-done
	})
}
