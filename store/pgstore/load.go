package pgstore

import (
	"github.com/jackc/pgx/v5"

	"github.com/perdure/perdure/store"
)

// preload reads at once, for all operations, what the rules would else ask for one after the other. It is only for
// speed.
func (t *tx) preload(ops []*op) error {
	var entries []*taskRow
	prune, promotes := map[int64]int64{}, false
	for _, o := range ops {
		r := t.tasks[o.key]
		if o.id != "" {
			r = t.ids[o.id]
		}
		if r == nil {
			continue
		}
		if o.settle != nil && r.task.Queued > 0 || o.offer != nil && o.offer.Lease && r.task.Status == store.Suspended {
			entries = append(entries, r)
			promotes = promotes || o.settle != nil && !o.settle.KeepLease
		}
		if keep := int64(r.task.Settings.KeepTurns); o.settle != nil && keep > 0 && r.task.Turn.Number > keep {
			prune[o.key] = r.task.Turn.Number - keep
		}
	}
	b := &pgx.Batch{}
	if promotes {
		t.queuePlaces(b)
	}
	t.queueEntries(b, entries)
	if len(prune) > 0 {
		var tasks, upTo []int64
		for task, number := range prune {
			tasks, upTo = append(tasks, task), append(upTo, number)
		}
		b.Queue(t.s.sql(sqlPrunable), tasks, upTo).Query(each(t.scanPrunable(prune)))
	}
	if b.Len() == 0 {
		return nil
	}
	return t.send(b)
}

// loadEntries reads what the entry of tasks' current turns wants to know.
func (t *tx) loadEntries(tasks []*store.Task) error {
	if len(tasks) == 0 {
		return nil
	}
	rows := make([]*taskRow, len(tasks))
	for i, task := range tasks {
		rows[i] = t.tasks[task.Incarnation]
	}
	b := &pgx.Batch{}
	t.queueEntries(b, rows)
	return t.send(b)
}

// sqlEntries reads of each task the current turn, the last one that was entered before, and the first that waits.
const sqlEntries = `SELECT u.* FROM unnest($1::bigint[], $2::bigint[]) AS w (wanted, current)
	JOIN LATERAL (
		(SELECT ` + turnColumns + turnPayload + ` FROM perdure.turns WHERE task = w.wanted AND number = w.current)
		UNION ALL
		(SELECT ` + turnColumns + turnPayload + ` FROM perdure.turns WHERE task = w.wanted AND number < w.current AND started_at > 0
			ORDER BY number DESC LIMIT 1)
		UNION ALL
		(SELECT ` + turnColumns + turnPayload + ` FROM perdure.turns WHERE task = w.wanted AND number > w.current AND status = ''
			ORDER BY number LIMIT 1)) u ON true`

func (t *tx) queueEntries(b *pgx.Batch, rows []*taskRow) {
	var tasks, current []int64
	for _, r := range rows {
		if r.own || r.known {
			continue
		}
		tasks, current = append(tasks, r.task.Incarnation), append(current, r.task.Turn.Number)
		r.entered = 0
	}
	if len(tasks) == 0 {
		return
	}
	b.Queue(t.s.sql(sqlEntries), tasks, current).Query(each(t.scanEntry))
	b.Queue(t.s.sql(sqlMetadata), tasks).Query(func(found pgx.Rows) error {
		err := each(t.scanMetadata)(found)
		for _, task := range tasks {
			t.knowMetadata(t.tasks[task])
		}
		return err
	})
}

func (t *tx) scanEntry(rows pgx.Rows) error {
	read, err := scanTurn(rows, true)
	if err != nil {
		return err
	}
	r := t.tasks[read.Incarnation]
	if read.Number <= r.pruned {
		return nil
	}
	r.learn(read, true)
	switch current := r.task.Turn.Number; {
	case read.Number > current:
		r.head = read.Number
	case read.Number < current:
		r.entered = read.Number
	}
	return nil
}
