package engine

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/perdure/perdure/store"
)

// hindranceKept is how long an engine is not ready after the last operation that met a hindrance, when no other shows
// that it is over. Who meets one tries again each second; heartbeats that the store does not take are a reason of their
// own. So what nobody has met for as long may be over, and only who is ready is asked for what would show it.
const hindranceKept = 5 * time.Second

// hindrance is what who runs the store has to cure before it does again what callers ask of it: an error of kind
// store.TroubleError that an operation has met, until one of the same kind gets an answer.
type hindrance struct {
	what string      // that the store does not do
	met  atomic.Bool // there is one: a look at this costs those nothing who meet none

	mu         sync.Mutex
	err        error     // nil: there is none
	last, told time.Time // when it was met, and when the log told of it
}

// heard takes the result of a try. The log tells of a hindrance at once, and then seldom.
func (h *hindrance) heard(log *slog.Logger, err error) {
	if err == nil || store.Definite(err) {
		h.cured(log)
		return
	}
	var trouble *store.TroubleError
	if !errors.As(err, &trouble) {
		return
	}
	h.mu.Lock()
	h.err, h.last = err, time.Now()
	h.met.Store(true)
	silent := !h.told.IsZero() && time.Since(h.told) < troubleEvery
	if !silent {
		h.told = time.Now()
	}
	h.mu.Unlock()
	if !silent {
		log.Error(h.what+": it is tried again, and the engine is not ready", "error", err)
	}
}

func (h *hindrance) cured(log *slog.Logger) {
	if !h.met.Load() {
		return
	}
	h.mu.Lock()
	was := h.err
	h.met.Store(false)
	h.err, h.told = nil, time.Time{}
	h.mu.Unlock()
	if was != nil {
		log.Info("the store answers again, after a hindrance", "error", was)
	}
}

// reason is why the engine is not ready; nil without a hindrance.
func (h *hindrance) reason() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil || time.Since(h.last) > hindranceKept {
		return nil
	}
	return fmt.Errorf("%w: %s: %w", ErrUnavailable, h.what, h.err)
}

// refusal is what a caller is told of an error: what the store refuses for its content is refused for good.
func refusal(err error) error {
	var content *store.ContentError
	switch {
	case !errors.As(err, &content):
		return err
	case content.Large:
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	return fmt.Errorf("%w: %w", ErrInvalid, err)
}
