package pgstore

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/perdure/perdure/internal/pgtest"
	"github.com/perdure/perdure/store"
)

// The statements of programs of version 1 of the schema, to the letter.
const (
	oldFixed   = `id, func, title, description, tags, session, agent, source, settings, created_at`
	oldChanges = `status, turn_deadline, worker, due_at, wait, suspect, expires_at, trim_at, reason, turn, turn_input_id,
		turn_steered, turn_entry, turn_attempt, turn_recoveries, turn_streak, turn_started_at, turn_overdue,
		turn_checkpoint, turn_cancel, cancel_reason, turn_error, turn_ended, last_turn, last_input_id, entered, queued,
		nudging, epoch, request, entered_at, settled_epoch, last_event, first_event, last_emitted, mark, event_epoch,
		updated_at, ended_at, version`
	oldColumns   = `key, ` + oldFixed + `, ` + oldChanges
	oldTurnFixed = `task, number, input_id, deliver, digest_key, digest, accepted_at`
	oldTurnEnd   = `status, steered, superseded, entry, attempt, recoveries, epoch, end_event, started_at, ended_at, reason, error, output`

	oldTaskByID = `SELECT ` + oldColumns + ` FROM perdure.tasks WHERE id = ANY($1) ORDER BY key FOR UPDATE`
	oldDue      = `SELECT ` + oldColumns + ` FROM perdure.tasks
		WHERE func = $1 AND suspect = $2 AND due_at > 0 AND due_at <= $3 ORDER BY due_at, key LIMIT $4 FOR UPDATE SKIP LOCKED`
	oldWaiting = `SELECT func, count(*) FROM perdure.tasks
	WHERE due_at > 0 AND due_at <= coalesce(nullif($1::bigint, 0), (extract(epoch FROM statement_timestamp()) * 1000000)::bigint)
	GROUP BY func`
	oldInsertTask = `INSERT INTO perdure.tasks (` + oldColumns + `) SELECT * FROM unnest($1::bigint[],
		$2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
		$11::bigint[],
		$12::text[], $13::bigint[], $14::text[], $15::bigint[], $16::text[], $17::boolean[], $18::bigint[],
		$19::bigint[], $20::text[], $21::bigint[], $22::text[],
		$23::boolean[], $24::text[], $25::bigint[], $26::bigint[], $27::bigint[], $28::bigint[], $29::boolean[],
		$30::bigint[], $31::boolean[], $32::text[], $33::text[], $34::boolean[], $35::bigint[], $36::text[],
		$37::boolean[], $38::bigint[], $39::bigint[], $40::bigint[], $41::bigint[], $42::bigint[], $43::bigint[],
		$44::bigint[], $45::bigint[], $46::bigint[], $47::bigint[], $48::bigint[], $49::bigint[], $50::bigint[],
		$51::bigint[])`
	oldUpdateTask = `UPDATE perdure.tasks t SET (` + oldChanges + `) = (u.status, u.turn_deadline, u.worker, u.due_at,
		u.wait, u.suspect, u.expires_at, u.trim_at, u.reason, u.turn, u.turn_input_id, u.turn_steered, u.turn_entry,
		u.turn_attempt, u.turn_recoveries, u.turn_streak, u.turn_started_at, u.turn_overdue, u.turn_checkpoint,
		u.turn_cancel, u.cancel_reason, u.turn_error, u.turn_ended, u.last_turn, u.last_input_id, u.entered, u.queued,
		u.nudging, u.epoch, u.request, u.entered_at, u.settled_epoch, u.last_event, u.first_event, u.last_emitted,
		u.mark, u.event_epoch, u.updated_at, u.ended_at, u.version)
	FROM unnest($1::bigint[],
		$2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::text[], $7::boolean[], $8::bigint[],
		$9::bigint[], $10::text[], $11::bigint[], $12::text[],
		$13::boolean[], $14::text[], $15::bigint[], $16::bigint[], $17::bigint[], $18::bigint[], $19::boolean[],
		$20::bigint[], $21::boolean[], $22::text[], $23::text[], $24::boolean[], $25::bigint[], $26::text[],
		$27::boolean[], $28::bigint[], $29::bigint[], $30::bigint[], $31::bigint[], $32::bigint[], $33::bigint[],
		$34::bigint[], $35::bigint[], $36::bigint[], $37::bigint[], $38::bigint[], $39::bigint[], $40::bigint[],
		$41::bigint[])
	AS u (key, ` + oldChanges + `) WHERE t.key = u.key`
	oldInsertTurn = `INSERT INTO perdure.turns (` + oldTurnFixed + `, ` + oldTurnEnd + `, input) SELECT * FROM unnest($1::bigint[], $2::bigint[],
	$3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::text[], $9::boolean[], $10::boolean[], $11::text[],
	$12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[], $16::bigint[], $17::bigint[], $18::text[], $19::text[],
	$20::bytea[], $21::bytea[])`
	oldEndTurn = `UPDATE perdure.turns t SET (` + oldTurnEnd + `) = (u.status, u.steered, u.superseded, u.entry, u.attempt,
		u.recoveries, u.epoch, u.end_event, u.started_at, u.ended_at, u.reason, u.error, u.output)
	FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::boolean[], $5::boolean[], $6::text[], $7::bigint[],
		$8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::text[], $14::text[], $15::bytea[])
	AS u (task, number, ` + oldTurnEnd + `) WHERE t.task = u.task AND t.number = u.number`
	oldInsertMail = `INSERT INTO perdure.mail (worker, task, key, epoch, kind, reason)
		SELECT worker, task, key, epoch, kind, reason
		FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::text[])
		WITH ORDINALITY AS m (worker, task, key, epoch, kind, reason, n) ORDER BY n`
	oldPutWorker = `INSERT INTO perdure.workers (id, host, pid, program, version, funcs, running, started_at, beat_at, expires_at, dead)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
		ON CONFLICT (id) DO UPDATE SET (running, beat_at, expires_at, dead) =
			(excluded.running, excluded.beat_at, excluded.expires_at, excluded.dead)`
)

// oldDeletes remove a task with all that it has.
var oldDeletes = []string{
	`DELETE FROM perdure.turns WHERE task = ANY($1)`, `DELETE FROM perdure.metadata WHERE task = ANY($1)`,
	`DELETE FROM perdure.events WHERE task = ANY($1)`, `DELETE FROM perdure.tags WHERE task = ANY($1)`,
	`DELETE FROM perdure.tasks WHERE key = ANY($1)`,
}

// old is a program of version 1: it writes what the rules of that version made of a task.
type old struct {
	t     *testing.T
	x     *texts
	conn  *pgx.Conn
	clock *clock
}

// clock is what both versions take for the database's.
type clock struct{ micros atomic.Int64 }

func (c *clock) now() time.Time          { return time.UnixMicro(c.micros.Load()).UTC() }
func (c *clock) advance(d time.Duration) { c.micros.Add(d.Microseconds()) }

// oldSchema makes the tables of version 1, and returns a program on them.
func oldSchema(t *testing.T) (o *old, url string) {
	t.Helper()
	url = pgtest.URL(t)
	x, conn, err := connect(t.Context(), url, pgtest.Schema(t, url))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { hangUp(conn) })
	steps, err := migrations()
	if err == nil {
		err = x.migrate(t.Context(), conn, steps[:1])
	}
	if err != nil {
		t.Fatal(err)
	}
	o = &old{t: t, x: x, conn: conn, clock: &clock{}}
	o.clock.micros.Store(time.Now().UnixMicro())
	return o, url
}

// sideBySide returns programs of both versions on the same tables.
func sideBySide(t *testing.T) (*old, *Store) {
	t.Helper()
	o, url := oldSchema(t)
	return o, openAt(t, url, Options{Schema: o.x.schema, UnsafeClock: o.clock.now})
}

func (o *old) exec(sql string, args ...any) {
	o.t.Helper()
	if _, err := o.conn.Exec(o.t.Context(), o.x.text(sql), args...); err != nil {
		o.t.Fatal(err)
	}
}

// row is a row of a table, by its columns.
type row map[string]any

// rows runs a statement that reads tasks.
func (o *old) rows(sql string, args ...any) []row {
	o.t.Helper()
	found, err := o.conn.Query(o.t.Context(), o.x.text(sql), args...)
	if err != nil {
		o.t.Fatal(err)
	}
	all, err := pgx.CollectRows(found, pgx.RowToMap)
	if err != nil {
		o.t.Fatal(err)
	}
	rows := make([]row, len(all))
	for i, r := range all {
		rows[i] = r
	}
	return rows
}

func (o *old) task(id string) row {
	o.t.Helper()
	rows := o.rows(oldTaskByID, []string{id})
	if len(rows) != 1 {
		o.t.Fatalf("version 1 finds %d tasks %s", len(rows), id)
	}
	return rows[0]
}

// arrays makes the arguments of a statement that writes a row.
func (r row) arrays(t *testing.T, columns string) (args []any) {
	t.Helper()
	for _, name := range strings.Split(columns, ",") {
		switch v := r[strings.TrimSpace(name)].(type) {
		case int64:
			args = append(args, []int64{v})
		case string:
			args = append(args, []string{v})
		case bool:
			args = append(args, []bool{v})
		case []byte:
			args = append(args, [][]byte{v})
		default:
			t.Fatalf("column %s: %T", name, v)
		}
	}
	return args
}

func (r row) with(changes row) row {
	c := maps.Clone(r)
	maps.Copy(c, changes)
	return c
}

// update writes a task that has changed.
func (o *old) update(r row, changes row) {
	o.t.Helper()
	r = r.with(changes)
	r["version"], r["updated_at"] = r["version"].(int64)+1, o.clock.micros.Load()
	o.exec(oldUpdateTask, r.arrays(o.t, `key, `+oldChanges)...)
}

// insert makes a task that waits for its first turn, with the turn.
func (o *old) insert(id string, changes row) {
	o.t.Helper()
	now := o.clock.micros.Load()
	task := row{"id": id, "func": "f", "source": "{}", "created_at": now,
		"settings": `{"steerable":true,"max_pending":10,"max_recoveries":20}`,
		"status":   "pending", "due_at": now, "wait": "capacity", "turn": int64(1), "turn_input_id": "i-" + id, "turn_attempt": int64(1),
		"last_turn": int64(1), "last_input_id": "i-" + id, "first_event": int64(1), "updated_at": now, "version": int64(1)}
	task["key"] = o.rows(sqlNextIncarnation)[0]["nextval"]
	o.exec(oldInsertTask, blank(oldColumns).with(task).with(changes).arrays(o.t, oldColumns)...)
	turn := row{"task": task["key"], "number": int64(1), "input_id": "i-" + id, "deliver": "interrupt", "digest": "d", "accepted_at": now, "input": []byte(`{"n":1}`)}
	columns := oldTurnFixed + ", " + oldTurnEnd + ", input"
	o.exec(oldInsertTurn, blank(columns).with(turn).arrays(o.t, columns)...)
}

// blank is a row of empty values.
func blank(columns string) row {
	flags := []string{"suspect", "turn_steered", "turn_overdue", "turn_cancel", "turn_ended", "entered", "steered", "superseded"}
	texts := []string{"id", "func", "title", "description", "tags", "session", "agent", "source", "settings", "status", "worker", "wait",
		"reason", "turn_input_id", "turn_entry", "cancel_reason", "turn_error", "last_input_id", "input_id", "deliver", "digest_key",
		"digest", "entry", "error"}
	r := row{}
	for _, name := range strings.Split(columns, ",") {
		switch name = strings.TrimSpace(name); {
		case slices.Contains(flags, name):
			r[name] = false
		case slices.Contains(texts, name):
			r[name] = ""
		case name == "output" || name == "input":
			r[name] = []byte(nil)
		default:
			r[name] = int64(0)
		}
	}
	return r
}

// claim leases the tasks that are due, as the first epoch of their turns if they have none.
func (o *old) claim(worker string) (ids []string) {
	o.t.Helper()
	now := o.clock.micros.Load()
	for _, r := range o.rows(oldDue, "f", false, now, 10) {
		started := r["turn_started_at"]
		if started == int64(0) {
			started = now
		}
		o.update(r, row{"status": "in_progress", "wait": "", "due_at": int64(0), "worker": worker, "request": int64(1),
			"entered_at": now, "epoch": r["epoch"].(int64) + 1, "turn_checkpoint": int64(0), "turn_started_at": started, "entered": true})
		ids = append(ids, r["id"].(string))
	}
	return ids
}

// end ends the current turn of a task that then becomes what changes say.
func (o *old) end(id, outcome string, changes row) {
	o.t.Helper()
	r := o.task(id)
	last := r["last_event"].(int64) + 1
	turn := row{"task": r["key"], "number": r["turn"], "status": outcome, "epoch": r["epoch"], "attempt": r["turn_attempt"],
		"entry": r["turn_entry"], "started_at": r["turn_started_at"], "ended_at": o.clock.micros.Load(), "end_event": last}
	columns := `task, number, ` + oldTurnEnd
	o.exec(oldEndTurn, blank(columns).with(turn).arrays(o.t, columns)...)
	o.update(r, row{"turn_ended": true, "last_event": last, "mark": last, "due_at": int64(0), "wait": "", "worker": ""}.with(changes))
}

func (o *old) release(id string, changes row) {
	o.t.Helper()
	r := o.task(id)
	o.update(r, row{"status": "in_progress", "wait": "", "due_at": o.clock.micros.Load(), "worker": "", "turn_entry": "recovered",
		"epoch": r["epoch"].(int64) + 1}.with(changes))
}

// resume gives a suspended task its next input.
func (o *old) resume(id string) {
	o.t.Helper()
	r := o.task(id)
	number, now := r["last_turn"].(int64)+1, o.clock.micros.Load()
	input := fmt.Sprint("old-", number)
	columns := oldTurnFixed + ", " + oldTurnEnd + ", input"
	turn := row{"task": r["key"], "number": number, "input_id": input, "deliver": "interrupt", "digest": "d", "accepted_at": now, "input": []byte(`2`)}
	o.exec(oldInsertTurn, blank(columns).with(turn).arrays(o.t, columns)...)
	o.update(r, row{"turn": number, "turn_input_id": input, "turn_steered": false, "turn_entry": "", "turn_attempt": int64(1),
		"turn_recoveries": int64(0), "turn_streak": int64(0), "turn_started_at": int64(0), "turn_deadline": int64(0), "turn_overdue": false,
		"turn_cancel": false, "cancel_reason": "", "turn_error": "", "turn_ended": false, "last_turn": number, "last_input_id": input,
		"status": "pending", "wait": "capacity", "due_at": now})
}

func (o *old) delete(id string) {
	o.t.Helper()
	key := []int64{o.task(id)["key"].(int64)}
	for _, sql := range oldDeletes {
		o.exec(sql, key)
	}
}

func (o *old) worker(id string, dead bool) {
	now := o.clock.micros.Load()
	o.exec(oldPutWorker, id, "", 0, "", "", `["f"]`, 0, now, now, now+time.Hour.Microseconds(), dead)
}

// claimed are the IDs of what a worker of version 2 claims.
func claimed(t *testing.T, s *Store, worker string, limit int) (ids []string) {
	t.Helper()
	c, err := s.Claim(t.Context(), &store.ClaimRequest{
		Worker: worker, Request: 1, Limit: limit, Suspect: true, Funcs: []store.ClaimFunc{{Name: "f", Limit: limit}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range c.Entries {
		ids = append(ids, e.Task.ID)
	}
	return ids
}
