package rules

import (
	"time"

	"github.com/perdure/perdure/store"
)

// importing is the version of a task of which not all has arrived.
const importing = -1

// Import takes a piece of a task from another store. Until the last piece the task is held: nobody claims or sweeps it.
func Import(rows Rows, now time.Time, req *store.ImportRequest) (*store.Imported, error) {
	if err := req.Valid(); err != nil {
		return nil, err
	}
	if req.Task != nil {
		known, err := beginImport(rows, req.Task)
		if err != nil || known {
			return &store.Imported{Known: known}, err
		}
	}
	there, err := rows.Task(req.Incarnation)
	if err != nil {
		return nil, err
	}
	if there == nil || there.Version != importing { // it has been deleted, or replaced, since the first piece
		return nil, store.ErrNotFound
	}
	for _, turn := range req.Turns {
		if err := importTurn(rows, turn); err != nil {
			return nil, err
		}
	}
	for _, events := range flushes(req.Events) {
		if err := rows.AppendEvents(req.Incarnation, events); err != nil {
			return nil, err
		}
	}
	if req.Last == nil {
		return &store.Imported{}, nil
	}
	if err := lapse(rows, req.Last.Worker, now); err != nil {
		return nil, err
	}
	t := *req.Last
	if t.Due && t.Place != 0 {
		if _, err := rows.NextPlace(t.Place); err != nil { // who waits here later comes after it
			return nil, err
		}
	}
	if err := place(rows, &t, now); err != nil {
		return nil, err
	}
	return &store.Imported{}, rows.UpdateTask(&t)
}

// beginImport makes a task's row. What an import that was broken off has left of it is removed; known is a task that is
// there as a whole.
func beginImport(rows Rows, task *store.Task) (known bool, err error) {
	there, err := rows.TaskByID(task.ID)
	switch {
	case err != nil:
		return false, err
	case there == nil:
		err = dropLeft(rows, task.Incarnation)
	case there.Version == importing:
		err = clear(rows, there.Incarnation)
	case there.Incarnation == task.Incarnation && there.Version == task.Version:
		return true, nil
	default:
		return false, &store.ConflictError{TaskID: task.ID, Status: there.Status}
	}
	if err != nil {
		return false, err
	}
	t := *task
	t.Metadata, t.Version = nil, importing
	t.Worker, t.Due, t.ExpiresAt, t.TrimAt, t.EndBy = "", false, time.Time{}, time.Time{}, time.Time{}
	if err := rows.InsertTask(&t); err != nil {
		return false, err
	}
	var changes []store.Change
	for k, v := range task.Metadata {
		changes = append(changes, store.Change{Key: k, Value: v})
	}
	if len(changes) == 0 {
		return false, nil
	}
	return false, rows.SetMetadata(t.Incarnation, changes)
}

// dropLeft removes what a task that was here before, and was deleted, has left, so that no sweep takes it for that of the
// task which comes.
func dropLeft(rows Rows, incarnation int64) error {
	other, err := rows.Task(incarnation)
	if err != nil || other != nil {
		return err
	}
	return clear(rows, incarnation)
}

// clear removes a task with all that it has.
func clear(rows Rows, incarnation int64) error {
	for more := true; more; {
		var err error
		if _, more, err = rows.DropRows(incarnation, clearPiece); err != nil {
			return err
		}
	}
	return rows.DeleteTask(incarnation)
}

// clearPiece is how many rows are removed at once of a task that is cleared.
const clearPiece = 10_000

// importTurn inserts a turn, with its end if it has one.
func importTurn(rows Rows, turn *store.Turn) error {
	if err := rows.InsertTurn(turn); err != nil || !turn.Status.Outcome() {
		return err
	}
	return rows.EndTurn(turn)
}

// flushes groups events as they may be appended: of one try and one moment, a rewind first.
func flushes(events []store.Event) (groups [][]store.Event) {
	for i, e := range events {
		if i > 0 && e.Kind == store.EventMessage && together(events[i-1], e) {
			last := len(groups) - 1
			groups[last] = append(groups[last], e)
			continue
		}
		groups = append(groups, []store.Event{e})
	}
	return groups
}

func together(a, b store.Event) bool {
	return a.Number+1 == b.Number && a.Turn == b.Turn && a.Attempt == b.Attempt && a.Epoch == b.Epoch && a.At.Equal(b.At)
}

// lapse makes sure that whoever held a task in the other store counts as dead in this one, so that the task is put back
// as after any death.
func lapse(rows Rows, worker string, now time.Time) error {
	if worker == "" {
		return nil
	}
	w, err := rows.Worker(worker)
	if err != nil || w != nil {
		return err
	}
	return rows.PutWorker(&store.Worker{ID: worker, StartedAt: now, BeatAt: now, ExpiresAt: now, Dead: true})
}
