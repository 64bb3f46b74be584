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
	lastPlace       int64

	tasks    map[int64]*store.Task
	ids      map[string]int64
	turns    map[int64]map[int64]*store.Turn
	inputs   map[int64]map[string]int64
	metadata map[int64]map[string][]byte
	events   map[int64][][]store.Event // by call of AppendEvents
	workers  map[string]*store.Worker
	mail     map[string][]store.Mail
	funcs    map[string]store.Settings
	removed  map[int64]bool // tasks whose rows beside their own are to be removed
	requests map[request]*rules.Request

	// Indexes over tasks, kept by index.
	due     map[int64]bool
	leased  map[string]map[int64]bool
	expires map[int64]bool
	trim    map[int64]bool
	ending  map[int64]bool
}

type request struct{ task, id string }

var _ rules.Rows = (*rows)(nil)

func newRows() *rows {
	return &rows{
		tasks: map[int64]*store.Task{}, ids: map[string]int64{}, turns: map[int64]map[int64]*store.Turn{},
		inputs: map[int64]map[string]int64{}, metadata: map[int64]map[string][]byte{}, events: map[int64][][]store.Event{},
		workers: map[string]*store.Worker{}, mail: map[string][]store.Mail{}, funcs: map[string]store.Settings{},
		removed: map[int64]bool{}, requests: map[request]*rules.Request{},
		due: map[int64]bool{}, leased: map[string]map[int64]bool{}, expires: map[int64]bool{},
		trim: map[int64]bool{}, ending: map[int64]bool{},
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
	if t.Due {
		set(r.due, incarnation, add)
	}
	if !t.EndBy.IsZero() {
		set(r.ending, incarnation, add)
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
	return nil
}

func (r *rows) NextPlace(above int64) (int64, error) {
	r.lastPlace = max(r.lastPlace, above) + 1
	return r.lastPlace, nil
}

func (r *rows) Abandon(incarnation int64) error {
	r.removed[incarnation] = true
	return nil
}

func (r *rows) Abandoned(limit int) ([]int64, error) {
	tasks := slices.Sorted(maps.Keys(r.removed))
	return tasks[:min(limit, len(tasks))], nil
}

func (r *rows) DropRows(incarnation int64, limit int) (dropped int, more bool, err error) {
	drop := func(have int) int {
		n := min(have, limit-dropped)
		dropped += n
		return n
	}
	r.events[incarnation] = r.events[incarnation][drop(len(r.events[incarnation])):]
	dropFirst(r.turns[incarnation], drop(len(r.turns[incarnation])))
	dropFirst(r.metadata[incarnation], drop(len(r.metadata[incarnation])))
	if len(r.events[incarnation])+len(r.turns[incarnation])+len(r.metadata[incarnation]) > 0 {
		return dropped, true, nil
	}
	delete(r.events, incarnation)
	delete(r.turns, incarnation)
	delete(r.inputs, incarnation)
	delete(r.metadata, incarnation)
	delete(r.removed, incarnation)
	return dropped, false, nil
}

// dropFirst removes the first n keys.
func dropFirst[K cmp.Ordered, V any](m map[K]V, n int) {
	for _, k := range slices.Sorted(maps.Keys(m))[:n] {
		delete(m, k)
	}
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
	r.events[incarnation] = append(r.events[incarnation], slices.Clone(events))
	return nil
}

func (r *rows) DropEvents(incarnation, below int64, limit int) (dropped int, more bool, err error) {
	flushes := r.events[incarnation]
	for dropped < len(flushes) && dropped < limit && lastOf(flushes[dropped]).Number < below {
		dropped++
	}
	r.events[incarnation] = flushes[dropped:]
	return dropped, dropped == limit, nil
}

func lastOf(flush []store.Event) *store.Event { return &flush[len(flush)-1] }

func (r *rows) EmittedBefore(incarnation int64, at time.Time, limit int) (number int64, next time.Time, err error) {
	flushes := r.events[incarnation]
	for _, flush := range flushes[:min(limit, len(flushes))] {
		e := lastOf(flush)
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

func alive(w *store.Worker, now time.Time) bool { return !w.Dead && now.Before(w.ExpiresAt) }

func (r *rows) Served(fn string, now time.Time) (bool, error) {
	for _, w := range r.workers {
		if alive(w, now) && slices.Contains(w.Funcs, fn) {
			return true, nil
		}
	}
	return false, nil
}

func (r *rows) Request(task, id string) (*rules.Request, error) {
	return r.requests[request{task, id}], nil
}

func (r *rows) Remember(req *rules.Request) error {
	r.requests[request{req.Task, req.ID}] = req
	return nil
}

func (r *rows) Forget(before time.Time, limit int) (more bool, err error) {
	for key, req := range r.requests {
		if req.At.After(before) {
			continue
		}
		if limit == 0 {
			return true, nil
		}
		limit--
		delete(r.requests, key)
	}
	return false, nil
}

// Lapsed returns all workers: rules look at each.
func (r *rows) Lapsed(time.Time) ([]*store.Worker, error) {
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

// where returns copies of the tasks of an index that a predicate picks, in the order of a number.
func (r *rows) where(index map[int64]bool, limit int, at func(*store.Task) int64, pick func(*store.Task) bool) []*store.Task {
	var tasks []*store.Task
	for k := range index {
		if t := r.tasks[k]; pick(t) {
			tasks = append(tasks, t)
		}
	}
	slices.SortFunc(tasks, func(a, b *store.Task) int {
		return cmp.Or(cmp.Compare(at(a), at(b)), cmp.Compare(a.Incarnation, b.Incarnation))
	})
	if limit >= 0 && len(tasks) > limit {
		tasks = tasks[:limit]
	}
	for i, t := range tasks {
		tasks[i] = r.task(t.Incarnation)
	}
	return tasks
}

func none(*store.Task) int64 { return 0 }

func (r *rows) LeasedTo(worker string, limit int) ([]*store.Task, bool, error) {
	tasks := r.where(r.leased[worker], limit, none, func(*store.Task) bool { return true })
	return tasks, len(tasks) == len(r.leased[worker]), nil
}

func (r *rows) LeasedBy(worker string, request int64) ([]*store.Task, error) {
	return r.where(r.leased[worker], -1, none, func(t *store.Task) bool { return t.Request == request }), nil
}

func (r *rows) Due(now time.Time, plain, suspects []store.ClaimFunc) (due []*store.Task, err error) {
	for _, f := range plain {
		due = append(due, r.dueOf(f, false, now)...)
	}
	for _, f := range suspects {
		due = append(due, r.dueOf(f, true, now)...)
	}
	return due, nil
}

// dueOf takes the first of those that waited for a time by that time, as stores do that cannot put all of them in order.
func (r *rows) dueOf(f store.ClaimFunc, suspect bool, now time.Time) []*store.Task {
	place := func(t *store.Task) int64 { return t.Place }
	due := r.where(r.due, -1, place, func(t *store.Task) bool {
		return t.Func == f.Name && t.Suspect == suspect && !t.NotBefore.After(now)
	})
	slices.SortStableFunc(due, func(a, b *store.Task) int { return a.NotBefore.Compare(b.NotBefore) })
	timed := slices.IndexFunc(due, func(t *store.Task) bool { return !t.NotBefore.IsZero() })
	if timed < 0 {
		timed = len(due)
	}
	atOnce, byTime := due[:timed], due[timed:]
	return rules.InLine(f.Limit, atOnce[:min(f.Limit, len(atOnce))], byTime[:min(f.Limit, len(byTime))])
}

func (r *rows) NextDue(now time.Time, funcs []string) (time.Time, error) {
	at := func(t *store.Task) int64 { return t.NotBefore.UnixMicro() }
	tasks := r.where(r.due, 1, at, func(t *store.Task) bool { return slices.Contains(funcs, t.Func) && t.NotBefore.After(now) })
	if len(tasks) == 0 {
		return time.Time{}, nil
	}
	return tasks[0].NotBefore, nil
}

func (r *rows) Expired(now time.Time, limit int) ([]*store.Task, error) {
	at := func(t *store.Task) int64 { return t.ExpiresAt.UnixMicro() }
	return r.where(r.expires, limit, at, func(t *store.Task) bool { return !t.ExpiresAt.After(now) }), nil
}

func (r *rows) Ending(now time.Time, limit int) ([]*store.Task, error) {
	at := func(t *store.Task) int64 { return t.EndBy.UnixMicro() }
	return r.where(r.ending, limit, at, func(t *store.Task) bool { return !t.EndBy.After(now) }), nil
}

func (r *rows) Trimmable(now time.Time, limit int) ([]*store.Task, error) {
	at := func(t *store.Task) int64 { return t.TrimAt.UnixMicro() }
	return r.where(r.trim, limit, at, func(t *store.Task) bool { return !t.TrimAt.After(now) }), nil
}
