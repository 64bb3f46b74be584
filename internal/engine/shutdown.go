package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
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
	e.roster.state = draining
	e.quiet = make(chan struct{})
	e.settleDown()
	e.mu.Unlock()
	close(e.leaving)
	for _, a := range e.attempts() {
		a.shuttingDown()
	}
	if !within(e.quiet, e.cfg.Drain) {
		e.cutOff()
		if !within(e.quiet, afterDrain) && e.leftInside() == nil {
			within(e.quiet, lastWrites)
		}
	}
	e.mu.Lock()
	e.roster.state = stopped
	changes := e.roster.all(lost)
	e.mu.Unlock()
	for _, c := range changes {
		c.of.follow(c.before, c.now, errDrained)
	}
	return e.leftInside()
}

// cutOff ends the ctx of all handlers.
func (e *Engine) cutOff() {
	e.mu.Lock()
	changes := e.roster.all(cutOff)
	waiting := make([]*Attempt, 0, len(e.roster.leases))
	for _, l := range e.roster.leases {
		if l.phase == arriving {
			waiting = append(waiting, l.of)
		}
	}
	e.mu.Unlock()
	for _, c := range changes {
		c.of.follow(c.before, c.now, errDrained)
	}
	for _, a := range waiting {
		a.end(errDrained)
	}
}

// goroutineEnded notes that a goroutine that runs handlers, or writes their end, is at its own.
func (e *Engine) goroutineEnded() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.goroutines--
	e.settleDown()
}

// settleDown closes quiet, once shutdown has made it, when nothing is under way. e.mu is held.
func (e *Engine) settleDown() {
	if e.quiet == nil || e.goroutines > 0 || len(e.roster.tickets.open) > 0 {
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
	e.worker, e.roster.worker = nil, ""
	e.mu.Unlock()
	if w == nil {
		return
	}
	if w.lapse != nil {
		w.lapse.Stop()
	}
	ctx, cancel := context.WithTimeout(base, lastWrites)
	defer cancel()
	_, err := try(ctx, e, 0, func(ctx context.Context) (*store.Beat, error) {
		return e.store.Heartbeat(ctx, &store.HeartbeatRequest{Worker: w.id, Leave: true})
	})
	if err != nil {
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
	all := make([]*Attempt, 0, len(e.roster.leases))
	for _, l := range e.roster.leases {
		all = append(all, l.of)
	}
	return all
}

// leftInside returns the tasks whose handlers have not returned, as an error; nil if there are none.
func (e *Engine) leftInside() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var ids []string
	for id := range e.roster.inside {
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return nil
	}
	slices.Sort(ids)
	return &LeftError{Tasks: ids}
}
