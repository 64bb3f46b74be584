package rules

import (
	"fmt"
	"time"

	"github.com/perdure/perdure/store"
)

// Delays of rule R4: the third re-entry without a checkpoint waits suspectDelay, doubling to suspectMax;
// a try that lived for clearAfter clears the count.
const (
	suspectFrom  = 3
	suspectDelay = time.Second
	suspectMax   = time.Minute
	clearAfter   = time.Minute
	totalFactor  = 10 // recoveries in all, as a multiple of MaxRecoveries
)

// recoverTurn puts back a task whose owner died, or gave it back of its own accord (R4).
func recoverTurn(t *store.Task, now time.Time, lived time.Duration) {
	release(t)
	u := &t.Turn
	if lived >= clearAfter {
		u.Streak, u.Stops = 0, 0
	}
	u.Recoveries++
	u.Streak++
	switch {
	case crashing(t):
		park(t, fmt.Sprintf("it died or gave the turn back %d times, the last %d of them without a checkpoint", u.Recoveries, u.Streak))
	case u.Streak >= suspectFrom:
		t.Suspect = true
		lineUp(t, now.Add(suspectBackoff(u.Streak)), store.WaitRecovery)
	default:
		t.Suspect = u.Stops >= suspectFrom
	}
}

// crashing reports whether a turn has been entered too often (R4).
func crashing(t *store.Task) bool {
	limit := t.Settings.MaxRecoveries
	return t.Turn.Streak > limit || t.Turn.Recoveries > totalFactor*limit
}

// releaseStopped puts back a task that the engine itself has stopped. That is not counted for quarantine; but a turn that
// is stopped again and again may be what starves its process, and is entered alone.
func releaseStopped(t *store.Task, lived time.Duration) {
	release(t)
	if lived >= clearAfter {
		t.Turn.Stops = 0
	}
	t.Turn.Stops++
	t.Suspect = t.Suspect || t.Turn.Stops >= suspectFrom
}

// alive notes that the turn gets somewhere: what was counted against it is forgotten.
func alive(t *store.Task) {
	t.Turn.Streak, t.Turn.Stops, t.Suspect = 0, 0, false
}

func suspectBackoff(streak int) time.Duration {
	d := suspectDelay
	for range streak - suspectFrom {
		if d *= 2; d >= suspectMax {
			return suspectMax
		}
	}
	return d
}

func park(t *store.Task, reason string) {
	leaveLine(t)
	t.Status, t.Reason, t.Worker = store.Parked, reason, ""
}

// unpark gives a parked task another chance, not another life: its start, attempt and input stay as they are. One that
// was parked for crashes comes back as a suspect.
func unpark(t *store.Task, s *store.Signalled) error {
	if t.Status != store.Parked {
		return &store.ConflictError{TaskID: t.ID, Status: t.Status}
	}
	crashed := crashing(t)
	lineUp(t, time.Time{}, store.WaitCapacity)
	t.Reason, t.Suspect = "", crashed
	u := &t.Turn
	u.Recoveries, u.Streak, u.Stops, u.Entry = 0, 0, 0, store.EntryRecovered
	u.Deadline, u.Overdue = time.Time{}, false // it counts from the next entry
	s.Changed = true
	return nil
}
