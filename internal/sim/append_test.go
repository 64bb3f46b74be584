package sim

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/store"
)

// Interleavings of appended inputs with the ends of turns are played many at a time.
const atATime = 500

func TestAppendsAgainstTheEndOfATurnLoseNothingOnMemory(t *testing.T) {
	appendAgainstEnd(t, OnMemory, max(*seeds*5, 10_000), 2)
}

func TestAppendsAgainstTheEndOfATurnLoseNothingOnSQLite(t *testing.T) {
	appendAgainstEnd(t, OnSQLite, max(*seeds/2, 1000), 1)
}

func TestAppendsAgainstTheEndOfATurnLoseNothingOnPostgres(t *testing.T) {
	appendAgainstEnd(t, OnPostgres(t), max(*seeds/2, 1000), 2)
}

func appendAgainstEnd(t *testing.T, at Place, interleavings, engines int) {
	total := map[string]int{}
	for n := 0; n < interleavings; n += atATime {
		seed := *first + uint64(n)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				r := newRace(t, at.Open(t, &Wall{}), seed, engines)
				r.play()
				for what, n := range r.decisions {
					total[what] += n
				}
			})
		})
		if t.Failed() {
			t.Fatalf("seed %d failed: go test ./internal/sim -run %s -seed %d", seed, t.Name(), seed)
		}
	}
	t.Logf("proof: %s: %d random interleavings of appends against the end of a turn, nothing lost; inputs %v", t.Name(), interleavings, total)
	if total["queued"] < interleavings/4 || total["resumed"] < interleavings/4 {
		t.Errorf("got %v: appends came on one side of the end only", total)
	}
}

// race is a set of tasks whose turns end while inputs are appended to them.
type race struct {
	t       *testing.T
	clients []perdure.Client
	end     func()

	mu        sync.Mutex
	rand      *rand.Rand
	decisions map[string]int
	entered   map[string]int // by input
}

// short is a random time of the order of what turns and store operations take here.
func (r *race) short() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Duration(r.rand.IntN(8)) * time.Microsecond
}

// slow is a store whose operations take their time, before and after they are done.
type slow struct {
	store.Store
	r *race
}

func (s slow) Offer(ctx context.Context, req *store.OfferRequest) (*store.Offered, error) {
	<-time.After(s.r.short())
	defer func() { <-time.After(s.r.short()) }()
	return s.Store.Offer(ctx, req)
}

func (s slow) Settle(ctx context.Context, req *store.SettleRequest) (*store.Settled, error) {
	<-time.After(s.r.short())
	defer func() { <-time.After(s.r.short()) }()
	return s.Store.Settle(ctx, req)
}

var appended = perdure.NewFunc[string, string]("appended", &perdure.FuncOptions[string]{MultiTurn: true, Steerable: true})

// newRace starts engines on a store.
func newRace(t *testing.T, st store.Store, seed uint64, engines int) *race {
	t.Helper()
	r := &race{t: t, rand: rand.New(rand.NewPCG(seed, 2)), decisions: map[string]int{}, entered: map[string]int{}}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	for range engines {
		eng, err := perdure.New(slow{st, r}, &perdure.Options{Funcs: []perdure.Binding{appended.Bind(r.handle)}, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		r.clients = append(r.clients, eng.Client())
		running.Go(func() {
			if err := eng.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	r.end = func() {
		stop()
		running.Wait()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	}
	<-time.After(time.Second)
	return r
}

func (r *race) handle(_ context.Context, turn *perdure.Turn[string, string]) (string, error) {
	r.mu.Lock()
	r.entered[turn.Input()]++
	r.mu.Unlock()
	<-time.After(r.short())
	return turn.Input(), nil
}

func (r *race) play() {
	var tasks sync.WaitGroup
	for n := range atATime {
		tasks.Go(func() { r.task(fmt.Sprint("t", n)) })
	}
	tasks.Wait()
	r.end()
}

// task appends inputs to one task, each by a caller of its own, and waits for what becomes of them.
func (r *race) task(id string) {
	var callers sync.WaitGroup
	for i := range 4 {
		callers.Go(func() {
			if i > 0 {
				<-time.After(4*r.short() + time.Microsecond)
			}
			r.caller(id, i)
		})
	}
	callers.Wait()
	info, err := r.clients[0].Task(r.t.Context(), id)
	if err != nil || info.Status != perdure.Suspended || info.Pending != 0 {
		r.t.Errorf("T1: %s: got %+v, %v, want it suspended with nothing queued", id, info, err)
	}
}

func (r *race) caller(id string, i int) {
	input := fmt.Sprint(id, "-", i)
	h, err := appended.Start(r.t.Context(), r.clients[i%len(r.clients)], input, &perdure.StartOptions{TaskID: id, InputID: input})
	if err != nil {
		r.t.Errorf("%s: %v", input, err)
		return
	}
	r.note(h)
	result, err := h.Result(r.t.Context())
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil || result.Output != input || r.entered[input] != 1 {
		r.t.Errorf("G4: %s: got %+v, %v, entered %d times; want its own output of one entry", input, result, err, r.entered[input])
	}
}

func (r *race) note(h *perdure.Handle[string]) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case h.Queued():
		r.decisions["queued"]++
	case h.Turn() == 1:
		r.decisions["created"]++
	default:
		r.decisions["resumed"]++
	}
}
