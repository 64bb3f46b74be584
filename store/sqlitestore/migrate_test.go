package sqlitestore

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/store"
)

// row is a row of a table by the names of its columns. Values are SQL.
type row map[string]string

func insertRow(t *testing.T, c *conn, table string, r row) {
	t.Helper()
	names := slices.Sorted(maps.Keys(r))
	var values []string
	for _, name := range names {
		values = append(values, r[name])
	}
	err := c.run(fmt.Sprintf("INSERT INTO %s (%s) VALUES (%s)", table, strings.Join(names, ", "), strings.Join(values, ", ")))
	if err != nil {
		t.Fatal(err)
	}
}

// oldTask is a row of tasks as version 1 has it, with some columns as given.
func oldTask(id string, changes row) row {
	r := row{
		"id": "'" + id + "'", "func": "'f'", "source": "1", "settings": "1", "created_at": "1000", "updated_at": "5000",
		"status": "'pending'", "turn": "1", "turn_input_id": "'i'", "turn_steered": "0", "turn_attempt": "1",
		"turn_recoveries": "0", "turn_streak": "0", "turn_overdue": "0", "turn_checkpoint": "0", "turn_cancel": "0",
		"turn_ended": "0", "last_turn": "1", "last_input_id": "'i'", "entered": "0", "queued": "0", "nudging": "0",
		"epoch": "1", "request": "0", "suspect": "0", "settled_epoch": "0", "last_event": "0", "first_event": "1",
		"last_emitted": "0", "mark": "0", "event_epoch": "0", "version": "3",
	}
	maps.Copy(r, changes)
	return r
}

func micro(n int64) time.Time { return time.UnixMicro(n).UTC() }

// oldTasks are tasks in each state, as version 1 has them, and what of them version 2 is to have.
var oldTasks = []struct {
	id   string
	old  row
	want store.Task // Due, NotBefore, Place, EndBy
}{
	{"late", row{"wait": "'retry'", "due_at": "9000", "turn_deadline": "8500"},
		store.Task{Due: true, NotBefore: micro(9000), Place: 5, EndBy: micro(8500)}},
	{"capacity", row{"wait": "'capacity'", "due_at": "3000"}, store.Task{Due: true, Place: 2}},
	{"second", row{"wait": "'capacity'", "due_at": "3000"}, store.Task{Due: true, Place: 3}},
	{"released", row{"status": "'in_progress'", "due_at": "2000", "turn_started_at": "1500", "turn_deadline": "7000"},
		store.Task{Due: true, Place: 1, EndBy: micro(7000)}},
	{"cancelled", row{"status": "'in_progress'", "due_at": "4000", "turn_cancel": "1", "turn_deadline": "7000"},
		store.Task{Due: true, Place: 4, EndBy: micro(5000)}},
	{"strict", row{"wait": "'strict'", "due_at": "10000"}, store.Task{Due: true, NotBefore: micro(10000), Place: 6}},
	{"suspect", row{"wait": "'recovery'", "due_at": "11000", "suspect": "1", "turn_recoveries": "3", "turn_streak": "3"},
		store.Task{Due: true, NotBefore: micro(11000), Place: 7}},
	{"running", row{"status": "'in_progress'", "worker": "'w'", "entered_at": "100", "turn_deadline": "7000"}, store.Task{}},
	{"suspended", row{"status": "'suspended'", "turn_ended": "1", "turn_deadline": "7000"}, store.Task{}},
	{"parked", row{"status": "'parked'", "reason": "'bad'", "turn_deadline": "7000"}, store.Task{}},
	{"completed", row{"status": "'completed'", "turn_ended": "1", "ended_at": "6000", "expires_at": "99000000000"}, store.Task{}},
}

// versionOne makes a file as the first version of the schema has it.
func versionOne(t *testing.T, path string) {
	t.Helper()
	c, err := connect(path, (*Options)(nil).withDefaults(), false, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	steps, err := migrations()
	if err != nil {
		t.Fatal(err)
	}
	if err := migrate(c, steps[:1]); err != nil {
		t.Fatal(err)
	}
	insertRow(t, c, "settings", row{"json": `'{"max_recoveries":5,"timeout_grace":1000}'`})
	insertRow(t, c, "sources", row{"json": `'{}'`})
	for _, o := range oldTasks {
		insertRow(t, c, "tasks", oldTask(o.id, o.old))
	}
	insertRow(t, c, "turns", row{"task": "1", "number": "1", "input_id": "'i'", "deliver": "'interrupt'", "accepted_at": "1000", "input": "'in'"})
	insertRow(t, c, "turns", row{
		"task": "9", "number": "1", "input_id": "'i'", "deliver": "'interrupt'", "accepted_at": "1000", "status": "'failed'",
		"error": `'{"type":"T","message":"m","attempts":2}'`, "end_event": "1", "ended_at": "6000", "output": "'out'",
	})
	insertRow(t, c, "workers", row{
		"id": "'w'", "pid": "1", "funcs": `'["f"]'`, "running": "1", "started_at": "100", "beat_at": "100", "expires_at": "200", "dead": "0",
	})
	insertRow(t, c, "mail", row{"worker": "'w'", "task": "'running'", "key": "8", "epoch": "1", "kind": "'steered'"})
}

func TestFileOfVersionOneIsMigrated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	versionOne(t, path)
	clock := func() time.Time { return micro(8000) }
	s := openAt(t, path, &Options{UnsafeClock: clock})
	for _, o := range oldTasks {
		got, err := s.Get(t.Context(), o.id)
		if err != nil {
			t.Fatal(err)
		}
		w := o.want
		if got.Due != w.Due || !got.NotBefore.Equal(w.NotBefore) || got.Place != w.Place || !got.EndBy.Equal(w.EndBy) {
			t.Errorf("%s: due %v, not before %v, place %d, end by %v; want %+v", o.id, got.Due, got.NotBefore, got.Place, got.EndBy, w)
		}
		if want := strings.Trim(cmp.Or(o.old["status"], "'pending'"), "'"); string(got.Status) != want || got.Version != 3 {
			t.Errorf("%s: status %s, version %d; want %s, 3", o.id, got.Status, got.Version, want)
		}
	}
	turn, err := s.Turn(t.Context(), store.TurnQuery{TaskID: "suspended", Number: 1, Output: true})
	if err != nil || turn.Error == nil || *turn.Error != (store.TaskError{Type: "T", Message: "m", Attempts: 2}) || string(turn.Output) != "out" {
		t.Errorf("an old turn is %+v, %v", turn, err)
	}
	if mail, err := mailOf(t, s, "w"); err != nil || len(mail) != 1 || mail[0].Version != 0 {
		t.Errorf("old mail is %+v, %v", mail, err)
	}
}

// What an older version has left is taken in the order in which it fell due, and who comes later comes after it.
func TestMigratedLineGoesOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	versionOne(t, path)
	s := openAt(t, path, nil)
	mustOffer(t, s, "new")
	_, err := s.Heartbeat(t.Context(), &store.HeartbeatRequest{Worker: "w2", First: true, Lease: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	onWriterRun(t, s, `INSERT INTO turns (task, number, input_id, deliver, accepted_at)
		SELECT key, 1, 'i', 'interrupt', 1000 FROM tasks WHERE key NOT IN (SELECT task FROM turns)`)
	c, err := s.Claim(t.Context(), &store.ClaimRequest{
		Worker: "w2", Request: 1, Limit: 100, Suspect: true, Funcs: []store.ClaimFunc{{Name: "f", Limit: 100}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, e := range c.Entries {
		ids = append(ids, e.Task.ID)
	}
	// The retry is past its deadline, and is ended. What the dead worker ran has been put back, behind all.
	if got, want := strings.Join(ids, " "), "released capacity second cancelled strict suspect new running"; got != want {
		t.Errorf("claimed %s, want %s", got, want)
	}
	if c.Ended != 1 {
		t.Errorf("%d turns were ended, want 1", c.Ended)
	}
}
