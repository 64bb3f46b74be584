package memstore_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/memstore"
	"github.com/perdure/perdure/store/storetest"
)

func open(*testing.T) store.Store { return memstore.New() }

func TestModel(t *testing.T) { storetest.RunModel(t, open) }

func TestConformance(t *testing.T) { storetest.Run(t, open) }

func TestEnginesShareAStore(t *testing.T) {
	s := memstore.New()
	var all sync.WaitGroup
	var leased atomic.Int64
	for w := range 4 {
		_, err := s.Heartbeat(t.Context(), &store.HeartbeatRequest{Worker: fmt.Sprint("w", w), First: true, Lease: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			for i := range 50 {
				o, err := s.Offer(t.Context(), &store.OfferRequest{
					TaskID: fmt.Sprint("t", i), Func: "f", InputID: fmt.Sprint("i", w), Settings: &store.Settings{},
					Attach: true, Lease: true, Worker: fmt.Sprint("w", w),
				})
				if err != nil {
					t.Error(err)
				} else if o.Entry != nil {
					leased.Add(1)
				}
			}
		})
	}
	all.Wait()
	if got := leased.Load(); got != 50 {
		t.Errorf("%d leases of 50 tasks", got)
	}
}

func TestLinear(t *testing.T) { storetest.RunLinear(t, open) }

func TestContexts(t *testing.T) { storetest.RunContexts(t, open) }
