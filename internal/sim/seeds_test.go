package sim

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/store/storetest"
)

var (
	seeds = flag.Int("seeds", 1000, "number of seeds to simulate on memory; there are 20 times fewer on SQLite, 40 times on Postgres")
	first = flag.Uint64("seed", 1, "first seed")
)

func TestSimulationOnMemory(t *testing.T) { simulateSeeds(t, OnMemory, *seeds, 3) }

// On SQLite there is one engine at a time; each seed makes a file, so there are fewer.
func TestSimulationOnSQLite(t *testing.T) { simulateSeeds(t, OnSQLite, *seeds/20, 1) }

// On Postgres each seed makes a schema, and each call goes over the network.
func TestSimulationOnPostgres(t *testing.T) { simulateSeeds(t, OnPostgres(t), *seeds/40, 3) }

func simulateSeeds(t *testing.T, at Place, seeds, processes int) {
	total := tally{}
	for i := range seeds {
		seed := *first + uint64(i)
		if !t.Run(fmt.Sprint(seed), func(t *testing.T) { total.add(simulate(t, at, seed, processes)) }) {
			t.Fatalf("seed %d failed: go test ./internal/sim -run '%s$' -seeds 40 -seed %d", seed, t.Name(), seed)
		}
	}
	t.Logf("proof: %s: %d seeds, %d inputs accepted, %d handler entries, %d deaths, %d broken calls, nothing lost, doubled or hung, no outcome unexplained; %d committed streams as without crashes; outcomes %v",
		t.Name(), seeds, total.inputs, total.entries, total.deaths, total.faults, total.streams, total.outcomes)
	if total.outcomes[perdure.Completed] < total.inputs/5 {
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

// chaos breaks calls at random, and cuts single processes off the store, or only their heartbeats.
type chaos struct {
	w      *World
	rand   *rand.Rand
	rate   float64
	cut    map[int]time.Time // by slot: until when it cannot reach the store
	silent map[int]time.Time // by slot: until when it cannot renew its lease
	faults int
	quiet  bool
}

func (c *chaos) decide(slot int, call storetest.Call) storetest.Fault {
	now := time.Now()
	switch {
	case c.quiet:
		return storetest.None
	case now.Before(c.cut[slot]):
		c.broken()
		if c.rand.IntN(2) == 0 {
			return storetest.Hang // the answer never comes: a frozen process, a dead network
		}
		return storetest.FailBefore
	case now.Before(c.silent[slot]) && renews(call):
		c.broken()
		return storetest.FailBefore
	case c.rand.Float64() >= c.rate:
		return storetest.None
	}
	c.broken()
	faults := []storetest.Fault{storetest.FailBefore, storetest.FailAfter, storetest.Delay, storetest.Late, storetest.Late, storetest.Refuse,
		storetest.KillBefore, storetest.KillAfter}
	fault := faults[c.rand.IntN(len(faults))]
	if fault == storetest.Refuse && !refusable(call.Op) {
		return storetest.FailBefore
	}
	return fault
}

func (c *chaos) broken() {
	c.faults++
	c.w.journal.disturbed()
}

// simulate plays one seed: some callers on up to as many processes, whose store breaks.
func simulate(t *testing.T, at Place, seed uint64, processes int) (got tally) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 0))
		c := &chaos{rand: rand.New(rand.NewPCG(seed, 1)), rate: 0.02 + 0.1*r.Float64(), cut: map[int]time.Time{}, silent: map[int]time.Time{}}
		if r.IntN(8) == 0 {
			c.rate = 0 // then each entry has its reason
		}
		late := time.Duration(r.IntN(int(2 * lease)))
		w := newWorld(t, at, 1+r.IntN(processes), late, func(w *World) func(int, storetest.Call) storetest.Fault {
			c.w = w
			return c.decide
		})
		w.codec.panics.Store(int64(10 + r.IntN(100)))
		p := &player{w: w, chaos: c, rand: r, at: at}
		for range 10 + r.IntN(20) {
			p.step()
			w.Advance(time.Duration(r.IntN(2000)) * time.Millisecond)
		}
		w.deciding.Lock()
		c.quiet = true
		w.deciding.Unlock()
		w.Rename(true)
		w.codec.panics.Store(0)
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

// player makes things happen at random.
type player struct {
	w     *World
	chaos *chaos
	rand  *rand.Rand
	at    Place
}

// funcs are those of the tasks, in their order.
var funcs = []string{Job, Talk, Ask, Haste, Rush, Solo, Brief, Renamed, Haste, Rush}

// step does something to the world.
func (p *player) step() {
	w, r := p.w, p.rand
	slot := r.IntN(len(w.running))
	task := fmt.Sprint("t", r.IntN(len(funcs)))
	switch n := r.IntN(28); {
	case n < 15:
		p.begin(task)
	case n < 16:
		p.burst(task)
	case n < 17:
		w.Crash(slot)
	case n < 18:
		w.Shutdown(slot)
	case n < 20:
		p.cutOff(slot)
	case n < 21:
		tolerate(w, w.Cancel(task))
	case n < 22:
		tolerate(w, w.CancelInput(task, fmt.Sprint("i", r.IntN(60))))
	case n < 23:
		tolerate(w, w.Terminate(task))
	case n < 24:
		tolerate(w, w.Delete(task))
	case n < 25:
		w.Rename(r.IntN(2) == 0)
	default:
		p.setClock()
	}
}

// cutOff takes the store away from a process, or only its heartbeats: then it is fenced while the store goes on taking
// what else it writes.
func (p *player) cutOff(slot int) {
	p.w.deciding.Lock()
	defer p.w.deciding.Unlock()
	until := time.Now().Add(time.Duration(p.rand.IntN(10000)) * time.Millisecond)
	if p.rand.IntN(2) == 0 {
		p.chaos.cut[slot] = until
	} else {
		p.chaos.silent[slot] = until
	}
}

// setClock sets the wall clock of the machines back or forth. Where leases lapse by it, it goes forth by little.
func (p *player) setClock() {
	by := time.Duration(p.rand.IntN(int(2*time.Hour))) - time.Hour
	if !p.at.Steps { // what waits for a time waits as much longer as the clock is set back
		by = min(max(by, -patient/2), lease/30)
	}
	p.w.journal.disturbed()
	p.w.wall.Step(by)
}

// begin offers a random input; some input IDs come twice.
func (p *player) begin(task string) {
	fn := funcs[task[1]-'0']
	input := fmt.Sprint("i", p.rand.IntN(60))
	deliver := []perdure.Deliver{"", perdure.Enqueue, perdure.Replace, perdure.Reject}[p.rand.IntN(4)]
	err := p.w.Start(fn, task, input, scriptOf(input), func(q *perdure.StartRequest) { q.Deliver = deliver })
	if fn == Renamed && errors.Is(err, perdure.ErrUnknownFunc) {
		return // the first processes died before they could declare it, and the others do not know it
	}
	tolerate(p.w, err)
}

// burst offers some inputs at once.
func (p *player) burst(task string) {
	for range 3 {
		p.begin(task)
	}
}

// scriptOf depends on the ID of an input alone: the same ID is the same input.
func scriptOf(input string) Script {
	n, _ := strconv.Atoi(strings.TrimPrefix(input, "i"))
	digit := n % 10
	s := Script{
		Steps: n % 4, Pause: time.Duration(n%3) * time.Second, Fail: n % 3 / 2,
		Suspend: digit == 4, Finish: digit == 5, Deaf: n%2 == 0, Release: n % 5 / 4, Stay: digit == 7,
		Panic: []string{"", "handler", "nil", "text", "predicate", ""}[n/10], Killed: n%4 == 1,
	}
	switch n {
	case 11, 41:
		s.Stone, s.Deaf, s.Steps, s.Pause = lease+time.Second, true, 3, 2*time.Second // beyond every timeout
	case 21, 52:
		s.Big, s.Burst = 60_000, 5
	case 33, 54:
		s.Hasty = time.Millisecond
	case 35:
		s.Steps, s.Pause, s.Burst = 40, time.Millisecond, 20
	}
	return s
}

// tolerate lets the refusals pass that the rules foresee.
func tolerate(w *World, err error) {
	var conflict *perdure.ConflictError
	if err == nil || errors.As(err, &conflict) || errors.Is(err, perdure.ErrQueueFull) || errors.Is(err, perdure.ErrNotFound) ||
		errors.Is(err, perdure.ErrDeleted) || errors.Is(err, perdure.ErrInputMismatch) {
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
		for i := range funcs {
			tolerate(w, w.Cancel(fmt.Sprint("t", i)))
		}
	}
}
