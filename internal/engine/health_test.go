package engine

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/store"
)

func TestAStepOfAClockIsToldOnce(t *testing.T) {
	for name, c := range map[string]struct {
		store time.Duration // how far its clock steps
		slow  time.Duration // how long the answer takes
		want  string
	}{
		"none":                       {},
		"a small one":                {store: 4 * time.Second},
		"the store's":                {store: -time.Minute, want: "the store's clock has stepped"},
		"the store's, forth":         {store: time.Minute, want: "the store's clock has stepped"},
		"with an answer that is old": {store: time.Minute, slow: 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				var said bytes.Buffer
				log := slog.New(slog.NewTextHandler(&said, nil))
				var clocks clocks
				step := time.Duration(0)
				for i := range 6 {
					if i == 3 {
						step = c.store
					}
					at := time.Now()
					<-time.After(c.slow)
					clocks.look(log, at, at.Add(step))
					<-time.After(5 * time.Second)
				}
				if got := strings.Count(said.String(), "level="); (c.want != "") != (got == 1) || !strings.Contains(said.String(), c.want) {
					t.Errorf("got %q, want %q once", said.String(), c.want)
				}
			})
		})
	}
}

func TestManyWaitersAreWokenSeldomForWhatMayConcernNone(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		h := newHub()
		const waiters = 10_000
		var all []chan struct{}
		for i := range waiters {
			all = append(all, h.join(int64(i)))
		}
		woken := 0
		for range 1000 { // ten seconds of others' commits
			h.wakeSome()
			<-time.After(10 * time.Millisecond)
			for _, c := range all {
				select {
				case <-c:
					woken++
				default:
				}
			}
		}
		if woken < waiters || woken > 7*waiters {
			t.Errorf("%d waiters were woken %d times in 10 s, want each every %v", waiters, woken, waiters*perWaiter)
		}
		<-time.After(waiters * perWaiter)
		synctest.Wait()
		h.wakeSome()
		for _, c := range all[:10] {
			select {
			case <-c:
			default:
				t.Error("a waiter was not woken")
			}
		}
	})
}

func TestTailsAreBoundedTogether(t *testing.T) {
	ts := tails{of: map[int64]*tail{}}
	page := func(n int64, size int) *store.EventPage {
		return &store.EventPage{Events: []store.Event{{Number: n, Kind: store.EventMessage, Data: make([]byte, size)}}, Last: n}
	}
	const streams, size = 1000, 32 << 10
	for i := range int64(streams) {
		ts.of[i] = &tail{changed: make(chan struct{})}
	}
	total := 0
	for _, tl := range ts.of {
		for n := range int64(10) {
			tl.add(page(n+1, size), ts.share())
		}
		for _, e := range tl.page.Events {
			total += len(e.Data)
		}
		if last := tl.last(); last != 10 {
			t.Fatalf("the last event known is %d, want 10", last)
		}
	}
	if total > tailsBytes || total < tailsBytes/2 {
		t.Errorf("%d streams keep %d bytes, want at most %d, and not much less", streams, total, tailsBytes)
	}
	alone := tails{of: map[int64]*tail{1: nil}}
	if alone.share() != tailBytes {
		t.Errorf("a single stream may keep %d bytes, want %d", alone.share(), tailBytes)
	}
}
