package engine

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/perdure/perdure/store"
)

// stats are counted since the engine was made.
type stats struct {
	entered, recovered, parked, checkpoints, events, retries, released, leaked, fenced, beatsFailed, logsDropped, replaced atomic.Int64

	mu       sync.Mutex
	outcomes map[store.Status]int64
	unbound  map[string]int // due tasks of funcs that are not bound here; 0 when they are gone again
}

// noteUnbound keeps the counts of funcs that are not bound, and returns those it had not known.
func (s *stats) noteUnbound(waiting map[string]int) (first []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unbound == nil {
		s.unbound = map[string]int{}
	}
	for fn := range s.unbound {
		s.unbound[fn] = 0
	}
	for fn, n := range waiting {
		if _, known := s.unbound[fn]; !known {
			first = append(first, fn)
		}
		s.unbound[fn] = n
	}
	slices.Sort(first)
	return first
}

func (s *stats) countEnd(req *store.SettleRequest, done *store.Settled) {
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
	case req.Kind == store.SettlePark:
		s.parked.Add(1)
	default:
		s.released.Add(1)
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
	fixed := []Counter{
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
		{Name: "ends_failed_total", Help: "Tries to write the end of a turn that the store did not take.", Value: e.troubles.failed()},
		{Name: "callers_gone", Help: "Operations under way whose callers have gone.", Gauge: true, Value: e.detached.count()},
		count("texts_replaced_total", "Times that bytes of what handlers and label functions gave, which are no UTF-8, became U+FFFD.", &s.replaced),
		count("logs_dropped_total", "Log records that were dropped because the log handler panicked.", &s.logsDropped),
	}
	if g, ok := e.store.(store.Gauger); ok {
		for _, figure := range g.Gauges() {
			fixed = append(fixed, Counter{Name: figure.Name, Help: figure.Help, Gauge: true, Value: figure.Value})
		}
	}
	labelled := s.labelled()
	slices.SortFunc(labelled, func(a, b Counter) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Label, b.Label))
	})
	return append(fixed, labelled...)
}

// labelled returns the figures that come by outcome or func.
func (s *stats) labelled() (all []Counter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for status, n := range s.outcomes {
		all = append(all, Counter{Name: "turns_ended_total", Label: fmt.Sprintf("outcome=%q", status),
			Help: "Turns that ended, by outcome.", Value: n})
	}
	for fn, n := range s.unbound {
		all = append(all, Counter{Name: "tasks_unbound", Label: fmt.Sprintf("func=%q", fn),
			Help: "Due tasks of funcs that are not bound here, at most 1,000 of each.", Gauge: true, Value: int64(n)})
	}
	return all
}
