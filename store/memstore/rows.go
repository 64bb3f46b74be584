package memstore

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/rules"
)

// rows are the tables. Store.mu guards them. What goes in and out is copied; byte slices and label maps
// are shared because nobody changes them.
type rows struct {
	lastIncarnation int64
	lastMail        int64

	tasks    map[int64]*store.Task
	ids      map[string]int64
	turns    map[int64]map[int64]*store.Turn
	inputs   map[int64]map[string]int64
	metadata map[int64]map[string][]byte
	events   map[int64][]store.Event
	workers  map[string]*store.Worker
	mail     map[string][]store.Mail
	funcs    map[string]store.Settings

	// Indexes over tasks, kept by index.
	due     map[int64]bool
	leased  map[string]map[int64]bool
	expires map[int64]bool
	trim    map[int64]bool
}

var _ rules.Rows = (*rows)(nil)

func newRows() *rows {
	return &rows{
		tasks: map[int64]*store.Task{}, ids: map[string]int64{}, turns: map[int64]map[int64]*store.Turn{},
		inputs: map[int64]map[string]int64{}, metadata: map[int64]map[string][]byte{}, events: map[int64][]store.Event{},
		workers: map[string]*store.Worker{}, mail: map[string][]store.Mail{}, funcs: map[string]store.Settings{},
		due: map[int64]bool{}, leased: map[string]map[int64]bool{}, expires: map[int64]bool{},
		trim: map[int64]bool{},
	}
}

func (r *rows) Sole() bool { return false }

func (r *rows) task(incarnation int64) *store.Task {
	t := r.tasks[incarnation]
	if t == nil {
		return nil
	}
	c := *t
	return &c
}

func (r *rows) TaskByID(id string) (*store.Task, error) { return r.task(r.ids[id]), nil }

func (r *rows) Task(incarnation int64) (*store.Task, error) { return r.task(incarnation), nil }

func (r *rows) InsertTask(t *store.Task) error {
	if t.Incarnation == 0 {
		t.Incarnation = r.lastIncarnation + 1
	}
	r.lastIncarnation = max(r.lastIncarnation, t.Incarnation)
	r.ids[t.ID] = t.Incarnation
	r.turns[t.Incarnation] = map[int64]*store.Turn{}
	r.inputs[t.Incarnation] = map[string]int64{}
	return r.UpdateTask(t)
}

func (r *rows) UpdateTask(t *store.Task) error {
	r.index(t.Incarnation, false)
	c := *t
	c.Metadata = nil
	r.tasks[t.Incarnation] = &c
	r.index(t.Incarnation, true)
	return nil
}

// index adds a task to the indexes, or takes it out.
func (r *rows) index(incarnation int64, add bool) {
	t := r.tasks[incarnation]
	if t == nil {
		return
	}
	if !t.DueAt.IsZero() {
		set(r.due, incarnation, add)
	}
	if !t.ExpiresAt.IsZero() {
		set(r.expires, incarnation, add)
	}
	if !t.TrimAt.IsZero() {
		set(r.trim, incarnation, add)
	}
	if t.Worker == "" {
		return
	}
	if r.leased[t.Worker] == nil {
		r.leased[t.Worker] = map[int64]bool{}
	}
	set(r.leased[t.Worker], incarnation, add)
}

func set(m map[int64]bool, key int64, add bool) {
	if add {
		m[key] = true
	} else {
		delete(m, key)
	}
}

func (r *rows) DeleteTask(incarnation int64) error {
	r.index(incarnation, false)
	if t := r.tasks[incarnation]; t != nil {
		delete(r.ids, t.ID)
	}
	delete(r.tasks, incarnation)
	delete(r.turns, incarnation)
	delete(r.inputs, incarnation)
	delete(r.metadata, incarnation)
	delete(r.events, incarnation)
	return nil
}

func (r *rows) Turn(incarnation, number int64) (*store.Turn, error) {
	turn := r.turns[incarnation][number]
	if turn == nil {
		return nil, nil
	}
	c := *turn
	return &c, nil
}

func (r *rows) TurnByInput(incarnation int64, inputID string) (*store.Turn, error) {
	return r.Turn(incarnation, r.inputs[incarnation][inputID])
}

func (r *rows) firstTurn(incarnation int64) int64 {
	first := int64(1)
	for n := range r.turns[incarnation] {
		first = n
		break
	}
	for n := range r.turns[incarnation] {
		first = min(first, n)
	}
	return first
}

func (r *rows) Queued(incarnation, after int64, limit int) ([]*store.Turn, error) {
	var queued []*store.Turn
	last := r.tasks[incarnation].LastTurn
	for n := after + 1; n <= last && len(queued) < limit; n++ {
		if turn, _ := r.Turn(incarnation, n); turn != nil && !turn.Status.Outcome() {
			queued = append(queued, turn)
		}
	}
	return queued, nil
}

func (r *rows) LastEntered(incarnation, before int64) (*store.Turn, error) {
	for n := before - 1; n > 0; n-- {
		turn, _ := r.Turn(incarnation, n)
		if turn == nil {
			break
		}
		if !turn.StartedAt.IsZero() {
			return turn, nil
		}
	}
	return nil, nil
}

func (r *rows) InsertTurn(t *store.Turn) error {
	c := *t
	r.turns[t.Incarnation][t.Number] = &c
	r.inputs[t.Incarnation][t.InputID] = t.Number
	return nil
}

func (r *rows) EndTurn(t *store.Turn) error {
	row := r.turns[t.Incarnation][t.Number]
	c := *t
	c.InputID, c.Input, c.Digest, c.Deliver, c.AcceptedAt = row.InputID, row.Input, row.Digest, row.Deliver, row.AcceptedAt
	r.turns[t.Incarnation][t.Number] = &c
	return nil
}

func (r *rows) PruneTurns(incarnation, upTo int64) (lastEvent int64, err error) {
	for n := upTo; n > 0; n-- {
		turn := r.turns[incarnation][n]
		if turn == nil {
			break
		}
		delete(r.inputs[incarnation], turn.InputID)
		delete(r.turns[incarnation], n)
		lastEvent = max(lastEvent, turn.EndEvent)
	}
	return lastEvent, nil
}

func (r *rows) Metadata(incarnation int64) (map[string][]byte, error) {
	m := maps.Clone(r.metadata[incarnation])
	if m == nil {
		m = map[string][]byte{}
	}
	return m, nil
}

func (r *rows) SetMetadata(incarnation int64, changes []store.Change) error {
	m := r.metadata[incarnation]
	if m == nil {
		m = map[string][]byte{}
		r.metadata[incarnation] = m
	}
	for _, c := range changes {
		if c.Value == nil {
			delete(m, c.Key)
		} else {
			m[c.Key] = c.Value
		}
	}
	return nil
}

func (r *rows) AppendEvents(incarnation int64, events []store.Event) error {
	r.events[incarnation] = append(r.events[incarnation], events...)
	return nil
}

func (r *rows) DropEvents(incarnation, below int64, limit int) (more bool, err error) {
	events := r.events[incarnation]
	n := 0
	for n < len(events) && events[n].Number < below && n < limit {
		n++
	}
	r.events[incarnation] = slices.Delete(events, 0, n)
	return n == limit, nil
}

func (r *rows) EmittedBefore(incarnation int64, at time.Time) (number int64, next time.Time, err error) {
	for _, e := range r.events[incarnation] {
		if e.At.After(at) {
			return number, e.At, nil
		}
		number = e.Number
	}
	return number, next, nil
}

func (r *rows) Worker(id string) (*store.Worker, error) {
	w := r.workers[id]
	if w == nil {
		return nil, nil
	}
	c := *w
	return &c, nil
}

func (r *rows) PutWorker(w *store.Worker) error {
	c := *w
	r.workers[w.ID] = &c
	return nil
}

func (r *rows) DeleteWorker(id string) error {
	delete(r.workers, id)
	delete(r.mail, id)
	if len(r.leased[id]) == 0 {
		delete(r.leased, id)
	}
	return nil
}

func (r *rows) Workers() ([]*store.Worker, error) {
	var workers []*store.Worker
	for id := range r.workers {
		w, _ := r.Worker(id)
		workers = append(workers, w)
	}
	slices.SortFunc(workers, func(a, b *store.Worker) int {
		return cmp.Or(a.StartedAt.Compare(b.StartedAt), cmp.Compare(a.ID, b.ID))
	})
	return workers, nil
}

func (r *rows) AddMail(m store.Mail) error {
	r.lastMail++
	m.Seq = r.lastMail
	r.mail[m.Worker] = append(r.mail[m.Worker], m)
	return nil
}

func (r *rows) DropMail(worker string, upTo int64) error {
	r.mail[worker] = slices.DeleteFunc(r.mail[worker], func(m store.Mail) bool { return m.Seq <= upTo })
	return nil
}

func (r *rows) Published(name string) (*store.Settings, error) {
	s, ok := r.funcs[name]
	if !ok {
		return nil, nil
	}
	return &s, nil
}

func (r *rows) Publish(f store.PublishedFunc) error {
	r.funcs[f.Name] = f.Settings
	return nil
}

// where returns copies of the tasks of an index that a predicate picks, oldest first by the given time.
func (r *rows) where(index map[int64]bool, limit int, at func(*store.Task) time.Time, pick func(*store.Task) bool) []*store.Task {
	var tasks []*store.Task
	for k := range index {
		if t := r.tasks[k]; pick(t) {
			tasks = append(tasks, t)
		}
	}
	slices.SortFunc(tasks, func(a, b *store.Task) int {
		return cmp.Or(at(a).Compare(at(b)), cmp.Compare(a.Incarnation, b.Incarnation))
	})
	if limit >= 0 && len(tasks) > limit {
		tasks = tasks[:limit]
	}
	for i, t := range tasks {
		tasks[i] = r.task(t.Incarnation)
	}
	return tasks
}

func dueAt(t *store.Task) time.Time { return t.DueAt }

func (r *rows) LeasedTo(worker string, limit int) ([]*store.Task, error) {
	none := func(*store.Task) time.Time { return time.Time{} }
	return r.where(r.leased[worker], limit, none, func(*store.Task) bool { return true }), nil
}

func (r *rows) Due(fn string, suspect bool, now time.Time, limit int) ([]*store.Task, error) {
	return r.where(r.due, limit, dueAt, func(t *store.Task) bool {
		return t.Func == fn && t.Suspect == suspect && !t.DueAt.After(now)
	}), nil
}

func (r *rows) NextDue(fn string, now time.Time) (time.Time, error) {
	tasks := r.where(r.due, 1, dueAt, func(t *store.Task) bool { return t.Func == fn && t.DueAt.After(now) })
	if len(tasks) == 0 {
		return time.Time{}, nil
	}
	return tasks[0].DueAt, nil
}

func (r *rows) Expired(now time.Time, limit int) ([]*store.Task, error) {
	at := func(t *store.Task) time.Time { return t.ExpiresAt }
	return r.where(r.expires, limit, at, func(t *store.Task) bool { return !t.ExpiresAt.After(now) }), nil
}

func (r *rows) Overdue(now time.Time, limit int) ([]*store.Task, error) {
	deadline := func(t *store.Task) time.Time { return t.Turn.Deadline }
	return r.where(r.due, limit, deadline, func(t *store.Task) bool {
		retrying := t.Wait == store.WaitRetry || t.Wait == store.WaitStrict
		return retrying && !t.Turn.Deadline.IsZero() && !t.Turn.Deadline.After(now)
	}), nil
}

func (r *rows) Trimmable(now time.Time, limit int) ([]*store.Task, error) {
	at := func(t *store.Task) time.Time { return t.TrimAt }
	return r.where(r.trim, limit, at, func(t *store.Task) bool { return !t.TrimAt.After(now) }), nil
}
