package pgstore

import "github.com/jackc/pgx/v5"

// wants is what a list of operations names.
type wants struct {
	ids      []string
	create   []bool         // for each of ids: an incarnation is wanted if there is no such task
	at       map[string]int // where in ids a task ID is
	keys     unique[int64]
	workers  unique[string] // to be kept from being reaped
	renew    []string       // to be renewed
	remove   []string       // to be removed
	inputs   []string       // for each of inputID the task ID
	inputID  []string
	funcs    unique[string]
	requests unique[requestKey]
	places   bool             // tasks are likely to begin to wait
	exists   map[string]int64 // by task ID, locked or not
	busy     map[int64]bool   // tasks that are there and locked by others
}

// unique is a list of different things.
type unique[K comparable] struct {
	list []K
	seen map[K]bool
}

func (u *unique[K]) add(k K) {
	if u.seen[k] {
		return
	}
	if u.seen == nil {
		u.seen = map[K]bool{}
	}
	u.seen[k] = true
	u.list = append(u.list, k)
}

func (t *tx) wants(ops []*op) *wants {
	w := &wants{exists: map[string]int64{}, busy: map[int64]bool{}, at: map[string]int{}}
	for _, o := range ops {
		w.places = w.places || o.waits
		if o.id != "" {
			w.task(o)
		}
		if o.key != 0 {
			w.keys.add(o.key)
		}
		if o.request != "" {
			w.requests.add(requestKey{o.id, o.request})
		}
		if o.worker != "" {
			w.worker(o)
		}
		if o.offer != nil {
			w.offer(o)
		}
	}
	return w
}

func (w *wants) task(o *op) {
	at, seen := w.at[o.id]
	if !seen {
		at = len(w.ids)
		w.at[o.id] = at
		w.ids, w.create = append(w.ids, o.id), append(w.create, false)
	}
	w.create[at] = w.create[at] || o.offer != nil && o.offer.Settings != nil
}

func (w *wants) worker(o *op) {
	switch {
	case o.beat == nil:
		w.workers.add(o.worker)
	case o.beat.Leave:
		w.remove = append(w.remove, o.worker)
	default:
		w.renew = append(w.renew, o.worker)
		if o.beat.Replaces != "" {
			w.remove = append(w.remove, o.beat.Replaces)
		}
	}
}

func (w *wants) offer(o *op) {
	w.inputs, w.inputID = append(w.inputs, o.offer.TaskID), append(w.inputID, o.offer.InputID)
	if o.offer.Lease {
		w.workers.add(o.offer.Worker)
	}
	if o.offer.Settings == nil {
		w.funcs.add(o.offer.Func)
	}
}

// queue reads and locks what is wanted: workers, then tasks, then what is read under the locks of tasks.
func (w *wants) queue(t *tx, b *pgx.Batch) {
	for _, lock := range []struct {
		sql     string
		workers []string
	}{{sqlKeepWorkers, w.workers.list}, {sqlRenewWorkers, w.renew}, {sqlLockWorkers, w.remove}} {
		for _, id := range lock.workers {
			t.workers[id] = nil
		}
		if len(lock.workers) > 0 {
			b.Queue(t.s.sql(lock.sql), lock.workers).Query(each(t.scanWorker))
		}
	}
	if len(w.ids) > 0 {
		b.Queue(t.s.sql(t.locking(sqlTasksByID)), w.ids).Query(each(t.scanLocked))
		b.Queue(t.s.sql(sqlExist), w.ids, w.create).Query(each(func(rows pgx.Rows) error { return w.scanExists(t, rows) }))
	}
	if len(w.keys.list) > 0 {
		b.Queue(t.s.sql(t.locking(sqlTasksByKey)), w.keys.list).Query(each(t.scanLocked))
	}
	if len(w.inputs) > 0 {
		b.Queue(t.s.sql(sqlKnownTurns), w.inputs, w.inputID).Query(each(t.scanKnown))
	}
	if len(w.requests.list) > 0 {
		t.queueRequests(b, w.requests.list)
	}
	if len(w.funcs.list) > 0 {
		for _, name := range w.funcs.list {
			t.funcs[name] = nil
		}
		b.Queue(t.s.sql(sqlPublished), w.funcs.list).Query(each(t.scanPublished))
	}
	if w.places {
		t.queuePlaces(b)
	}
}

// locking returns the statement as one that waits for locks, or one that leaves out what is locked.
func (t *tx) locking(sql string) string {
	if !t.wait.skips {
		return sql
	}
	return sql + skipLocked
}

const skipLocked = ` SKIP LOCKED`

// sqlExist tells which tasks there are, locked or not, and gives incarnations to those that will be created.
const sqlExist = `SELECT w.id, coalesce(t.key, 0),
		CASE WHEN t.key IS NULL AND w.make THEN nextval('perdure.incarnations') ELSE 0 END
	FROM unnest($1::text[], $2::boolean[]) AS w (id, make) LEFT JOIN perdure.tasks t ON t.id = w.id`

func (w *wants) scanExists(t *tx, rows pgx.Rows) error {
	var id string
	var key, given int64
	if err := rows.Scan(&id, &key, &given); err != nil {
		return err
	}
	w.exists[id] = key
	if given != 0 {
		t.keys[id] = given
	}
	return nil
}

const sqlKeysExist = `SELECT key FROM perdure.tasks WHERE key = ANY($1)`

// locked notes which tasks are not there, and which somebody else has locked.
func (w *wants) locked(t *tx) error {
	for _, id := range w.ids {
		if _, ok := t.ids[id]; ok {
			continue
		}
		if key := w.exists[id]; key != 0 { // or has just been made
			w.busy[key] = true
			continue
		}
		t.ids[id] = nil
	}
	for i, id := range w.inputs {
		if r := t.ids[id]; r != nil {
			r.inputs[w.inputID[i]] = r.inputs[w.inputID[i]] // 0: there is no such turn
		}
	}
	var missing []int64
	for _, key := range w.keys.list {
		if t.tasks[key] == nil {
			t.tasks[key] = nil
			missing = append(missing, key)
		}
	}
	if len(missing) == 0 || !t.wait.skips {
		return nil
	}
	return t.query(sqlKeysExist, func(rows pgx.Rows) error {
		var key int64
		err := rows.Scan(&key)
		w.busy[key] = true
		return err
	}, missing)
}

func (w *wants) missed(o *op) bool {
	if o.id != "" {
		return w.busy[w.exists[o.id]]
	}
	return w.busy[o.key]
}
