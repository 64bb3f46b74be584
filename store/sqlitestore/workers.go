package sqlitestore

import (
	"encoding/json"
	"math"
	"time"

	"github.com/perdure/perdure/store"
)

// Sole implements rules.Rows.
func (c *conn) Sole() bool { return c.sole.Load() }

const workerColumns = `id, host, pid, program, version, funcs, running, started_at, beat_at, expires_at, dead, stopped`

func (c *conn) workers(s *stmt) ([]*store.Worker, error) {
	var workers []*store.Worker
	err := s.each(func() (err error) {
		w := &store.Worker{ID: s.nextText()}
		w.Info = store.WorkerInfo{Host: s.nextText(), PID: int(s.nextInt()), Program: s.nextText(), Version: s.nextText()}
		w.Funcs, err = parse(c.interned.names, s.nextText())
		w.Running, w.StartedAt, w.BeatAt = int(s.nextInt()), s.nextTime(), s.nextTime()
		w.ExpiresAt, w.Dead, w.Stopped = s.nextTime(), s.nextBool(), s.nextBool()
		workers = append(workers, w)
		return err
	})
	return workers, err
}

const sqlWorker = `SELECT ` + workerColumns + ` FROM workers WHERE id = ?`

// Worker implements rules.Rows. Whoever holds the engine's lock is alone in writing workers, so that the
// last one it has read or written is still as it was: every offer asks for it.
func (c *conn) Worker(id string) (*store.Worker, error) {
	if w := c.worker; w != nil && w.ID == id && c.Sole() {
		copied := *w
		return &copied, nil
	}
	workers, err := c.workers(c.stmt(sqlWorker).raw(id))
	if err != nil || len(workers) == 0 {
		return nil, err
	}
	if c.Sole() {
		copied := *workers[0]
		c.worker = &copied
	}
	return workers[0], nil
}

const (
	sqlLapsed = `SELECT ` + workerColumns + ` FROM workers WHERE dead OR expires_at <= ? ORDER BY started_at, id`
	sqlAlive  = `SELECT ` + workerColumns + ` FROM workers WHERE NOT dead AND expires_at > ? ORDER BY started_at, id`
	sqlServed = `SELECT 1 FROM workers, json_each(funcs) AS f
		WHERE NOT dead AND expires_at > ? AND f.value = ? LIMIT 1`
)

// Lapsed implements rules.Rows. Whoever holds the engine's lock asks for all workers: no time says which of them live.
func (c *conn) Lapsed(now time.Time) ([]*store.Worker, error) {
	by := now.UnixMicro()
	if c.Sole() {
		by = math.MaxInt64
	}
	return c.workers(c.stmt(sqlLapsed).int(by))
}

// alive returns the workers that are not dead.
func (c *conn) alive(now time.Time) ([]*store.Worker, error) {
	return c.workers(c.stmt(sqlAlive).int(c.livesAfter(now)))
}

// Served implements rules.Rows.
func (c *conn) Served(fn string, now time.Time) (served bool, err error) {
	err = c.stmt(sqlServed).int(c.livesAfter(now)).raw(fn).each(func() error { served = true; return nil })
	return served, err
}

// livesAfter is the time after which a lease ends that counts. While the engine's lock is held all count.
func (c *conn) livesAfter(now time.Time) int64 {
	if c.Sole() {
		return math.MinInt64
	}
	return now.UnixMicro()
}

const sqlPutWorker = `INSERT OR REPLACE INTO workers (` + workerColumns + `)
	VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`

// PutWorker implements rules.Rows.
func (c *conn) PutWorker(w *store.Worker) error {
	funcs, err := json.Marshal(w.Funcs)
	if err != nil {
		return err
	}
	c.worker = nil
	s := c.stmt(sqlPutWorker).raw(w.ID).text(w.Info.Host).int(int64(w.Info.PID)).text(w.Info.Program)
	s.text(w.Info.Version).raw(string(funcs)).int(int64(w.Running))
	return s.time(w.StartedAt).time(w.BeatAt).time(w.ExpiresAt).bool(w.Dead).bool(w.Stopped).exec()
}

const (
	sqlDeleteWorker = `DELETE FROM workers WHERE id = ?`
	sqlDeleteMail   = `DELETE FROM mail WHERE worker = ?`
)

// DeleteWorker implements rules.Rows.
func (c *conn) DeleteWorker(id string) error {
	c.worker = nil
	if err := c.stmt(sqlDeleteMail).raw(id).exec(); err != nil {
		return err
	}
	return c.stmt(sqlDeleteWorker).raw(id).exec()
}

const sqlAddMail = `INSERT INTO mail (worker, task, key, epoch, kind, reason, behind, version)
	VALUES (?, ?, ?, ?, ?, ?, ?, ?)`

// AddMail implements rules.Rows.
func (c *conn) AddMail(m store.Mail) error {
	s := c.stmt(sqlAddMail).raw(m.Worker).raw(m.TaskID).int(m.Incarnation).int(m.Epoch)
	return s.raw(string(m.Kind)).text(m.Reason).int(int64(m.Behind)).int(m.Version).exec()
}

const sqlDropMail = `DELETE FROM mail WHERE worker = ? AND seq = ?`

// dropMail forgets what a worker has seen.
func (c *conn) dropMail(worker string, seen []int64) error {
	for _, seq := range seen {
		if err := c.stmt(sqlDropMail).raw(worker).int(seq).exec(); err != nil {
			return err
		}
	}
	return nil
}

const sqlMail = `SELECT seq, worker, task, key, epoch, kind, reason, behind, version FROM mail
	WHERE worker = ? ORDER BY seq ` + sqlLimit

func (c *conn) mail(worker string) ([]store.Mail, error) {
	var mail []store.Mail
	s := c.stmt(sqlMail).raw(worker).int(store.MailPage)
	err := s.each(func() error {
		mail = append(mail, store.Mail{
			Seq: s.nextInt(), Worker: s.nextText(), TaskID: s.nextText(), Incarnation: s.nextInt(),
			Epoch: s.nextInt(), Kind: store.MailKind(s.nextText()), Reason: s.nextText(), Behind: int(s.nextInt()), Version: s.nextInt(),
		})
		return nil
	})
	return mail, err
}

const sqlPublished = `SELECT settings FROM funcs WHERE name = ?`

// Published implements rules.Rows.
func (c *conn) Published(name string) (*store.Settings, error) {
	var id int64
	s := c.stmt(sqlPublished).raw(name)
	if err := s.each(func() error { id = s.nextInt(); return nil }); err != nil || id == 0 {
		return nil, err
	}
	settings, err := c.settings(id)
	return &settings, err
}

const sqlPublish = `INSERT OR REPLACE INTO funcs (name, settings) VALUES (?, ?)`

// Publish implements rules.Rows.
func (c *conn) Publish(f store.PublishedFunc) error {
	id, err := c.settingsID(f.Settings)
	if err != nil {
		return err
	}
	return c.stmt(sqlPublish).raw(f.Name).int(id).exec()
}
