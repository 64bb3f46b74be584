package engine

import (
	"errors"
	"fmt"

	"github.com/perdure/perdure/store"
)

// noteLoss notes for good that an operation has met store.ErrLost: the engine is not ready any more, and its turns are
// stopped, since nothing of what they do is stored, and whoever opens what has the name of the store now may enter them.
func (e *Engine) noteLoss(err error) {
	if !errors.Is(err, store.ErrLost) {
		return
	}
	if first := err; e.loss.CompareAndSwap(nil, &first) {
		e.log.Error("the store is lost: nothing is stored, and nothing told, until the process restarts", "error", err)
	}
	e.disown()
}

// lossReason is why the engine is not ready any more; nil while the store is not lost.
func (e *Engine) lossReason() error {
	err := e.loss.Load()
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, *err)
}
