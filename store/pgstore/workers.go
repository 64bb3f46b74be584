package pgstore

import (
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/rules"
)

const workerColumns = `id, host, pid, program, version, funcs, running, started_at, beat_at, expires_at, dead, stopped`

// Statements that lock workers. While a turn is being leased to a worker nobody may take its tasks from it: the two
// locks of the first statement and of sqlLapsedWorkers exclude each other. A heartbeat gets along with the first.
const (
	sqlKeepWorkers   = `SELECT ` + workerColumns + ` FROM perdure.workers WHERE id = ANY($1) ORDER BY id FOR KEY SHARE`
	sqlRenewWorkers  = `SELECT ` + workerColumns + ` FROM perdure.workers WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE`
	sqlLockWorkers   = `SELECT ` + workerColumns + ` FROM perdure.workers WHERE id = ANY($1) ORDER BY id FOR UPDATE`
	sqlLapsedWorkers = `SELECT ` + workerColumns + ` FROM perdure.workers WHERE dead OR beat_at > $2
		OR expires_at <= $1 AND $3 + expires_at - beat_at <= $1
		ORDER BY started_at, id FOR UPDATE SKIP LOCKED`
)

func (s *Store) scanWorker(rows pgx.Rows) (*store.Worker, error) {
	w := &store.Worker{}
	var funcs string
	err := rows.Scan(&w.ID, &w.Info.Host, &w.Info.PID, &w.Info.Program, &w.Info.Version, &funcs, &w.Running,
		(*instant)(&w.StartedAt), (*instant)(&w.BeatAt), (*instant)(&w.ExpiresAt), &w.Dead, &w.Stopped)
	if err != nil {
		return nil, err
	}
	names, err := s.shared.names.parse(funcs)
	if names != nil {
		w.Funcs = *names
	}
	return w, err
}

func (t *tx) scanWorker(rows pgx.Rows) error {
	w, err := t.s.scanWorker(rows)
	if err == nil {
		t.workers[w.ID] = w
	}
	return err
}

// Sole implements rules.Rows. There may always be other engines.
func (t *tx) Sole() bool { return false }

// Worker implements rules.Rows.
func (t *tx) Worker(id string) (*store.Worker, error) {
	w, known := t.workers[id]
	if !known {
		t.workers[id] = nil
		if err := t.query(sqlKeepWorkers, t.scanWorker, []string{id}); err != nil {
			return nil, err
		}
		w = t.workers[id]
	}
	if w == nil {
		return nil, nil
	}
	c := *w
	c.ExpiresAt = extended(w, t.since)
	return &c, nil
}

// Lapsed implements rules.Rows. One to whom a turn is being leased now, or whom somebody else reaps, is left to the next
// time.
func (t *tx) Lapsed(now time.Time) ([]*store.Worker, error) {
	var workers []*store.Worker
	err := t.query(sqlLapsedWorkers, func(rows pgx.Rows) error {
		w, err := t.s.scanWorker(rows)
		workers = append(workers, w)
		return err
	}, micros(now), micros(now.Add(rules.AheadBy)), micros(t.since))
	return workers, err
}

const sqlServed = `SELECT EXISTS (SELECT FROM perdure.workers WHERE NOT dead AND (expires_at > $2 OR $3 + expires_at - beat_at > $2) AND funcs::jsonb ? $1)`

// Served implements rules.Rows.
func (t *tx) Served(fn string, now time.Time) (served bool, err error) {
	if served, known := t.served[fn]; known {
		return served, nil
	}
	err = t.query(sqlServed, func(rows pgx.Rows) error { return rows.Scan(&served) }, fn, micros(now), micros(t.since))
	t.served[fn] = served
	return served, err
}

// PutWorker implements rules.Rows.
func (t *tx) PutWorker(w *store.Worker) error {
	c := *w
	t.workers[w.ID] = &c
	t.changes.workers = append(t.changes.workers, &c)
	return nil
}

// DeleteWorker implements rules.Rows.
func (t *tx) DeleteWorker(id string) error {
	t.workers[id] = nil
	t.changes.workers = slices.DeleteFunc(t.changes.workers, func(w *store.Worker) bool { return w.ID == id })
	t.changes.gone = append(t.changes.gone, id)
	return nil
}

// AddMail implements rules.Rows.
func (t *tx) AddMail(m store.Mail) error {
	t.changes.mail = append(t.changes.mail, m)
	t.news.mail(m.Worker)
	return nil
}

const sqlPublished = `SELECT name, settings FROM perdure.funcs WHERE name = ANY($1)`

func (t *tx) scanPublished(rows pgx.Rows) error {
	var name, text string
	if err := rows.Scan(&name, &text); err != nil {
		return err
	}
	settings, err := t.s.shared.settings.parse(text)
	t.funcs[name] = &settings
	return err
}

// Published implements rules.Rows.
func (t *tx) Published(name string) (*store.Settings, error) {
	if _, known := t.funcs[name]; !known {
		t.funcs[name] = nil
		if err := t.query(sqlPublished, t.scanPublished, []string{name}); err != nil {
			return nil, err
		}
	}
	if t.funcs[name] == nil {
		return nil, nil
	}
	settings := *t.funcs[name]
	return &settings, nil
}

// Publish implements rules.Rows.
func (t *tx) Publish(f store.PublishedFunc) error {
	t.funcs[f.Name] = &f.Settings
	t.changes.funcs = append(t.changes.funcs, f)
	return nil
}

const (
	sqlPutWorker = `INSERT INTO perdure.workers (` + workerColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
		ON CONFLICT (id) DO UPDATE SET (running, beat_at, expires_at, dead, stopped) =
			(excluded.running, excluded.beat_at, excluded.expires_at, excluded.dead, excluded.stopped)`
	sqlLockMailboxes   = `SELECT worker FROM perdure.mailboxes WHERE worker = ANY($1) ORDER BY worker FOR UPDATE`
	sqlDeleteWorkers   = `DELETE FROM perdure.workers WHERE id = ANY($1)`
	sqlDeleteMailboxes = `DELETE FROM perdure.mailboxes WHERE worker = ANY($1)`
	sqlDeleteMail      = `DELETE FROM perdure.mail WHERE worker = ANY($1)`
	sqlInsertMail      = `INSERT INTO perdure.mail (worker, task, key, epoch, kind, reason, behind, version)
		SELECT worker, task, key, epoch, kind, reason, behind, version
		FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::bigint[], $8::bigint[])
		WITH ORDINALITY AS m (worker, task, key, epoch, kind, reason, behind, version, n) ORDER BY n`
	sqlPublish = `INSERT INTO perdure.funcs (name, settings) VALUES ($1, $2)
		ON CONFLICT (name) DO UPDATE SET settings = excluded.settings WHERE funcs.settings <> excluded.settings`
)
