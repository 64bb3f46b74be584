package pgstore

import (
	"cmp"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/perdure/perdure/store"
)

// changes are what the rules have changed and flush has not written yet.
type changes struct {
	deleted   []int64 // tasks
	dropped   []int64 // tasks: all that they have beside their own row and tags
	abandoned []int64 // tasks
	tasks     []*taskRow
	turns     []*turnRow
	pruned    []prunedTurns
	metadata  map[metadataKey][]byte // nil deletes
	events    []eventRow
	requests  []remembered
	funcs     []store.PublishedFunc
	workers   []*store.Worker
	gone      []string // workers
	mail      []store.Mail
}

type prunedTurns struct{ task, upTo int64 }

type metadataKey struct {
	task int64
	key  string
}

// queueChanges adds the statements that write what has changed. Locks that are taken here are taken in this order by
// everybody: nobody holds one of them while waiting for a task or a worker.
func (t *tx) queueChanges(b *pgx.Batch) error {
	c := t.changes
	t.changes = changes{}
	if len(c.deleted) > 0 {
		b.Queue(t.s.sql(sqlDeleteTags), c.deleted)
		b.Queue(t.s.sql(sqlDeleteTasks), c.deleted)
	}
	t.queueRemoved(b, &c)
	if err := t.queueTasks(b, c.tasks); err != nil {
		return err
	}
	if err := t.queueTurns(b, c.turns); err != nil {
		return err
	}
	if len(c.pruned) > 0 {
		b.Queue(t.s.sql(sqlPruneTurns), column(c.pruned, func(p prunedTurns) int64 { return p.task }),
			column(c.pruned, func(p prunedTurns) int64 { return p.upTo }))
	}
	t.queueMetadata(b, c.metadata)
	t.queueEvents(b, c.events)
	t.queueRemembered(b, c.requests)
	if err := t.queueFuncs(b, c.funcs); err != nil {
		return err
	}
	return t.queueWorkers(b, &c)
}

func (t *tx) queueFuncs(b *pgx.Batch, funcs []store.PublishedFunc) error {
	slices.SortFunc(funcs, func(x, y store.PublishedFunc) int { return cmp.Compare(x.Name, y.Name) })
	for _, f := range funcs {
		text, err := t.s.shared.settings.text(f.Settings)
		if err != nil {
			return err
		}
		b.Queue(t.s.sql(sqlPublish), f.Name, text)
	}
	return nil
}

// queueWorkers writes workers and mail. Who sends mail locks nothing that others lock: a worker reads all the mail that it
// has not seen, in whatever order that was committed. A worker of version 2 reads mail in the order of its numbers, and has
// a row in mailboxes; who sends to that one locks the row until the numbers can be read, so that it misses none.
func (t *tx) queueWorkers(b *pgx.Batch, c *changes) error {
	boxes := slices.Concat(c.gone, column(c.mail, func(m store.Mail) string { return m.Worker }))
	if len(boxes) > 0 {
		b.Queue(t.s.sql(sqlLockMailboxes), slices.Compact(slices.Sorted(slices.Values(boxes))))
	}
	if len(c.gone) > 0 {
		for _, sql := range []string{sqlDeleteMail, sqlDeleteMailboxes, sqlDeleteWorkers} {
			b.Queue(t.s.sql(sql), c.gone)
		}
	}
	for _, w := range c.workers {
		if err := t.queueWorker(b, w); err != nil {
			return err
		}
	}
	if len(c.mail) > 0 {
		b.Queue(t.s.sql(sqlInsertMail),
			column(c.mail, func(m store.Mail) string { return m.Worker }),
			column(c.mail, func(m store.Mail) string { return m.TaskID }),
			column(c.mail, func(m store.Mail) int64 { return m.Incarnation }),
			column(c.mail, func(m store.Mail) int64 { return m.Epoch }),
			column(c.mail, func(m store.Mail) string { return string(m.Kind) }),
			column(c.mail, func(m store.Mail) string { return m.Reason }),
			column(c.mail, func(m store.Mail) int64 { return int64(m.Behind) }),
			column(c.mail, func(m store.Mail) int64 { return m.Version }))
	}
	return nil
}

func (t *tx) queueWorker(b *pgx.Batch, w *store.Worker) error {
	funcs, err := jsonText(&w.Funcs)
	if err != nil {
		return err
	}
	b.Queue(t.s.sql(sqlPutWorker), w.ID, w.Info.Host, w.Info.PID, w.Info.Program, w.Info.Version, funcs, w.Running,
		micros(w.StartedAt), micros(w.BeatAt), micros(w.ExpiresAt), w.Dead, w.Stopped)
	return nil
}
