package engine

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/perdure/perdure/store"
)

// How long it takes until a store that does not tell what others write is asked again.
const (
	firstListen = time.Second
	maxListen   = time.Minute
)

// listen passes on the store's hints, and ends the engine when the store says that it has been closed.
func (e *Engine) listen(ctx context.Context, stop context.CancelCauseFunc) {
	n, ok := e.store.(store.Notifier)
	if !ok {
		return
	}
	for delay := firstListen; ctx.Err() == nil; delay = min(2*delay, maxListen) {
		err := n.Listen(ctx, e.hint)
		if errors.Is(err, store.ErrClosed) {
			e.closed(stop)
			return
		}
		if e.setHinted(false) {
			e.allChanged() // who waits polls again
			delay = firstListen
		}
		if ctx.Err() == nil {
			e.log.Debug("the store does not tell of others' writes: they are polled for", "error", err)
			pause(ctx, delay)
		}
	}
}

// hint wakes those whom others' writes may concern.
func (e *Engine) hint(h store.Hint) {
	e.setHinted(true)
	if h.All || h.Due {
		e.bells.due.ring()
	}
	if h.All || slices.Contains(h.Mail, e.WorkerID()) {
		e.bells.post.ring()
	}
	if h.All {
		e.anyChanged()
		return
	}
	for _, incarnation := range h.Tasks {
		e.changed(incarnation)
	}
}

// setHinted notes whether hints come; it returns whether they came before.
func (e *Engine) setHinted(now bool) (before bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	before, e.hinted = e.hinted, now
	return before
}
