package engine

import (
	"context"
	"time"

	"github.com/perdure/perdure/store"
)

// pollEvery is how often a worker asks what there is for it, beside the hints that it gets.
const pollEvery = time.Second

// pollLoop reads what others have left for this worker's turns, and has the claim loop look when there is work, until ctx
// ends.
func (e *Engine) pollLoop(ctx context.Context) {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	var p poller
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-e.bells.post:
		}
		e.pollStore(ctx, &p)
	}
}

// poller is what the poll loop remembers.
type poller struct {
	worker string
	seen   []int64 // mail of the worker that was delivered, and is not forgotten yet
}

// pollStore asks once, and again while there is more mail than an answer has. A store that stays away shows in the heartbeat.
func (e *Engine) pollStore(ctx context.Context, p *poller) {
	for {
		req := e.pollRequest()
		if req == nil {
			return
		}
		if req.Worker != p.worker {
			*p = poller{worker: req.Worker}
		}
		req.Seen = p.seen
		polled, err := try(ctx, e, 0, func(ctx context.Context) (*store.Polled, error) { return e.store.Poll(ctx, req) })
		if err != nil {
			return
		}
		if polled.Due {
			e.bells.due.ring()
		}
		p.seen = nil
		for _, m := range polled.Mail {
			e.deliver(ctx, m)
			p.seen = append(p.seen, m.Seq)
		}
		if len(polled.Mail) < store.MailPage {
			return
		}
	}
}

// pollRequest asks for what a claim would ask for; nil while there is no registration.
func (e *Engine) pollRequest() *store.PollRequest {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.worker == nil {
		return nil
	}
	req := &store.PollRequest{Worker: e.worker.id, Suspect: e.roster.probing == nil}
	if e.roster.state == active && e.roster.slots.leases < e.roster.slots.most {
		for name := range e.funcs {
			if e.roster.slots.room(name) > 0 {
				req.Funcs = append(req.Funcs, name)
			}
		}
	}
	return req
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
