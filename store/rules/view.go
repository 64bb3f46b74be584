package rules

import (
	"time"

	"github.com/perdure/perdure/store"
)

// Visible reports whether a task read at this time is there for a reader who asks for the given
// incarnation (0: any), and if not, with which error.
func Visible(t *store.Task, now time.Time, incarnation int64) error {
	switch {
	case t != nil && !expired(t, now) && (incarnation == 0 || t.Incarnation == incarnation):
		return nil
	case incarnation != 0:
		return store.ErrDeleted
	}
	return store.ErrNotFound
}

// Complete fills in what a turn's row does not hold while the turn has not ended.
func Complete(t *store.Task, turn *store.Turn) *store.Turn {
	turn.TaskID, turn.Incarnation, turn.TaskStatus = t.ID, t.Incarnation, t.Status
	if !turn.Status.Outcome() && turn.Number == t.Turn.Number {
		c := t.Turn
		turn.Steered, turn.Entry, turn.Attempt, turn.Recoveries = c.Steered, c.Entry, c.Attempt, c.Recoveries
		turn.StartedAt, turn.Error, turn.Epoch = c.StartedAt, c.Error, t.Epoch
	}
	if t.Status == store.Parked && !turn.Status.Outcome() && turn.Number >= t.Turn.Number {
		turn.Parked, turn.Reason = t.Turn.Number, t.Reason
	}
	turn.Status = TurnStatus(t, turn)
	return turn
}
