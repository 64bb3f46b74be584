package pgstore

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/pgtest"
	"github.com/perdure/perdure/store"
)

// The hot path, for 64 callers: a task that begins at once, and ends.
func BenchmarkOfferAndSettle(b *testing.B) {
	url := pgtest.URL(b)
	s, err := Open(b.Context(), url, &Options{Schema: pgtest.Schema(b, url)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	if _, err := s.Heartbeat(b.Context(), &store.HeartbeatRequest{Worker: "w", Lease: time.Hour, First: true}); err != nil {
		b.Fatal(err)
	}
	var n atomic.Int64
	b.SetParallelism(32) // of two processors
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			req := offerReq(fmt.Sprint("t", n.Add(1)))
			req.Lease, req.Worker, req.Request = true, "w", n.Load()
			o, err := s.Offer(b.Context(), req)
			if err == nil {
				_, err = s.Settle(b.Context(), &store.SettleRequest{
					Lease: o.Entry.Lease, Kind: store.SettleEnd, Outcome: store.Completed, Then: store.Completed, Output: []byte("1"),
				})
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

// Tasks that wait, and are then claimed, 100 at a time.
func BenchmarkOfferAndClaim(b *testing.B) {
	url := pgtest.URL(b)
	s, err := Open(b.Context(), url, &Options{Schema: pgtest.Schema(b, url)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	var n atomic.Int64
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := s.Offer(b.Context(), offerReq(fmt.Sprint("t", n.Add(1)))); err != nil {
				b.Fatal(err)
			}
		}
	})
	if _, err := s.Heartbeat(b.Context(), &store.HeartbeatRequest{Worker: "w", Lease: time.Hour, First: true}); err != nil {
		b.Fatal(err)
	}
	for left := b.N; left > 0; {
		c, err := s.Claim(b.Context(), &store.ClaimRequest{
			Worker: "w", Request: int64(left), Limit: 100, Funcs: []store.ClaimFunc{{Name: "f", Limit: 100}},
		})
		if err != nil || len(c.Entries) == 0 {
			b.Fatal(len(c.Entries), err)
		}
		left -= len(c.Entries)
	}
}
