// Package move writes all tasks of a store as JSON lines, and reads them into another.
//
// The first line says what the file is, the last how many tasks it has. Between them comes each task, then its turns
// and its events, then the task once more, so that a reader needs no more than a line at a time. The fields are those
// of package store.
package move

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/perdure/perdure/store"
)

// formatVersion is raised when files are no longer read by programs that know the one before.
const formatVersion = 1

// line is a line of the file: one of its fields is set.
type line struct {
	Perdure int           `json:"perdure,omitempty"` // the format's version
	Task    *store.Task   `json:"task,omitempty"`
	Turn    *store.Turn   `json:"turn,omitempty"`
	Events  []store.Event `json:"events,omitempty"`
	Last    *store.Task   `json:"last,omitempty"`
	Tasks   *int          `json:"tasks,omitempty"`
}

// Pages of what is read at once.
const (
	taskPage  = 200
	turnPage  = 50
	eventPage = 200
)

// Export writes all tasks of a store, newest first, and returns how many. Each is written as it was at one moment, also
// if it is written to meanwhile, without holding anybody up. Workers are left out: each belongs to a process.
func Export(ctx context.Context, st store.Store, w io.Writer) (tasks int, err error) {
	out := bufio.NewWriter(w)
	e := &exporter{ctx: ctx, store: st, encode: json.NewEncoder(out)}
	e.encode.SetEscapeHTML(false)
	if err := e.encode.Encode(line{Perdure: formatVersion}); err != nil {
		return 0, err
	}
	for q := (store.ListQuery{Limit: taskPage}); ; {
		page, err := st.List(ctx, q)
		if err != nil {
			return tasks, err
		}
		for _, t := range page.Tasks {
			written, err := e.task(t.ID)
			if err != nil {
				return tasks, fmt.Errorf("task %s: %w", t.ID, err)
			}
			if written {
				tasks++
			}
			q.Before = t.Incarnation
		}
		if !page.More {
			break
		}
	}
	if err := e.encode.Encode(line{Tasks: &tasks}); err != nil {
		return tasks, err
	}
	return tasks, out.Flush()
}

type exporter struct {
	ctx    context.Context
	store  store.Store
	encode *json.Encoder
}

// task writes one task as it was when its row was read: what came later, by the numbers that the row has, is left out.
// It begins again, with the task as it is then, when what the row needs has been forgotten meanwhile: whoever reads the
// file takes the last that is whole.
func (e *exporter) task(id string) (written bool, err error) {
	for {
		t, err := e.store.Get(e.ctx, id)
		if err == nil {
			err = e.asOf(t)
		}
		switch {
		case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrDeleted):
			return false, nil
		case errors.Is(err, errForgotten):
			continue
		case err != nil:
			return false, err
		}
		return true, nil
	}
}

// errForgotten says that a turn that a task's row needs has been pruned since that was read.
var errForgotten = errors.New("a turn has been pruned meanwhile")

func (e *exporter) asOf(t *store.Task) error {
	if err := e.encode.Encode(line{Task: t}); err != nil {
		return err
	}
	if err := e.turns(t); err != nil {
		return err
	}
	if err := e.events(t); err != nil {
		return err
	}
	return e.encode.Encode(line{Last: t})
}

// turns writes the turns that a task had.
func (e *exporter) turns(t *store.Task) error {
	current := false
	for q := (store.TurnsQuery{TaskID: t.ID, Limit: turnPage}); ; {
		page, err := e.store.Turns(e.ctx, q)
		if err != nil {
			return err
		}
		for _, turn := range page.Turns {
			if turn.Incarnation != t.Incarnation {
				return store.ErrDeleted
			}
			if turn.Number > t.LastTurn {
				page.More = false
				break
			}
			current = current || turn.Number == t.Turn.Number
			if err := e.encode.Encode(line{Turn: before(turn, t.LastEvent)}); err != nil {
				return err
			}
			q.After = turn.Number
		}
		switch {
		case page.More:
		case !current:
			return errForgotten
		default:
			return nil
		}
	}
}

// before returns a turn as it was when its task's stream had a last event: the end of a turn is one.
func before(turn *store.Turn, lastEvent int64) *store.Turn {
	if turn.EndEvent <= lastEvent {
		return turn
	}
	return &store.Turn{
		TaskID: turn.TaskID, Incarnation: turn.Incarnation, Number: turn.Number, InputID: turn.InputID, Status: store.TurnQueued,
		Deliver: turn.Deliver, Digest: turn.Digest, Input: turn.Input, AcceptedAt: turn.AcceptedAt,
	}
}

// events writes what handlers had emitted; the ends of turns are in the turns. What has been trimmed since is left out.
func (e *exporter) events(t *store.Task) error {
	for q := (store.EventsQuery{TaskID: t.ID, Incarnation: t.Incarnation, Limit: eventPage}); q.After < t.LastEvent; {
		page, err := e.store.Events(e.ctx, q)
		if err != nil {
			return err
		}
		t.FirstEvent = min(max(t.FirstEvent, page.First), t.LastEvent+1)
		var emitted []store.Event
		for _, ev := range page.Events {
			if ev.Number <= t.LastEvent && (ev.Kind == store.EventMessage || ev.Kind == store.EventRewind) {
				emitted = append(emitted, ev)
			}
		}
		if len(emitted) > 0 {
			if err := e.encode.Encode(line{Events: emitted}); err != nil {
				return err
			}
		}
		if page.Next <= q.After {
			return nil
		}
		q.After = page.Next
	}
	return nil
}

// ErrFormat says that a file is not one that Export has written, or not all of it.
var ErrFormat = errors.New("not a whole export")

// pieceBytes bounds what is written to the store at once.
const pieceBytes = 1 << 20

// Import reads what Export has written into a store, and returns how many tasks that were. Tasks that are there already
// as they are in the file are left alone, so a broken import can be begun again; another task with the same ID is a
// *store.ConflictError. No server should run on the store meanwhile.
func Import(ctx context.Context, st store.Store, r io.Reader) (tasks int, err error) {
	to, ok := st.(store.Importer)
	if !ok {
		return 0, fmt.Errorf("%T takes no tasks of others", st)
	}
	i := &importer{ctx: ctx, store: st, to: to}
	in := json.NewDecoder(bufio.NewReader(r))
	for n := 1; ; n++ {
		var l line
		if err := in.Decode(&l); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return i.tasks, fmt.Errorf("%w: it ends after %d lines", ErrFormat, n-1)
		} else if err != nil {
			return i.tasks, fmt.Errorf("%w: line %d: %w", ErrFormat, n, err)
		}
		if n == 1 && l.Perdure != formatVersion {
			return 0, fmt.Errorf("%w: it has version %d, and this program reads %d", ErrFormat, l.Perdure, formatVersion)
		}
		if l.Tasks != nil {
			if err := i.drop(); err != nil {
				return i.tasks, err
			}
			if *l.Tasks != i.tasks {
				return i.tasks, fmt.Errorf("%w: it has %d tasks and should have %d", ErrFormat, i.tasks, *l.Tasks)
			}
			return i.tasks, nil
		}
		if err := i.line(&l); err != nil {
			return i.tasks, fmt.Errorf("line %d: %w", n, err)
		}
	}
}

type importer struct {
	ctx   context.Context
	store store.Store
	to    store.Importer
	piece *store.ImportRequest // what is to be written next; nil if the task is there
	bytes int
	tasks int
}

// drop removes a task whose end is missing: it was deleted, or written to, while it was exported.
func (i *importer) drop() error {
	if i.piece == nil {
		return nil
	}
	_, err := i.store.Delete(i.ctx, &store.DeleteRequest{TaskID: i.piece.TaskID, Incarnation: i.piece.Incarnation})
	return err
}

// line takes a line.
func (i *importer) line(l *line) error {
	switch {
	case l.Task != nil:
		if err := i.drop(); err != nil {
			return err
		}
		i.piece, i.bytes = &store.ImportRequest{TaskID: l.Task.ID, Incarnation: l.Task.Incarnation, Task: l.Task}, 0
		return i.flush()
	case l.Last != nil:
		i.tasks++
		if i.piece == nil {
			return nil
		}
		i.piece.Last = l.Last
		err := i.flush()
		i.piece = nil
		return err
	case i.piece == nil:
		return nil
	case l.Turn != nil:
		i.piece.Turns = append(i.piece.Turns, l.Turn)
		i.bytes += len(l.Turn.Input) + len(l.Turn.Output)
	case l.Events != nil:
		i.piece.Events = append(i.piece.Events, l.Events...)
		for _, ev := range l.Events {
			i.bytes += len(ev.Data)
		}
	}
	if i.bytes < pieceBytes {
		return nil
	}
	return i.flush()
}

// flush writes the piece, and begins the next.
func (i *importer) flush() error {
	done, err := i.to.Import(i.ctx, i.piece)
	if err != nil {
		return err
	}
	next := &store.ImportRequest{TaskID: i.piece.TaskID, Incarnation: i.piece.Incarnation}
	if i.piece, i.bytes = next, 0; done.Known {
		i.piece = nil
	}
	return nil
}
