// Package memstore keeps tasks in memory. It is the executable specification of package store: one mutex,
// maps, no goroutine. What it holds is gone with the process; several engines of one process may share it.
package memstore

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/rules"
)

// Store is a store in memory. Use [New].
type Store struct {
	mu     sync.Mutex
	closed bool
	rows   *rows
	clock  rules.Clock
}

var (
	_ store.Store    = (*Store)(nil)
	_ store.Importer = (*Store)(nil)
)

// New returns an empty store. Its clock is steady: several engines judge each other's leases by it, and a step of the
// machine's clock ends none.
func New() *Store { return &Store{rows: newRows(), clock: rules.Clock{Steady: true}} }

// do runs one operation under the mutex, at one moment of the store's clock.
func do[T any](ctx context.Context, s *Store, f func(rules.Rows, time.Time) (T, error)) (T, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var none T
	if s.closed {
		return none, store.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return none, err
	}
	return f(s.rows, s.clock.Now())
}

// Offer implements store.Store.
func (s *Store) Offer(ctx context.Context, req *store.OfferRequest) (*store.Offered, error) {
	return do(ctx, s, func(r rules.Rows, now time.Time) (*store.Offered, error) { return rules.Offer(r, now, req) })
}

// Claim implements store.Store.
func (s *Store) Claim(ctx context.Context, req *store.ClaimRequest) (*store.Claimed, error) {
	return do(ctx, s, func(r rules.Rows, now time.Time) (*store.Claimed, error) { return rules.Claim(r, now, req) })
}

// Heartbeat implements store.Store.
func (s *Store) Heartbeat(ctx context.Context, req *store.HeartbeatRequest) (*store.Beat, error) {
	return do(ctx, s, func(r rules.Rows, now time.Time) (*store.Beat, error) { return rules.Heartbeat(r, now, req) })
}

// Checkpoint implements store.Store.
func (s *Store) Checkpoint(ctx context.Context, req *store.CheckpointRequest) (*store.Checkpointed, error) {
	return do(ctx, s, func(r rules.Rows, now time.Time) (*store.Checkpointed, error) {
		return rules.Checkpoint(r, now, req)
	})
}

// Settle implements store.Store.
func (s *Store) Settle(ctx context.Context, req *store.SettleRequest) (*store.Settled, error) {
	return do(ctx, s, func(r rules.Rows, now time.Time) (*store.Settled, error) { return rules.Settle(r, now, req) })
}

// Signal implements store.Store.
func (s *Store) Signal(ctx context.Context, req *store.SignalRequest) (*store.Signalled, error) {
	return do(ctx, s, func(r rules.Rows, now time.Time) (*store.Signalled, error) { return rules.Signal(r, now, req) })
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, req *store.DeleteRequest) (*store.Removed, error) {
	return do(ctx, s, func(r rules.Rows, now time.Time) (*store.Removed, error) { return rules.Delete(r, now, req) })
}

// Import implements store.Importer.
func (s *Store) Import(ctx context.Context, req *store.ImportRequest) (*store.Imported, error) {
	return do(ctx, s, func(r rules.Rows, now time.Time) (*store.Imported, error) {
		return rules.Import(r, now, req)
	})
}

// Sweep implements store.Store.
func (s *Store) Sweep(ctx context.Context, limit int) (*store.Swept, error) {
	return do(ctx, s, func(r rules.Rows, now time.Time) (*store.Swept, error) { return rules.Sweep(r, now, limit) })
}

// Poll implements store.Store.
func (s *Store) Poll(ctx context.Context, req *store.PollRequest) (*store.Polled, error) {
	if err := req.Valid(); err != nil {
		return nil, err
	}
	return do(ctx, s, func(r rules.Rows, now time.Time) (*store.Polled, error) {
		mail := s.rows.mail[req.Worker]
		if len(req.Seen) > 0 {
			mail = slices.DeleteFunc(mail, func(m store.Mail) bool { return slices.Contains(req.Seen, m.Seq) })
			s.rows.mail[req.Worker] = mail
		}
		due, err := rules.Waits(r, now, req)
		return &store.Polled{Mail: slices.Clone(mail[:min(store.MailPage, len(mail))]), Due: due}, err
	})
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, id string) (*store.Task, error) {
	return do(ctx, s, func(r rules.Rows, now time.Time) (*store.Task, error) {
		t, _ := r.TaskByID(id)
		if err := rules.Visible(t, now, 0); err != nil {
			return nil, err
		}
		t.Metadata, _ = r.Metadata(t.Incarnation)
		return t, nil
	})
}

// Turn implements store.Store.
func (s *Store) Turn(ctx context.Context, q store.TurnQuery) (*store.Turn, error) {
	return do(ctx, s, func(r rules.Rows, now time.Time) (*store.Turn, error) {
		t, _ := r.TaskByID(q.TaskID)
		if err := rules.Visible(t, now, q.Incarnation); err != nil {
			return nil, err
		}
		number := q.Number
		if number == 0 {
			number = t.Turn.Number
		}
		turn, _ := r.Turn(t.Incarnation, number)
		if q.Number == 0 && q.InputID != "" {
			turn, _ = r.TurnByInput(t.Incarnation, q.InputID)
		}
		if turn == nil {
			return nil, store.ErrNotFound
		}
		if !q.Input {
			turn.Input = nil
		}
		if !q.Output {
			turn.Output = nil
		}
		return rules.Complete(t, turn), nil
	})
}

// Turns implements store.Store.
func (s *Store) Turns(ctx context.Context, q store.TurnsQuery) (*store.TurnPage, error) {
	return do(ctx, s, func(r rules.Rows, now time.Time) (*store.TurnPage, error) {
		t, _ := r.TaskByID(q.TaskID)
		if err := rules.Visible(t, now, 0); err != nil {
			return nil, err
		}
		page, bytes := &store.TurnPage{}, 0
		for n := max(min(q.After, t.LastTurn)+1, s.rows.firstTurn(t.Incarnation)); n <= t.LastTurn; n++ {
			turn, _ := r.Turn(t.Incarnation, n)
			if turn == nil {
				continue
			}
			if bytes += len(turn.Input) + len(turn.Output); len(page.Turns) == q.Limit || len(page.Turns) > 0 && bytes > store.PageBytes {
				page.More = true
				break
			}
			page.Turns = append(page.Turns, rules.Complete(t, turn))
		}
		return page, nil
	})
}

// List implements store.Store.
func (s *Store) List(ctx context.Context, q store.ListQuery) (*store.TaskPage, error) {
	return do(ctx, s, func(_ rules.Rows, now time.Time) (*store.TaskPage, error) {
		page := &store.TaskPage{}
		from := s.rows.lastIncarnation
		if q.Before > 0 {
			from = min(from, q.Before-1)
		}
		for k := from; k > 0; k-- {
			if t := s.rows.task(k); rules.Visible(t, now, 0) == nil && matches(t, q) {
				if len(page.Tasks) == q.Limit {
					page.More = true
					break
				}
				page.Tasks = append(page.Tasks, t)
			}
		}
		return page, nil
	})
}

func matches(t *store.Task, q store.ListQuery) bool {
	for k, v := range q.Tags {
		if got, ok := t.Tags[k]; !ok || got != v {
			return false
		}
	}
	return (len(q.Funcs) == 0 || slices.Contains(q.Funcs, t.Func)) &&
		(len(q.Statuses) == 0 || slices.Contains(q.Statuses, t.Status)) &&
		(q.Session == "" || q.Session == t.Session) &&
		(q.Agent == "" || q.Agent == t.Agent) &&
		(q.Worker == "" || q.Worker == t.Worker)
}

// Events implements store.Store.
func (s *Store) Events(ctx context.Context, q store.EventsQuery) (*store.EventPage, error) {
	return do(ctx, s, func(r rules.Rows, now time.Time) (*store.EventPage, error) {
		t, _ := r.TaskByID(q.TaskID)
		if err := rules.Visible(t, now, q.Incarnation); err != nil {
			return nil, err
		}
		var events, rewinds []store.Event
		for _, flush := range s.rows.events[t.Incarnation] {
			for _, e := range flush {
				if e.Number <= q.After {
					continue
				}
				events = append(events, e)
				if e.Kind == store.EventRewind {
					rewinds = append(rewinds, e)
				}
			}
		}
		for _, turn := range s.rows.turns[t.Incarnation] {
			if turn.EndEvent > q.After {
				events = append(events, rules.TurnEvent(turn))
			}
		}
		return rules.Page(t, q, events, rewinds), nil
	})
}

// Waiting implements store.Store.
func (s *Store) Waiting(ctx context.Context, except []string, most int) (map[string]int, error) {
	return do(ctx, s, func(_ rules.Rows, now time.Time) (map[string]int, error) {
		waiting := map[string]int{}
		for k := range s.rows.due {
			t := s.rows.tasks[k]
			if !t.NotBefore.After(now) && !slices.Contains(except, t.Func) && waiting[t.Func] < most {
				waiting[t.Func]++
			}
		}
		return waiting, nil
	})
}

// Workers implements store.Store.
func (s *Store) Workers(ctx context.Context) ([]*store.Worker, error) {
	return do(ctx, s, func(r rules.Rows, now time.Time) ([]*store.Worker, error) {
		workers, err := r.Lapsed(now)
		return slices.DeleteFunc(workers, func(w *store.Worker) bool { return !alive(w, now) }), err
	})
}

// Close implements store.Store.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}
