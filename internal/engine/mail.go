package engine

import (
	"context"
	"time"

	"github.com/perdure/perdure/store"
)

const (
	mailPoll = 500 * time.Millisecond
	mailPage = 1000 // as many pieces as the store returns at once
)

// mailLoop reads what others have left for this worker's turns.
func (e *Engine) mailLoop(ctx context.Context) {
	ticker := time.NewTicker(mailPoll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-e.bells.post:
		}
		if id := e.WorkerID(); id != "" {
			e.readMail(ctx, id)
		}
	}
}

// readMail delivers what there is. A store that stays away shows in the heartbeat.
func (e *Engine) readMail(ctx context.Context, worker string) {
	for {
		mail, err := try(ctx, e, 0, func(ctx context.Context) ([]store.Mail, error) {
			return e.store.Mail(ctx, worker, e.hub.seenMail())
		})
		if err != nil {
			return
		}
		for _, m := range mail {
			e.deliver(ctx, m)
			e.hub.sawMail(m.Seq)
		}
		if len(mail) < mailPage {
			return
		}
	}
}

// deliver brings one piece of mail to the turn it is for.
func (e *Engine) deliver(ctx context.Context, m store.Mail) {
	e.changed(m.Incarnation)
	e.tell(m.Incarnation, m.Epoch, func(a *Attempt) {
		a.hear(m)
		if m.Version == 0 {
			e.recount(ctx, a)
		}
	})
}

// recount reads how many inputs wait behind a turn, after mail that does not say so: of a program of an older version.
func (e *Engine) recount(ctx context.Context, a *Attempt) {
	t, err := try(ctx, e, 0, func(ctx context.Context) (*store.Task, error) { return e.store.Get(ctx, a.task.ID) })
	switch {
	case err != nil:
		a.Logger().Debug("inputs behind the turn not counted", "error", err)
	case t.Incarnation == a.life.lease.Incarnation && t.Epoch == a.life.lease.Epoch:
		a.queue.note(t.Queued, t.Version)
	}
}
