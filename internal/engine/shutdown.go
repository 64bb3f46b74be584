package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/perdure/perdure/store"
)

// afterDrain is what handlers get after their ctx has ended, and lastWrites what is given to the last
// releases (H1).
const (
	afterDrain = time.Second
	lastWrites = time.Second
)

// errDrained is the cause with which ctx ends at the end of the drain time.
var errDrained = fmt.Errorf("drain time is over: %w", store.ErrLeaseLost)

// LeftError says which tasks' handlers had not returned when the engine stopped. Their leases lapse.
type LeftError struct{ Tasks []string }

func (e *LeftError) Error() string {
	return fmt.Sprintf("handlers of %d tasks have not returned: %s", len(e.Tasks), strings.Join(e.Tasks, ", "))
}

// drain interrupts all turns, waits for the drain time, then ends their ctx and releases those that
// return (H1). Nothing of it becomes an outcome. It returns a *LeftError if handlers did not return.
func (e *Engine) drain() error {
	e.mu.Lock()
	e.state = draining
	e.quiet = make(chan struct{})
	e.settleDown()
	e.mu.Unlock()
	close(e.leaving)
	for _, a := range e.attempts() {
		a.interrupt(Causes{Shutdown: true})
	}
	if !within(e.quiet, e.cfg.Drain) {
		for _, a := range e.attempts() {
			a.end(errDrained)
		}
		if !within(e.quiet, afterDrain) && e.left() == nil {
			within(e.quiet, lastWrites)
		}
	}
	e.setState(stopped)
	return e.left()
}

// settleDown closes quiet, once shutdown has made it, when nothing is under way. e.mu is held.
func (e *Engine) settleDown() {
	if e.quiet == nil || e.goroutines > 0 || len(e.inflight) > 0 {
		return
	}
	select {
	case <-e.quiet:
	default:
		close(e.quiet)
	}
}

// goodbye takes the worker off the list; with tasks left it stays, and lapses.
func (e *Engine) goodbye(base context.Context) {
	e.mu.Lock()
	w := e.worker
	e.worker = nil
	e.mu.Unlock()
	if w == nil {
		return
	}
	ctx, cancel := context.WithTimeout(base, lastWrites)
	defer cancel()
	if _, err := e.store.Heartbeat(ctx, &store.HeartbeatRequest{Worker: w.id, Leave: true}); err != nil {
		e.log.Warn("worker not signed off: it will lapse", "worker", w.id, "error", err)
	}
}

func within(done <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// attempts returns the turns that run here.
func (e *Engine) attempts() []*Attempt {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make([]*Attempt, 0, len(e.running))
	for _, a := range e.running {
		all = append(all, a)
	}
	return all
}

// left returns the tasks whose handlers have not returned, as an error; nil if there are none.
func (e *Engine) left() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var ids []string
	for id := range e.live {
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return nil
	}
	slices.Sort(ids)
	return &LeftError{Tasks: ids}
}

// stats are counted since the engine was made.
type stats struct {
	entered, recovered, parked, checkpoints, events, retries, released, leaked, fenced, beatsFailed atomic.Int64

	mu       sync.Mutex
	outcomes map[store.Status]int64
	unbound  map[string]int // due tasks of funcs that are not bound here; 0 when they are gone again
}

// noteUnbound keeps the counts of funcs that are not bound, and returns those it had not known.
func (s *stats) noteUnbound(waiting map[string]int, bound map[string]*Func) (first []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unbound == nil {
		s.unbound = map[string]int{}
	}
	for fn := range s.unbound {
		s.unbound[fn] = 0
	}
	for fn, n := range waiting {
		if bound[fn] != nil {
			continue
		}
		if _, known := s.unbound[fn]; !known {
			first = append(first, fn)
		}
		s.unbound[fn] = n
	}
	slices.Sort(first)
	return first
}

func (s *stats) settled(req *store.SettleRequest, done *store.Settled) {
	switch {
	case done.Ended != nil:
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.outcomes == nil {
			s.outcomes = map[store.Status]int64{}
		}
		s.outcomes[done.Ended.Status]++
	case req.Kind == store.SettleRetry:
		s.retries.Add(1)
	case req.Kind == store.SettleRelease:
		s.released.Add(1)
	case req.Kind == store.SettlePark:
		s.parked.Add(1)
	}
}

// Counter is one figure of an engine.
type Counter struct {
	Name  string // a Prometheus name without its namespace
	Label string // label="value", or empty
	Help  string
	Gauge bool
	Value int64
}

// Counters returns the engine's figures, in a fixed order.
func (e *Engine) Counters() []Counter {
	s := &e.stats
	count := func(name, help string, v *atomic.Int64) Counter {
		return Counter{Name: name, Help: help, Value: v.Load()}
	}
	cs := []Counter{
		{Name: "turns_running", Help: "Turns that run here.", Gauge: true, Value: int64(e.count())},
		count("entries_total", "Handler entries.", &s.entered),
		count("recoveries_total", "Tasks of dead workers that this engine put back.", &s.recovered),
		count("parked_total", "Tasks put into quarantine.", &s.parked),
		count("checkpoints_total", "Checkpoints written.", &s.checkpoints),
		count("events_total", "Emitted events that were written, but for those of the ends of turns.", &s.events),
		count("retries_total", "Attempts that failed and will be retried.", &s.retries),
		count("releases_total", "Leases given back before the turn's end.", &s.released),
		count("handlers_leaked_total", "Handlers that did not return after their context ended.", &s.leaked),
		count("fenced_total", "Times this engine stopped its turns because it could not renew its lease.", &s.fenced),
		count("heartbeats_failed_total", "Heartbeats that the store did not take.", &s.beatsFailed),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for status, n := range s.outcomes {
		cs = append(cs, Counter{Name: "turns_ended_total", Label: fmt.Sprintf("outcome=%q", status),
			Help: "Turns that ended, by outcome.", Value: n})
	}
	for fn, n := range s.unbound {
		cs = append(cs, Counter{Name: "tasks_unbound", Label: fmt.Sprintf("func=%q", fn),
			Help: "Due tasks of funcs that are not bound here.", Gauge: true, Value: int64(n)})
	}
	slices.SortStableFunc(cs[11:], func(a, b Counter) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Label, b.Label))
	})
	return cs
}
