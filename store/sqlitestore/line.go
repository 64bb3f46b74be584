package sqlitestore

import (
	"slices"
	"time"

	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/rules"
)

// dueNow is the due_at of a task that waits for no time. It is earlier than every time.
const dueNow = 1

// dueAt is what a task has in its column due_at; 0 stands for NULL.
func dueAt(t *store.Task) int64 {
	switch {
	case !t.Due:
		return 0
	case t.NotBefore.IsZero():
		return dueNow
	}
	return t.NotBefore.UnixMicro()
}

func scanDue(s *stmt, t *store.Task) {
	switch at := s.nextInt(); at {
	case 0:
	case dueNow:
		t.Due = true
	default:
		t.Due, t.NotBefore = true, time.UnixMicro(at).UTC()
	}
}

const sqlNextPlace = `UPDATE line SET place = max(place, ?) + 1 WHERE id = 1 RETURNING place`

// NextPlace implements rules.Rows.
func (c *conn) NextPlace(above int64) (place int64, err error) {
	s := c.stmt(sqlNextPlace).int(above)
	err = s.each(func() error { place = s.nextInt(); return nil })
	return place, err
}

const (
	sqlDueNow = `SELECT ` + taskColumns + ` FROM tasks
		WHERE func = ? AND suspect = ? AND due_at = 1 ORDER BY place, key ` + sqlLimit
	sqlDueByTime = `SELECT ` + taskColumns + ` FROM tasks
		WHERE func = ? AND suspect = ? AND due_at > 1 AND due_at <= ? ORDER BY due_at, place, key ` + sqlLimit
)

// Due implements rules.Rows.
func (c *conn) Due(now time.Time, plain, suspects []store.ClaimFunc) ([]*store.Task, error) {
	var due []*store.Task
	for i, f := range slices.Concat(plain, suspects) {
		tasks, err := c.due(now, f, i >= len(plain))
		if err != nil {
			return nil, err
		}
		due = append(due, tasks...)
	}
	return due, nil
}

// due returns the first tasks of one func. Of those that waited for a time it looks at the first by that time: there may be
// more than can be put in the order of their places.
func (c *conn) due(now time.Time, f store.ClaimFunc, suspect bool) ([]*store.Task, error) {
	atOnce, err := c.tasks(c.stmt(sqlDueNow).text(f.Name).bool(suspect).int(int64(f.Limit)))
	if err != nil {
		return nil, err
	}
	byTime, err := c.tasks(c.stmt(sqlDueByTime).text(f.Name).bool(suspect).time(now).int(int64(f.Limit)))
	if err != nil || len(byTime) == 0 {
		return atOnce, err
	}
	return rules.InLine(f.Limit, atOnce, byTime), nil
}

const sqlNextDue = `SELECT due_at FROM tasks
	WHERE func = ? AND suspect = ? AND due_at > ? ORDER BY due_at LIMIT 1`

// NextDue implements rules.Rows.
func (c *conn) NextDue(now time.Time, funcs []string) (time.Time, error) {
	var first time.Time
	for _, fn := range funcs {
		for _, suspect := range []bool{false, true} {
			s := c.stmt(sqlNextDue).text(fn).bool(suspect).time(now)
			err := s.each(func() error {
				if at := s.nextTime(); first.IsZero() || at.Before(first) {
					first = at
				}
				return nil
			})
			if err != nil {
				return time.Time{}, err
			}
		}
	}
	return first, nil
}

const (
	sqlLeasedTo = `SELECT ` + taskColumns + ` FROM tasks WHERE worker = ? ORDER BY key ` + sqlLimit
	sqlLeasedBy = `SELECT ` + taskColumns + ` FROM tasks WHERE worker = ? AND request = ? ORDER BY key`
)

// LeasedTo implements rules.Rows.
func (c *conn) LeasedTo(worker string, limit int) ([]*store.Task, bool, error) {
	tasks, err := c.tasks(c.stmt(sqlLeasedTo).text(worker).int(int64(limit)))
	return tasks, len(tasks) < limit, err
}

// LeasedBy implements rules.Rows.
func (c *conn) LeasedBy(worker string, request int64) ([]*store.Task, error) {
	return c.tasks(c.stmt(sqlLeasedBy).text(worker).int(request))
}

// Lists of tasks for which a time has come.
const (
	sqlExpired = `SELECT ` + taskColumns + ` FROM tasks
		WHERE expires_at <= ? ORDER BY expires_at, key ` + sqlLimit
	sqlEnding = `SELECT ` + taskColumns + ` FROM tasks
		WHERE end_by <= ? ORDER BY end_by, key ` + sqlLimit
	sqlTrimmable = `SELECT ` + taskColumns + ` FROM tasks
		WHERE trim_at <= ? ORDER BY trim_at, key ` + sqlLimit
)

// Expired implements rules.Rows.
func (c *conn) Expired(now time.Time, limit int) ([]*store.Task, error) {
	return c.tasks(c.stmt(sqlExpired).time(now).int(int64(limit)))
}

// Ending implements rules.Rows.
func (c *conn) Ending(now time.Time, limit int) ([]*store.Task, error) {
	return c.tasks(c.stmt(sqlEnding).time(now).int(int64(limit)))
}

// Trimmable implements rules.Rows.
func (c *conn) Trimmable(now time.Time, limit int) ([]*store.Task, error) {
	return c.tasks(c.stmt(sqlTrimmable).time(now).int(int64(limit)))
}

const (
	sqlNextFunc = `SELECT func FROM tasks WHERE due_at IS NOT NULL AND func > ? ORDER BY func LIMIT 1`
	sqlWaiting  = `SELECT count(*) FROM
		(SELECT 1 FROM tasks WHERE func = ? AND suspect = ? AND due_at <= ? ` + sqlLimit + `)`
)

// waiting counts what is due, up to most of each func. It goes from func to func in the index.
func (c *conn) waiting(now time.Time, except func(string) bool, most int) (map[string]int, error) {
	waiting := map[string]int{}
	for name := ""; ; {
		next, err := c.nextFunc(name)
		if err != nil || next == "" {
			return waiting, err
		}
		if name = next; except(name) {
			continue
		}
		n, err := c.countDue(name, now, most)
		if err != nil {
			return nil, err
		}
		if n > 0 {
			waiting[name] = n
		}
	}
}

func (c *conn) nextFunc(after string) (name string, err error) {
	s := c.stmt(sqlNextFunc).raw(after)
	err = s.each(func() error { name = s.nextText(); return nil })
	return name, err
}

func (c *conn) countDue(fn string, now time.Time, most int) (n int, err error) {
	for _, suspect := range []bool{false, true} {
		s := c.stmt(sqlWaiting).text(fn).bool(suspect).time(now).int(int64(most - n))
		if err := s.each(func() error { n += int(s.nextInt()); return nil }); err != nil {
			return 0, err
		}
	}
	return n, nil
}
