package sim

import (
	"errors"
	"fmt"
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
		must(w, w.Start(Job, "a", "2", Script{Steps: 1}))
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

// breaks are the ways in which one write is broken.
var breaks = []struct {
	name  string
	fault storetest.Fault
	down  time.Duration // the store is away for so long from then on
}{
	{"die before", storetest.KillBefore, 0},
	{"die after", storetest.KillAfter, 0},
	{"answer lost", storetest.FailAfter, 0},
	{"answer late", storetest.Delay, 0},
	{"refused once", storetest.FailBefore, 0},
	{"down for two minutes", storetest.Hang, 2 * time.Minute},
}

func TestEveryWriteOfEveryScenarioMayBreakOnMemory(t *testing.T) { enumerate(t, OnMemory, 10) }

// On SQLite each run makes a file, and on Postgres a schema, so fewer calls of one operation are broken.
func TestEveryWriteOfEveryScenarioMayBreakOnSQLite(t *testing.T)   { enumerate(t, OnSQLite, 3) }
func TestEveryWriteOfEveryScenarioMayBreakOnPostgres(t *testing.T) { enumerate(t, OnPostgres(t), 1) }

// enumerate breaks, in each scenario, the first calls of every operation one after the other.
func enumerate(t *testing.T, open func(*testing.T) store.Store, mostCalls int) {
	deaths, runs := 0, 0
	for _, s := range scenarios {
		calls := countWrites(t, open, s)
		for _, op := range writes {
			for n := 1; n <= min(calls[op], mostCalls); n++ {
				for _, b := range breaks {
					runs++
					name := fmt.Sprintf("%s/%s %d/%s", s.name, op, n, b.name)
					t.Run(name, func(t *testing.T) { deaths += play(t, open, s, once(op, n, b.fault, b.down)) })
				}
			}
		}
	}
	t.Logf("proof: %s: %d scenarios, %d runs with one broken write, %d deaths, nothing lost", t.Name(), len(scenarios), runs, deaths)
	if runs < 500 || deaths < runs/4 {
		t.Errorf("only %d runs with %d deaths: the enumeration does not reach the writes", runs, deaths)
	}
}

// countWrites plays a scenario unbroken.
func countWrites(t *testing.T, open func(*testing.T) store.Store, s scenario) map[string]int {
	calls := map[string]int{}
	play(t, open, s, func(_ int, c storetest.Call) storetest.Fault {
		calls[c.Op]++
		return storetest.None
	})
	return calls
}

// once breaks the nth call of an operation, counted over all processes, and if asked all that follow for
// some time.
func once(op string, n int, fault storetest.Fault, down time.Duration) func(int, storetest.Call) storetest.Fault {
	seen := 0
	var until time.Time
	return func(_ int, c storetest.Call) storetest.Fault {
		if time.Now().Before(until) {
			return storetest.FailBefore
		}
		if c.Op != op {
			return storetest.None
		}
		if seen++; seen != n {
			return storetest.None
		}
		if down > 0 {
			until = time.Now().Add(down)
			return storetest.FailBefore
		}
		return fault
	}
}

// play runs a scenario in a world of one process and checks what was told. It returns how many processes
// died or were stopped.
func play(t *testing.T, open func(*testing.T) store.Store, s scenario, decide func(int, storetest.Call) storetest.Fault) (deaths int) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		w := New(t, open(t), 1, decide)
		allowed := s.run(w)
		w.Wait()
		for input, want := range allowed {
			got := w.journal.outcome("a", input)
			if got == nil {
				t.Errorf("input %s: nobody was told", input)
				continue
			}
			if !contains(want, got.Status) {
				t.Errorf("input %s ended %s (%v), want one of %v", input, got.Status, got.Error, want)
			}
		}
		deaths = w.deaths - 1
	})
	return deaths
}

func contains(list []perdure.Status, s perdure.Status) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
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
