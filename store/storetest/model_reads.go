package storetest

import (
	"context"
	"fmt"

	"github.com/perdure/perdure/store"
)

// compareReads compares what can be read of one task, and of all together.
func (m *model) compareReads() {
	ctx := context.Background()
	m.compareTask(ctx, pick(m, modelTasks...))
	poll := &store.PollRequest{Worker: pick(m, modelWorkers...), Funcs: pick(m, nil, modelFuncs[:1], modelFuncs), Suspect: m.chance(50)}
	for n := m.rand.IntN(4); n > 0; n-- {
		poll.Seen = append(poll.Seen, int64(m.rand.IntN(10)))
	}
	both(m, "Poll", poll, func(s store.Store) (*store.Polled, error) { return s.Poll(ctx, poll) })
	except, most := pick(m, nil, nil, modelFuncs[:2]), m.rand.IntN(4)+1
	both(m, "Waiting", except, func(s store.Store) (map[string]int, error) { return s.Waiting(ctx, except, most) })
	both(m, "Workers", nil, func(s store.Store) ([]*store.Worker, error) { return s.Workers(ctx) })
	q := m.listQuery()
	m.list(ctx, q)
}

func (m *model) compareTask(ctx context.Context, id string) {
	both(m, "Get", id, func(s store.Store) (*store.Task, error) { return s.Get(ctx, id) })
	turns := store.TurnsQuery{TaskID: id, After: int64(m.rand.IntN(3)), Limit: m.rand.IntN(5) + 1}
	m.turns(ctx, turns)
	events := store.EventsQuery{TaskID: id, After: int64(m.rand.IntN(5)), Limit: m.rand.IntN(6) + 1, Committed: m.chance(50)}
	both(m, "Events", events, func(s store.Store) (*store.EventPage, error) { return s.Events(ctx, events) })
	turn := store.TurnQuery{TaskID: id, Number: int64(m.rand.IntN(4)), Input: m.chance(50), Output: m.chance(50)}
	both(m, "Turn", turn, func(s store.Store) (*store.Turn, error) { return s.Turn(ctx, turn) })
	turn = store.TurnQuery{TaskID: id, InputID: fmt.Sprintf("i%d", m.rand.IntN(m.inputs+1)), Input: m.chance(50), Output: m.chance(50)}
	both(m, "Turn", turn, func(s store.Store) (*store.Turn, error) { return s.Turn(ctx, turn) })
}

// list and turns compare pages, and that there is more after one that says so not.
func (m *model) list(ctx context.Context, q store.ListQuery) {
	m.Helper()
	page, _ := both(m, "List", q, func(s store.Store) (*store.TaskPage, error) { return s.List(ctx, q) })
	if page.More || len(page.Tasks) == 0 {
		return
	}
	q.Before = page.Tasks[len(page.Tasks)-1].Incarnation
	if rest, err := m.oracle.List(ctx, q); err != nil || len(rest.Tasks) > 0 {
		m.Fatalf("step %d: a page says that it is the last, and %d tasks follow (%v)", m.step, len(rest.Tasks), err)
	}
}

func (m *model) turns(ctx context.Context, q store.TurnsQuery) {
	m.Helper()
	page, err := both(m, "Turns", q, func(s store.Store) (*store.TurnPage, error) { return s.Turns(ctx, q) })
	if err != nil || page.More || len(page.Turns) == 0 {
		return
	}
	q.After = page.Turns[len(page.Turns)-1].Number
	if rest, err := m.oracle.Turns(ctx, q); err != nil || len(rest.Turns) > 0 {
		m.Fatalf("step %d: a page says that it is the last, and %d turns follow (%v)", m.step, len(rest.Turns), err)
	}
}

func (m *model) listQuery() store.ListQuery {
	q := store.ListQuery{Limit: m.rand.IntN(4) + 1, Before: int64(pick(m, 0, 0, 3, 6))}
	if m.chance(30) {
		q.Funcs = pick(m, []string{"chat"}, []string{"job", "short"})
	}
	if m.chance(40) {
		q.Statuses = pick(m, []store.Status{store.Pending}, []store.Status{store.Suspended, store.InProgress}, []store.Status{store.Completed})
	}
	q.Session, q.Agent = pick(m, "", "", "s"), pick(m, "", "", "a")
	q.Worker = pick(m, "", "", "", "w1")
	q.Tags = pick(m, nil, nil, map[string]string{"k": "v"}, map[string]string{"k": "w", "l": ""})
	return q
}
