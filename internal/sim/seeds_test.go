package sim

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/storetest"
)

var (
	seeds = flag.Int("seeds", 2000, "number of seeds to simulate")
	first = flag.Uint64("seed", 1, "first seed")
)

func TestSimulationOnMemory(t *testing.T) { simulateSeeds(t, OnMemory, *seeds, 3) }

// On SQLite there is one engine at a time; each seed makes a file, so there are fewer.
func TestSimulationOnSQLite(t *testing.T) { simulateSeeds(t, OnSQLite, *seeds/20, 1) }

// On Postgres each seed makes a schema, and each call goes over the network.
func TestSimulationOnPostgres(t *testing.T) { simulateSeeds(t, OnPostgres(t), *seeds/40, 3) }

func simulateSeeds(t *testing.T, open func(*testing.T) store.Store, seeds, processes int) {
	total := tally{}
	for i := range seeds {
		seed := *first + uint64(i)
		if !t.Run(fmt.Sprint(seed), func(t *testing.T) { total.add(simulate(t, open, seed, processes)) }) {
			t.Fatalf("seed %d failed: go test ./internal/sim -run %s -seeds 10 -seed %d", seed, t.Name(), seed)
		}
	}
	t.Logf("proof: %s: %d seeds, %d inputs accepted, %d handler entries, %d deaths, %d broken calls, nothing lost; %d committed streams as without crashes; outcomes %v",
		t.Name(), seeds, total.inputs, total.entries, total.deaths, total.faults, total.streams, total.outcomes)
	if total.outcomes[perdure.Completed] < total.inputs/4 {
		t.Errorf("only %d of %d inputs completed: the simulation proves little", total.outcomes[perdure.Completed], total.inputs)
	}
}

type tally struct {
	inputs, entries, deaths, faults, streams int
	outcomes                                 map[perdure.Status]int
}

func (a *tally) add(b tally) {
	a.inputs += b.inputs
	a.entries += b.entries
	a.deaths += b.deaths
	a.faults += b.faults
	a.streams += b.streams
	if a.outcomes == nil {
		a.outcomes = map[perdure.Status]int{}
	}
	for s, n := range b.outcomes {
		a.outcomes[s] += n
	}
}

// chaos breaks calls at random, and cuts single processes off the store for longer than their lease.
type chaos struct {
	rand   *rand.Rand
	rate   float64
	cut    map[int]time.Time // by slot: until when it cannot reach the store
	faults int
	quiet  bool
}

func (c *chaos) decide(slot int, call storetest.Call) storetest.Fault {
	if c.quiet {
		return storetest.None
	}
	if time.Now().Before(c.cut[slot]) {
		c.faults++
		if c.rand.IntN(2) == 0 {
			return storetest.Hang // the answer never comes: a frozen process, a dead network
		}
		return storetest.FailBefore
	}
	if c.rand.Float64() >= c.rate {
		return storetest.None
	}
	c.faults++
	return []storetest.Fault{storetest.FailBefore, storetest.FailAfter, storetest.Delay, storetest.KillBefore, storetest.KillAfter}[c.rand.IntN(5)]
}

// simulate plays one seed: some callers on up to as many processes, whose store breaks.
func simulate(t *testing.T, open func(*testing.T) store.Store, seed uint64, processes int) (got tally) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 0))
		c := &chaos{rand: rand.New(rand.NewPCG(seed, 1)), rate: 0.02 + 0.1*r.Float64(), cut: map[int]time.Time{}}
		w := New(t, open(t), 1+r.IntN(processes), c.decide)
		for range 10 + r.IntN(20) {
			step(w, c, r)
			w.Advance(time.Duration(r.IntN(2000)) * time.Millisecond)
		}
		w.deciding.Lock()
		c.quiet = true
		w.deciding.Unlock()
		w.release()
		w.Wait()
		got = tally{inputs: len(w.journal.inputs), entries: w.journal.entries, deaths: w.deaths - len(w.running), faults: c.faults, streams: w.journal.streams,
			outcomes: map[perdure.Status]int{}}
		for _, o := range w.journal.answers {
			got.outcomes[o.Status]++
		}
	})
	return got
}

// step does something to the world.
func step(w *World, c *chaos, r *rand.Rand) {
	slot := r.IntN(len(w.running))
	task := fmt.Sprint("t", r.IntN(4))
	switch n := r.IntN(20); {
	case n < 12:
		begin(w, task, r)
	case n < 13:
		w.Crash(slot)
	case n < 14:
		w.Shutdown(slot)
	case n < 15:
		w.deciding.Lock()
		c.cut[slot] = time.Now().Add(time.Duration(r.IntN(10000)) * time.Millisecond)
		w.deciding.Unlock()
	case n < 16:
		tolerate(w, w.Cancel(task))
	case n < 17:
		tolerate(w, w.CancelInput(task, fmt.Sprint("i", r.IntN(40))))
	case n < 18:
		tolerate(w, w.Terminate(task))
	case n < 19:
		tolerate(w, w.Delete(task))
	}
}

// begin offers a random input; some input IDs come twice.
func begin(w *World, task string, r *rand.Rand) {
	fn := []string{Job, Talk, Ask}[int(task[1]-'0')%3]
	input := fmt.Sprint("i", r.IntN(40))
	number := int(input[len(input)-1] - '0') // the script depends on the ID alone: the same ID is the same input
	s := Script{
		Steps: number % 4, Pause: time.Duration(number%3) * time.Second, Fail: number % 3 / 2,
		Suspend: number == 4, Finish: number == 5, Deaf: number%2 == 0, Release: number % 5 / 4, Stay: number == 7,
	}
	deliver := []perdure.Deliver{"", perdure.Enqueue, perdure.Replace, perdure.Reject}[r.IntN(4)]
	tolerate(w, w.Start(fn, task, input, s, func(q *perdure.StartRequest) { q.Deliver = deliver }))
}

// tolerate lets the refusals pass that the rules foresee.
func tolerate(w *World, err error) {
	var conflict *perdure.ConflictError
	if err == nil || errors.As(err, &conflict) || errors.Is(err, perdure.ErrQueueFull) || errors.Is(err, perdure.ErrNotFound) {
		return
	}
	w.t.Errorf("call failed: %v", err)
}

// release cancels what waits for an interrupt, again and again, until every caller has been told.
func (w *World) release() {
	told := make(chan struct{})
	go func() { w.calls.Wait(); close(told) }()
	for {
		select {
		case <-told:
			return
		case <-time.After(20 * time.Second):
		}
		for i := range 4 {
			tolerate(w, w.Cancel(fmt.Sprint("t", i)))
		}
	}
}
