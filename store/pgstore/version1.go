package pgstore

import (
	"time"

	"github.com/perdure/perdure/store"
)

// Programs of version 1 of the schema and of version 2 work on the same tables while an installation is brought up to date.
// For both, column due_at is 0 when a task is not due, and else the time from which on it is. Version 2 writes the time
// atOnce for what is due at once, whatever the clock says; version 1 writes the time at which it does so.
const atOnce = 1

// dueAt returns a task's due_at.
func dueAt(t *store.Task) int64 {
	switch {
	case !t.Due:
		return 0
	case t.NotBefore.IsZero():
		return atOnce
	}
	return micros(t.NotBefore)
}

// setDue sets what a task's due_at says.
func setDue(t *store.Task, at int64) {
	t.Due = at != 0
	if at > atOnce {
		t.NotBefore = time.UnixMicro(at).UTC()
	}
}

// unseen corrects a task that a program of version 1 has written since one that knows all its columns: what those say
// may be of another turn. Its place is none or an old one, so that it comes before what has begun to wait here.
func unseen(t *store.Task) {
	t.Turn.Stops, t.Turn.Called = 0, false
	t.EndBy = time.Time{}
	if t.Due {
		t.EndBy = endBy(t)
	}
}

// endBy is when a sweep has to look at a task that waits, as far as its row says.
func endBy(t *store.Task) time.Time {
	if t.Turn.Cancel {
		return t.UpdatedAt
	}
	return t.Turn.Deadline
}
