package engine

import (
	"maps"
	"slices"
	"time"

	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/rules"
)

// oneTask is the rows of a store that knows a single task ID. A copy of it shares what it points to: each change replaces
// that, so that what follows from a state can be tried without losing the state.
type oneTask struct {
	task     *store.Task // nil: absent
	turns    []store.Turn
	events   int // flushes; what is in them is another test's affair
	workers  map[string]store.Worker
	mail     []store.Mail
	requests map[string]rules.Request
	last     int64 // incarnation
	lastMail int64
	places   int64
}

var _ rules.Rows = (*oneTask)(nil)

func newOneTask() *oneTask {
	return &oneTask{workers: map[string]store.Worker{}, requests: map[string]rules.Request{}}
}

func (r *oneTask) copy() *oneTask {
	c := *r
	return &c
}

func (r *oneTask) Sole() bool { return false }

func (r *oneTask) TaskByID(string) (*store.Task, error) { return r.row(), nil }

func (r *oneTask) row() *store.Task {
	if r.task == nil {
		return nil
	}
	t := *r.task
	return &t
}

func (r *oneTask) Task(incarnation int64) (*store.Task, error) {
	if r.task == nil || r.task.Incarnation != incarnation {
		return nil, nil
	}
	return r.row(), nil
}

func (r *oneTask) InsertTask(t *store.Task) error {
	r.last++
	t.Incarnation = r.last
	return r.UpdateTask(t)
}

func (r *oneTask) UpdateTask(t *store.Task) error {
	c := *t
	c.Metadata = nil
	r.task = &c
	return nil
}

func (r *oneTask) DeleteTask(int64) error {
	r.task, r.turns, r.events = nil, nil, 0
	return nil
}

func (r *oneTask) NextPlace(above int64) (int64, error) {
	r.places = max(r.places, above) + 1
	return r.places, nil
}

func (r *oneTask) Abandon(int64) error                    { return nil }
func (r *oneTask) Abandoned(int) ([]int64, error)         { return nil, nil }
func (r *oneTask) DropRows(int64, int) (int, bool, error) { return 0, false, nil }

func (r *oneTask) Turn(_, number int64) (*store.Turn, error) {
	if number < 1 || number > int64(len(r.turns)) {
		return nil, nil
	}
	t := r.turns[number-1]
	return &t, nil
}

func (r *oneTask) TurnByInput(_ int64, input string) (*store.Turn, error) {
	for _, t := range r.turns {
		if t.InputID == input {
			return &t, nil
		}
	}
	return nil, nil
}

func (r *oneTask) Queued(_, after int64, limit int) (queued []*store.Turn, err error) {
	for _, t := range r.turns {
		if t.Number > after && !t.Status.Outcome() && len(queued) < limit {
			queued = append(queued, &t)
		}
	}
	return queued, nil
}

func (r *oneTask) LastEntered(_, before int64) (last *store.Turn, err error) {
	for _, t := range r.turns {
		if t.Number < before && !t.StartedAt.IsZero() {
			last = &t
		}
	}
	return last, nil
}

func (r *oneTask) InsertTurn(t *store.Turn) error {
	r.turns = append(slices.Clip(r.turns), *t)
	return nil
}

func (r *oneTask) EndTurn(t *store.Turn) error {
	r.turns = slices.Clone(r.turns)
	row := &r.turns[t.Number-1]
	c := *t
	c.InputID, c.Digest, c.Deliver = row.InputID, row.Digest, row.Deliver
	*row = c
	return nil
}

func (r *oneTask) PruneTurns(int64, int64) (int64, error)                { return 0, nil }
func (r *oneTask) Metadata(int64) (map[string][]byte, error)             { return nil, nil }
func (r *oneTask) SetMetadata(int64, []store.Change) error               { return nil }
func (r *oneTask) AppendEvents(int64, []store.Event) error               { r.events++; return nil }
func (r *oneTask) DropEvents(int64, int64, int) (int, bool, error)       { return 0, false, nil }
func (r *oneTask) Publish(store.PublishedFunc) error                     { return nil }
func (r *oneTask) Published(string) (*store.Settings, error)             { return nil, nil }
func (r *oneTask) Expired(time.Time, int) ([]*store.Task, error)         { return nil, nil }
func (r *oneTask) Trimmable(time.Time, int) ([]*store.Task, error)       { return nil, nil }
func (r *oneTask) Forget(time.Time, int) (bool, error)                   { return false, nil }
func (r *oneTask) NextDue(time.Time, []string) (at time.Time, err error) { return at, nil }

func (r *oneTask) EmittedBefore(int64, time.Time, int) (number int64, next time.Time, err error) {
	return 0, next, nil
}

func (r *oneTask) Worker(id string) (*store.Worker, error) {
	w, ok := r.workers[id]
	if !ok {
		return nil, nil
	}
	return &w, nil
}

func (r *oneTask) PutWorker(w *store.Worker) error {
	r.workers = maps.Clone(r.workers)
	r.workers[w.ID] = *w
	return nil
}

func (r *oneTask) DeleteWorker(id string) error {
	r.workers = maps.Clone(r.workers)
	delete(r.workers, id)
	r.dropMail(func(m store.Mail) bool { return m.Worker == id })
	return nil
}

func (r *oneTask) Lapsed(time.Time) (all []*store.Worker, err error) {
	for _, id := range slices.Sorted(maps.Keys(r.workers)) {
		w := r.workers[id]
		all = append(all, &w)
	}
	return all, nil
}

func (r *oneTask) Served(_ string, now time.Time) (bool, error) {
	for _, w := range r.workers {
		if !w.Dead && now.Before(w.ExpiresAt) {
			return true, nil
		}
	}
	return false, nil
}

func (r *oneTask) AddMail(m store.Mail) error {
	r.lastMail++
	m.Seq = r.lastMail
	r.mail = append(slices.Clip(r.mail), m)
	return nil
}

func (r *oneTask) dropMail(drop func(store.Mail) bool) {
	r.mail = slices.DeleteFunc(slices.Clone(r.mail), drop)
}

func (r *oneTask) Request(_, id string) (*rules.Request, error) {
	req, ok := r.requests[id]
	if !ok {
		return nil, nil
	}
	return &req, nil
}

func (r *oneTask) Remember(req *rules.Request) error {
	r.requests = maps.Clone(r.requests)
	r.requests[req.ID] = *req
	return nil
}

func (r *oneTask) pick(there bool) ([]*store.Task, error) {
	if !there {
		return nil, nil
	}
	return []*store.Task{r.row()}, nil
}

func (r *oneTask) LeasedTo(worker string, _ int) (tasks []*store.Task, all bool, err error) {
	tasks, err = r.pick(r.task != nil && r.task.Worker == worker)
	return tasks, true, err
}

func (r *oneTask) LeasedBy(worker string, request int64) ([]*store.Task, error) {
	return r.pick(r.task != nil && r.task.Worker == worker && r.task.Request == request)
}

func (r *oneTask) Due(now time.Time, plain, suspects []store.ClaimFunc) ([]*store.Task, error) {
	return r.pick(len(plain) > 0 && r.task != nil && r.task.Due && (len(suspects) > 0 || !r.task.Suspect) && !r.task.NotBefore.After(now))
}

func (r *oneTask) Ending(now time.Time, _ int) ([]*store.Task, error) {
	return r.pick(r.task != nil && !r.task.EndBy.IsZero() && !r.task.EndBy.After(now))
}
