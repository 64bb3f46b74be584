package sim

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/storetest"
)

// scenario is a piece of a task's life. It returns what its callers may be told, by input.
type scenario struct {
	name string
	run  func(w *World) map[string][]perdure.Status
}

func statuses(s ...perdure.Status) []perdure.Status { return s }

// must makes a scenario's call; losing it for good is an error.
func must(w *World, err error) {
	w.t.Helper()
	if err != nil {
		w.t.Errorf("call failed: %v", err)
	}
}

func enqueued(r *perdure.StartRequest) { r.Deliver = perdure.Enqueue }

var scenarios = []scenario{
	{"start", func(w *World) map[string][]perdure.Status {
		must(w, w.Start(Job, "a", "1", Script{Steps: 2, Pause: 100 * time.Millisecond}))
		return map[string][]perdure.Status{"1": statuses(perdure.Completed)}
	}},
	{"start in a hurry", func(w *World) map[string][]perdure.Status {
		must(w, w.Start(Job, "a", "1", Script{Steps: 2, Pause: 100 * time.Millisecond, Hasty: time.Millisecond}))
		return map[string][]perdure.Status{"1": statuses(perdure.Completed)}
	}},
	{"suspend and resume", func(w *World) map[string][]perdure.Status {
		must(w, w.Start(Job, "a", "1", Script{Steps: 1, Suspend: true}))
		w.until("a", perdure.Suspended)
		must(w, w.Start(Job, "a", "2", Script{Steps: 1}))
		return map[string][]perdure.Status{"1": statuses(perdure.Suspended), "2": statuses(perdure.Completed)}
	}},
	{"steer", func(w *World) map[string][]perdure.Status {
		must(w, w.Start(Talk, "a", "1", Script{Steps: 3, Pause: time.Second, Deaf: true}))
		must(w, w.Start(Talk, "a", "2", Script{Steps: 1}))
		must(w, w.Start(Talk, "a", "3", Script{Steps: 1, Finish: true}))
		maybe := statuses(perdure.Completed, perdure.Cancelled) // cancelled when it was still waiting as the next came
		return map[string][]perdure.Status{"1": statuses(perdure.Completed), "2": maybe, "3": statuses(perdure.Completed)}
	}},
	{"drain", func(w *World) map[string][]perdure.Status {
		must(w, w.Start(Talk, "a", "1", Script{Steps: 1, Pause: time.Second, Deaf: true}))
		for _, input := range []string{"2", "3", "4"} {
			must(w, w.Start(Talk, "a", input, Script{Steps: 1}, enqueued))
		}
		done := statuses(perdure.Completed)
		return map[string][]perdure.Status{"1": done, "2": done, "3": done, "4": done}
	}},
	{"queued cancel", func(w *World) map[string][]perdure.Status {
		must(w, w.Start(Talk, "a", "1", Script{Steps: 2, Pause: time.Second}))
		must(w, w.Start(Talk, "a", "2", Script{Steps: 1, Stay: true}, enqueued)) // stays until it is cancelled
		must(w, w.Start(Talk, "a", "3", Script{Steps: 1}, enqueued))
		must(w, w.CancelInput("a", "2"))
		return map[string][]perdure.Status{"1": statuses(perdure.Completed), "2": statuses(perdure.Cancelled), "3": statuses(perdure.Completed)}
	}},
	{"replace", func(w *World) map[string][]perdure.Status {
		must(w, w.Start(Talk, "a", "1", Script{Steps: 2, Pause: time.Second, Deaf: true}))
		must(w, w.Start(Talk, "a", "2", Script{Steps: 1, Deaf: true}, enqueued))
		must(w, w.Start(Talk, "a", "3", Script{Steps: 1, Deaf: true}, enqueued))
		must(w, w.Start(Talk, "a", "4", Script{Steps: 1}, func(r *perdure.StartRequest) { r.Deliver = perdure.Replace }))
		maybe := statuses(perdure.Refused, perdure.Completed) // completed when its turn came before the replacement
		return map[string][]perdure.Status{"1": statuses(perdure.Completed), "2": maybe, "3": maybe, "4": statuses(perdure.Completed)}
	}},
	{"multi-turn end", func(w *World) map[string][]perdure.Status {
		must(w, w.Start(Talk, "a", "1", Script{Steps: 1}))
		w.until("a", perdure.Suspended)
		must(w, w.Start(Talk, "a", "2", Script{Steps: 1, Fail: 9, Deaf: true}))
		must(w, w.Start(Talk, "a", "3", Script{Steps: 1, Finish: true}, enqueued))
		return map[string][]perdure.Status{"1": statuses(perdure.Completed), "2": statuses(perdure.Failed), "3": statuses(perdure.Completed)}
	}},
	{"cancel", func(w *World) map[string][]perdure.Status {
		must(w, w.Start(Job, "a", "1", Script{Steps: 1, Stay: true}))
		w.Advance(200 * time.Millisecond)
		must(w, w.Cancel("a"))
		return map[string][]perdure.Status{"1": statuses(perdure.Cancelled)}
	}},
	{"terminate", func(w *World) map[string][]perdure.Status {
		must(w, w.Start(Ask, "a", "1", Script{Steps: 1, Stay: true}))
		must(w, w.Start(Ask, "a", "2", Script{}, enqueued))
		must(w, w.Terminate("a"))
		return map[string][]perdure.Status{"1": statuses(perdure.Terminated), "2": statuses(perdure.Refused)}
	}},
	{"retry", func(w *World) map[string][]perdure.Status {
		must(w, w.Start(Job, "a", "1", Script{Steps: 1, Fail: 2}))
		return map[string][]perdure.Status{"1": statuses(perdure.Completed)}
	}},
	{"fail", func(w *World) map[string][]perdure.Status {
		must(w, w.Start(Ask, "a", "1", Script{Steps: 1, Fail: 9, Deaf: true}))
		must(w, w.Start(Ask, "a", "2", Script{}, enqueued))
		return map[string][]perdure.Status{"1": statuses(perdure.Failed), "2": statuses(perdure.Refused)}
	}},
	{"finish", func(w *World) map[string][]perdure.Status {
		must(w, w.Start(Talk, "a", "1", Script{Steps: 1, Finish: true}))
		return map[string][]perdure.Status{"1": statuses(perdure.Completed)}
	}},
	{"release", func(w *World) map[string][]perdure.Status {
		must(w, w.Start(Job, "a", "1", Script{Steps: 1, Release: 2}))
		return map[string][]perdure.Status{"1": statuses(perdure.Completed)}
	}},
	{"delete", func(w *World) map[string][]perdure.Status {
		must(w, w.Start(Job, "a", "1", Script{Steps: 1, Stay: true}))
		must(w, w.Delete("a"))
		must(w, w.Start(Job, "a", "2", Script{Steps: 3, Pause: 2 * time.Second})) // no repeat of the delete reaches it
		return map[string][]perdure.Status{"2": statuses(perdure.Completed)}
	}},
	{"terminate and start again", func(w *World) map[string][]perdure.Status {
		must(w, w.Start(Brief, "a", "1", Script{Steps: 1, Stay: true}))
		must(w, w.Terminate("a"))
		must(w, w.Start(Brief, "a", "2", Script{Steps: 3, Pause: 2 * time.Second})) // no repeat of the terminate reaches it
		return map[string][]perdure.Status{"2": statuses(perdure.Completed)}
	}},
	{"shutdown", func(w *World) map[string][]perdure.Status {
		must(w, w.Start(Job, "a", "1", Script{Steps: 3, Pause: time.Second}))
		w.Shutdown(0)
		return map[string][]perdure.Status{"1": statuses(perdure.Completed)}
	}},
	{"stream", func(w *World) map[string][]perdure.Status {
		must(w, w.Start(Talk, "a", "1", Script{Steps: 2, Pause: 100 * time.Millisecond, Fail: 1}))
		w.Advance(50 * time.Millisecond)
		must(w, w.Start(Talk, "a", "2", Script{Steps: 1, Release: 1}, enqueued))
		return map[string][]perdure.Status{"1": statuses(perdure.Completed), "2": statuses(perdure.Completed)}
	}},
	{"recovery", func(w *World) map[string][]perdure.Status {
		must(w, w.Start(Job, "a", "1", Script{Steps: 3, Pause: time.Second}))
		w.Advance(1500 * time.Millisecond)
		w.Crash(0)
		return map[string][]perdure.Status{"1": statuses(perdure.Completed)}
	}},
}

// writes are the store operations that are broken, one after the other.
var writes = []string{"Offer", "Claim", "Checkpoint", "Settle", "Signal", "Delete", "Heartbeat", "Sweep"}

// breakage is a way in which one write is broken.
type breakage struct {
	name   string
	fault  storetest.Fault
	down   time.Duration // the store is away for so long from then on
	fenced bool          // the process cannot renew its lease until it has given it up, while all else goes on
	late   time.Duration // how late the answer comes
}

var breakages = []breakage{
	{name: "die before", fault: storetest.KillBefore},
	{name: "die after", fault: storetest.KillAfter},
	{name: "answer lost", fault: storetest.FailAfter},
	{name: "answer late", fault: storetest.Late, late: lease / 2},
	{name: "answer after the lease", fault: storetest.Late, late: lease + lease/2},
	{name: "answer after a fence", fault: storetest.Late, late: lease - lease/20, fenced: true},
	{name: "carried out late", fault: storetest.Delay, late: lease + lease/2},
	{name: "refused once", fault: storetest.FailBefore},
	{name: "refused for good", fault: storetest.Refuse},
	{name: "down for two minutes", fault: storetest.FailBefore, down: 2 * time.Minute},
}

var (
	step = flag.Int("every", 0, "make one of every so many runs of the enumeration: 1 makes all, 0 a sample that fits the store")
	lane = flag.Int("lane", -1, "which of them: those of the lanes 0 to every-1 are all; -1 chooses")
)

func TestEveryWriteOfEveryScenarioMayBreakOnMemory(t *testing.T) { enumerate(t, OnMemory, 2, 2) }

// On SQLite each run makes a file, and there is one engine at a time; on Postgres each makes a schema.
func TestEveryWriteOfEveryScenarioMayBreakOnSQLite(t *testing.T) { enumerate(t, OnSQLite, 1, 9) }
func TestEveryWriteOfEveryScenarioMayBreakOnPostgres(t *testing.T) {
	enumerate(t, OnPostgres(t), 2, 61)
}

// enumerate breaks, in each scenario, every call of every operation, one after the other, with up to as many processes.
// One of every so many runs is made, unless the flag says another number, beginning with another one each time.
func enumerate(t *testing.T, at Place, processes, every int) {
	if *step > 0 {
		every = *step
	}
	deaths, runs, skip := 0, 0, rand.IntN(every)
	if *lane >= 0 {
		skip = *lane
	}
	for _, s := range scenarios {
		for slots := 1; slots <= processes; slots++ {
			calls := countWrites(t, at, s, slots)
			for _, op := range writes {
				for n := 1; n <= calls[op]; n++ {
					for _, b := range breakages {
						if b.fault == storetest.Refuse && !refusable(op) {
							continue
						}
						if skip++; skip%every != 0 {
							continue
						}
						runs++
						name := fmt.Sprintf("%s/%d/%s %d/%s", s.name, slots, op, n, b.name)
						t.Run(name, func(t *testing.T) { deaths += play(t, at, s, slots, once(op, n, b), b.late) })
					}
				}
			}
		}
	}
	t.Logf("proof: %s: %d scenarios, %d runs with one broken write, %d deaths and ends, nothing lost, doubled or hung", t.Name(), len(scenarios), runs, deaths)
	if runs*every < 1300*processes || deaths < runs/5 {
		t.Errorf("only %d runs with %d deaths: the enumeration does not reach the writes", runs, deaths)
	}
}

// countWrites plays a scenario unbroken.
func countWrites(t *testing.T, at Place, s scenario, slots int) map[string]int {
	calls := map[string]int{}
	play(t, at, s, slots, func(w *World) func(int, storetest.Call) storetest.Fault {
		return func(_ int, c storetest.Call) storetest.Fault {
			calls[c.Op]++
			return storetest.None
		}
	}, 0)
	for op, n := range calls {
		calls[op] = min(n, 12) // what comes later is the heartbeats, claims and sweeps of those that wait
	}
	return calls
}

// once breaks the nth call of an operation, counted over all processes, and if asked what follows.
func once(op string, n int, b breakage) func(*World) func(int, storetest.Call) storetest.Fault {
	return func(w *World) func(int, storetest.Call) storetest.Fault {
		seen, broken := 0, 0
		var until time.Time
		return func(slot int, c storetest.Call) storetest.Fault {
			if time.Now().Before(until) && (!b.fenced || slot == broken && renews(c)) {
				return storetest.FailBefore
			}
			if c.Op != op {
				return storetest.None
			}
			if seen++; seen != n {
				return storetest.None
			}
			w.journal.disturbed()
			broken = slot
			switch {
			case b.down > 0:
				until = time.Now().Add(b.down)
			case b.fenced:
				w.journal.disturbed()
				until = time.Now().Add(lease - lease/10)
			}
			return b.fault
		}
	}
}

// refusable reports whether an operation that is refused is one of the engine's own, which goes on; a caller is told.
func refusable(op string) bool {
	return op == "Heartbeat" || op == "Claim" || op == "Checkpoint" || op == "Settle"
}

// renews reports whether a call renews a worker's lease.
func renews(c storetest.Call) bool {
	req, ok := c.Req.(*store.HeartbeatRequest)
	return ok && !req.First && !req.Leave
}

// play runs a scenario in a world of some processes and checks what was told. It returns how many processes
// died or were stopped.
func play(t *testing.T, at Place, s scenario, slots int, decide func(*World) func(int, storetest.Call) storetest.Fault, late time.Duration) (deaths int) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, at, slots, late, decide)
		allowed := s.run(w)
		w.Wait()
		for input, want := range allowed {
			got := w.journal.outcome("a", input)
			if got == nil {
				t.Errorf("input %s: nobody was told", input)
				continue
			}
			if !slices.Contains(want, got.Status) {
				t.Errorf("input %s ended %s (%v), want one of %v", input, got.Status, got.Error, want)
			}
		}
		deaths = w.deaths - slots
	})
	return deaths
}

// until waits for a task to have a status.
func (w *World) until(task string, status perdure.Status) {
	w.t.Helper()
	for began := time.Now(); time.Since(began) < patient; <-time.After(100 * time.Millisecond) {
		info, err := w.client().Task(w.ctx, task)
		if err == nil && info.Status == status {
			return
		}
		if err != nil && !tryAgain(err) && !errors.Is(err, perdure.ErrNotFound) {
			w.t.Errorf("task %s: %v", task, err)
		}
	}
	w.t.Errorf("task %s did not become %s", task, status)
}
