package pgstore

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/store"
)

// What is due at once and what is due by time are found by statements of their own.
func TestAClaimDoesNotWaitForWhatOthersWrite(t *testing.T) {
	s, _ := pair(t)
	register(t, s, "w")
	for _, id := range []string{"late-1", "late-2"} {
		req := offerReq(id)
		req.Lease, req.Worker, req.Request = true, "w", 1
		e := mustOffer(t, s, req).Entry
		_, err := s.Settle(t.Context(), &store.SettleRequest{Lease: e.Lease, Kind: store.SettleRetry, Delay: time.Microsecond})
		if err != nil {
			t.Fatal(err)
		}
	}
	mustOffer(t, s, offerReq("now-1"))
	mustOffer(t, s, offerReq("now-2"))
	var got []string
	claim := func(request int64) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		c, err := s.Claim(ctx, &store.ClaimRequest{Worker: "w", Limit: 10, Request: request, Funcs: []store.ClaimFunc{{Name: "f", Limit: 10}}})
		if err != nil {
			t.Fatalf("claim %d: %v", request, err)
		}
		for _, e := range c.Entries {
			got = append(got, e.Task.ID)
		}
	}
	unlock := lockedTask(t, s, `SELECT FROM perdure.tasks WHERE id IN ('late-1', 'now-1') FOR UPDATE`)
	claim(2)
	same(t, "claimed beside what is being written", strings.Join(got, " "), "late-2 now-2")
	unlock()
	got = nil
	claim(3)
	same(t, "claimed after that", strings.Join(got, " "), "late-1 now-1")
}
