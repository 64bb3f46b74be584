package rules

import (
	"time"

	"github.com/perdure/perdure/store"
)

func expired(t *store.Task, now time.Time) bool {
	return !t.ExpiresAt.IsZero() && !t.ExpiresAt.After(now)
}

func holds(t *store.Task, l store.Lease) bool {
	return t != nil && t.Status == store.InProgress && t.Worker == l.Worker && t.Epoch == l.Epoch
}

func leaseOf(t *store.Task) store.Lease {
	return store.Lease{Incarnation: t.Incarnation, Worker: t.Worker, Epoch: t.Epoch}
}

func nudges(turn *store.Turn) bool { return turn.Deliver != store.DeliverEnqueue }

func touch(t *store.Task, now time.Time) {
	t.UpdatedAt = now
	t.Version++
}

func update(rows Rows, t *store.Task, now time.Time) error {
	if err := place(rows, t, now); err != nil {
		return err
	}
	touch(t, now)
	return rows.UpdateTask(t)
}

// begin makes turn the task's current one, waiting to be entered.
func begin(t *store.Task, turn *store.Turn) {
	t.Turn = store.Current{Number: turn.Number, InputID: turn.InputID, Steered: turn.Steered, Attempt: 1}
	t.Suspect = false
	t.Reason = ""
	lineUp(t, time.Time{}, store.WaitCapacity)
}

// entry gathers what the worker needs to enter the task's current turn.
func entry(rows Rows, t *store.Task) (*store.Entry, error) {
	turn, err := rows.Turn(t.Incarnation, t.Turn.Number)
	if err != nil {
		return nil, err
	}
	e := &store.Entry{Lease: leaseOf(t), Task: t, Input: turn.Input}
	if t.Metadata, err = rows.Metadata(t.Incarnation); err != nil {
		return nil, err
	}
	if t.Turn.Number > 1 {
		previous, err := rows.LastEntered(t.Incarnation, t.Turn.Number)
		if err != nil {
			return nil, err
		}
		if previous != nil {
			e.Previous = previous.Input
		}
	}
	return e, nil
}

// ending is how a turn ends.
type ending struct {
	outcome store.Status
	output  []byte
	err     *store.TaskError
	reason  string
	detail  string
}

// endCurrent writes the end of the task's current turn.
func endCurrent(rows Rows, t *store.Task, now time.Time, e ending) (*store.Turn, error) {
	turn := &store.Turn{
		TaskID: t.ID, Incarnation: t.Incarnation, Number: t.Turn.Number, InputID: t.Turn.InputID,
		Steered: t.Turn.Steered, Superseded: t.Queued > 0,
		Entry: t.Turn.Entry, Attempt: t.Turn.Attempt, Recoveries: t.Turn.Recoveries, Epoch: t.Epoch,
		StartedAt: t.Turn.StartedAt,
	}
	if e.outcome == store.Terminated && e.err == nil {
		e.err = t.Turn.Error
	}
	t.Turn.Ended = true
	t.Mark = t.LastEvent // commits what the turn has emitted
	return turn, end(rows, t, turn, now, e)
}

// end writes the end of a turn. It is an event that no rewind takes back; but the mark passes no event that
// one may.
func end(rows Rows, t *store.Task, turn *store.Turn, now time.Time, e ending) error {
	t.LastEvent++
	if t.Mark == t.LastEvent-1 {
		t.Mark = t.LastEvent
	}
	turn.Status, turn.Output, turn.Error, turn.Reason, turn.Detail = e.outcome, e.output, e.err, e.reason, e.detail
	turn.EndEvent, turn.EndedAt = t.LastEvent, now
	return rows.EndTurn(turn)
}

// endQueue ends all inputs behind the current turn.
func endQueue(rows Rows, t *store.Task, now time.Time, outcome store.Status, reason string) ([]int64, error) {
	if t.Queued == 0 {
		return nil, nil
	}
	turns, err := rows.Queued(t.Incarnation, t.Turn.Number, t.Queued)
	if err != nil {
		return nil, err
	}
	var ended []int64
	for _, turn := range turns {
		if err := endQueued(rows, t, turn, now, outcome, reason); err != nil {
			return nil, err
		}
		ended = append(ended, turn.Number)
	}
	return ended, nil
}

func endQueued(rows Rows, t *store.Task, turn *store.Turn, now time.Time, outcome store.Status, reason string) error {
	t.Queued--
	if nudges(turn) {
		t.Nudging--
	}
	return end(rows, t, turn, now, ending{outcome: outcome, reason: reason})
}

// next says what follows the end of a turn.
type next struct {
	then    store.Status // when nothing is queued
	refuse  bool         // what is queued is refused, not promoted
	reason  string
	worker  string // who keeps the lease for the promoted turn; empty: nobody
	request int64
}

// afterStop is what follows a turn that was cancelled or ran out of time.
func afterStop(t *store.Task, outcome store.Status, reason string) next {
	if t.Settings.MultiTurn {
		outcome = store.Suspended
	}
	return next{then: outcome, reason: reason}
}

// boundary moves the task on after its current turn has ended (T1).
func boundary(rows Rows, t *store.Task, now time.Time, n next) (refused []int64, err error) {
	if t.Settings.KeepTurns > 0 && t.Turn.Number > int64(t.Settings.KeepTurns) {
		last, err := rows.PruneTurns(t.Incarnation, t.Turn.Number-int64(t.Settings.KeepTurns))
		if err != nil {
			return nil, err
		}
		trim(t, last+1, now)
	}
	if t.Queued > 0 && !n.refuse {
		return nil, promote(rows, t, now, n)
	}
	if refused, err = endQueue(rows, t, now, store.Refused, "task "+string(n.then)); err != nil {
		return nil, err
	}
	finish(t, now, n.then, n.reason)
	return refused, nil
}

func promote(rows Rows, t *store.Task, now time.Time, n next) error {
	turns, err := rows.Queued(t.Incarnation, t.Turn.Number, 1)
	if err != nil {
		return err
	}
	turn := turns[0]
	turn.Steered = true
	t.Queued--
	if nudges(turn) {
		t.Nudging--
	}
	begin(t, turn)
	if n.worker != "" {
		lease(t, now, n.worker, n.request)
	}
	return nil
}

// finish leaves the task without a current turn: suspended or ended.
func finish(t *store.Task, now time.Time, status store.Status, reason string) {
	leaveLine(t)
	t.Status, t.Reason, t.Worker = status, reason, ""
	t.Suspect = false
	if !status.Terminal() {
		return
	}
	t.EndedAt = now
	if t.Settings.Keep > 0 {
		t.ExpiresAt = now.Add(t.Settings.Keep)
	}
}

// mail leaves news for whoever held the lease of a task before it became what it is now, unless it is from them.
func mail(rows Rows, held store.Lease, t *store.Task, from string, kind store.MailKind, reason string) error {
	if held.Worker == "" || held.Worker == from {
		return nil
	}
	return rows.AddMail(store.Mail{
		Worker: held.Worker, TaskID: t.ID, Incarnation: t.Incarnation, Epoch: held.Epoch, Kind: kind, Reason: reason,
		Behind: t.Queued, Version: t.Version,
	})
}
