package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// health says whether an engine can take work (R5). The engine's mutex guards it.
type health struct {
	swept   bool  // the first claim pass is done
	beating bool  // the last heartbeat was taken
	failure error // why the last heartbeat was not taken; nil if it was
}

// Ready reports why the engine is not ready to take work; nil when it is (rule R5).
func (e *Engine) Ready() error {
	if err := cmp.Or(e.lossReason(), e.troubles.reason(), e.writes.reason(), e.reads.reason()); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.roster.state == draining || e.roster.state == stopped:
		return ErrShuttingDown
	case e.roster.state == idle:
		return errors.New("engine is not running")
	case e.health.failure != nil:
		return fmt.Errorf("%w: the last heartbeat was not taken: %w", ErrUnavailable, e.health.failure)
	case !e.health.beating:
		return ErrUnavailable
	case !e.health.swept:
		return errors.New("first sweep is not done")
	}
	return nil
}

// noteBeat notes whether the store took a heartbeat. One that the engine's own end cut off says nothing.
func (e *Engine) noteBeat(ctx context.Context, err error) {
	if err != nil && ctx.Err() != nil {
		return
	}
	e.mu.Lock()
	first := e.health.failure == nil
	e.health.beating, e.health.failure = err == nil, err
	e.mu.Unlock()
	if err == nil {
		return
	}
	e.stats.beatsFailed.Add(1)
	if first {
		e.log.Warn("heartbeat failed: it is tried again, and the engine is not ready", "error", err)
	}
}

// troubleEvery is how often the log tells of ends of turns that the store does not take.
const troubleEvery = time.Minute

// troubles are ends of turns that the store does not take. They are tried again while the leases hold.
type troubles struct {
	mu    sync.Mutex
	of    map[*Attempt]error
	told  time.Time
	count int64 // tries that have failed
}

// note notes that the end of a turn was not taken. The log tells of it at once, and then seldom.
func (t *troubles) note(a *Attempt, err error) {
	t.mu.Lock()
	if t.of == nil {
		t.of = map[*Attempt]error{}
	}
	t.of[a] = err
	t.count++
	n := len(t.of)
	silent := !t.told.IsZero() && time.Since(t.told) < troubleEvery
	if !silent {
		t.told = time.Now()
	}
	t.mu.Unlock()
	if !silent {
		a.Logger().Error("the store does not take the end of a turn: it is tried again while the lease holds, and the engine is not ready", "error", err, "turns", n)
	}
}

// over notes that nothing more is tried for a turn.
func (t *troubles) over(a *Attempt) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.of, a)
}

// reason is why the engine is not ready; nil without troubles.
func (t *troubles) reason() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, err := range t.of {
		return fmt.Errorf("%w: the store does not take the ends of %d turns: %w", ErrUnavailable, len(t.of), err)
	}
	return nil
}

func (t *troubles) failed() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.count
}

// clockStep is how far a clock must step to be told of, and clockSlack how long an answer may take that says something
// of clocks.
const (
	clockStep  = 5 * time.Second
	clockSlack = time.Second
)

// clocks compare the store's clock, and this machine's, with time as it goes by, to tell of steps.
type clocks struct {
	mu    sync.Mutex
	at    time.Time // monotonic, and the wall then
	store time.Time
}

// look takes the store's time, as answered to what was sent at a moment here.
func (c *clocks) look(log *slog.Logger, at, now time.Time) {
	if time.Since(at) > clockSlack {
		return
	}
	c.mu.Lock()
	last, stored := c.at, c.store
	c.at, c.store = at, now
	c.mu.Unlock()
	if last.IsZero() {
		return
	}
	gone := at.Sub(last)
	if step := at.Round(0).Sub(last.Round(0)) - gone; step.Abs() >= clockStep {
		log.Warn("this machine's clock has stepped", "by", step.Round(time.Millisecond))
	}
	if step := now.Sub(stored) - gone; step.Abs() >= clockStep {
		log.Warn("the store's clock has stepped: back-offs, expiry and leases of dead workers are as much earlier or later", "by", step.Round(time.Millisecond))
	}
}
