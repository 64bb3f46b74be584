package rules

import (
	"cmp"
	"slices"
	"time"

	"github.com/perdure/perdure/store"
)

// lineUp makes a task wait to be claimed, behind those that wait already: not before a time, or at once when that is
// zero.
func lineUp(t *store.Task, notBefore time.Time, why store.Wait) {
	t.Status, t.Wait, t.Worker = store.Pending, why, ""
	t.Due, t.NotBefore, t.Place = true, notBefore, 0
}

// leaveLine makes a task wait for nobody.
func leaveLine(t *store.Task) { t.Due, t.NotBefore, t.Wait = false, time.Time{}, "" }

// delayed reports whether a task waits for a time: of a retry, or as a suspect.
func delayed(t *store.Task) bool {
	return t.Wait == store.WaitRetry || t.Wait == store.WaitStrict || t.Wait == store.WaitRecovery
}

// started reports whether a handler has been entered for the task's current turn.
func started(t *store.Task) bool { return !t.Turn.StartedAt.IsZero() }

func late(t *store.Task, now time.Time) bool {
	return !t.Turn.Deadline.IsZero() && !now.Before(t.Turn.Deadline)
}

// place gives a task that has begun to wait its place in the line, and notes when a sweep has to look at it. A place is
// kept while the task is leased, for the case that nobody enters its handler.
func place(rows Rows, t *store.Task, now time.Time) (err error) {
	if !t.Due {
		t.EndBy = time.Time{}
		return nil
	}
	if t.Place == 0 {
		t.Place, err = rows.NextPlace(0)
	}
	if !t.Turn.Called {
		t.EndBy = endBy(t, now)
	}
	return err
}

// endBy is when a sweep has to look at a task that waits (C3, C5).
func endBy(t *store.Task, now time.Time) time.Time {
	if t.Turn.Cancel {
		return now
	}
	return t.Turn.Deadline
}

// endWaiting ends the turn of a task that waits although it was cancelled or is past its deadline, unless a worker that
// is alive may still enter it once for its clean-up: that has the grace of the task's timeout to do so.
func endWaiting(rows Rows, t *store.Task, now time.Time) (ended bool, err error) {
	if started(t) && !delayed(t) && !t.Turn.Overdue && !t.Turn.Called {
		served, err := rows.Served(t.Func, now)
		if err != nil {
			return false, err
		}
		if served {
			t.Turn.Called, t.EndBy = true, now.Add(t.Settings.TimeoutGrace)
			return false, rows.UpdateTask(t) // what nobody asked for makes no version
		}
	}
	outcome, reason := store.Terminated, deadlineReason
	if t.Turn.Cancel {
		outcome, reason = store.Cancelled, t.Turn.CancelReason
	}
	return true, endUnrun(rows, t, now, outcome, reason)
}

// endUnrun ends the current turn of a task that nobody runs, and moves the task on.
func endUnrun(rows Rows, t *store.Task, now time.Time, outcome store.Status, reason string) error {
	if _, err := endCurrent(rows, t, now, ending{outcome: outcome, reason: reason}); err != nil {
		return err
	}
	if _, err := boundary(rows, t, now, afterStop(t, outcome, reason)); err != nil {
		return err
	}
	return update(rows, t, now)
}

// deadlineReason is the reason of a turn that its deadline has ended.
const deadlineReason = "deadline"

// lease gives the current turn to a worker.
func lease(t *store.Task, now time.Time, worker string, request int64) {
	leaveLine(t)
	t.Status, t.Worker, t.Request, t.EnteredAt = store.InProgress, worker, request, now
	t.Epoch++
	u := &t.Turn
	u.Checkpoint, u.Called = 0, false
	switch {
	case !started(t):
		u.StartedAt, u.Entry = now, store.EntryFresh
		if t.Entered {
			u.Entry = store.EntryResumed
		}
	case late(t, now):
		u.Overdue = true
	}
	if t.Settings.Timeout > 0 && u.Deadline.IsZero() {
		u.Deadline = now.Add(t.Settings.Timeout)
	}
	t.Entered = true
}

// release takes the lease back: the task is in progress with nobody, due at once.
func release(t *store.Task) {
	lineUp(t, time.Time{}, "")
	t.Status = store.InProgress
	t.Turn.Entry = store.EntryRecovered
	t.Epoch++
}

// decline takes back a lease under which no handler was entered: the turn is as it was before, in its old place.
func decline(t *store.Task) {
	at, u := t.Place, &t.Turn
	if u.Deadline.Equal(t.EnteredAt.Add(t.Settings.Timeout)) {
		u.Deadline = time.Time{} // it counts from the entry
	}
	if u.StartedAt.Equal(t.EnteredAt) && u.Entry != store.EntryRecovered && u.Attempt == 1 {
		t.Entered = u.Entry == store.EntryResumed
		u.StartedAt, u.Entry = time.Time{}, ""
	}
	u.Overdue = false
	lineUp(t, time.Time{}, store.WaitCapacity)
	t.Place = at
	t.Epoch++
}

// InLine returns the first tasks of several lists in the order of their places, limit of them.
func InLine(limit int, lists ...[]*store.Task) []*store.Task {
	all := slices.Concat(lists...)
	slices.SortFunc(all, func(a, b *store.Task) int {
		return cmp.Or(cmp.Compare(a.Place, b.Place), cmp.Compare(a.Incarnation, b.Incarnation))
	})
	return all[:min(limit, len(all))]
}
