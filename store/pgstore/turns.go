package pgstore

import (
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/perdure/perdure/store"
)

// Columns of turns. A turn's payload is read apart from the rest: it may be large.
const (
	turnFixed   = `task, number, input_id, deliver, digest_key, digest, accepted_at`
	turnEnd     = `status, steered, superseded, entry, attempt, recoveries, epoch, end_event, started_at, ended_at, reason, error, detail`
	turnColumns = turnFixed + `, ` + turnEnd
	turnPayload = `, output, input`
)

// scanTurn reads turnColumns, and with payload turnPayload after them, and more if there is.
func scanTurn(rows pgx.Rows, payload bool, more ...any) (*store.Turn, error) {
	t := &store.Turn{}
	var failure string
	into := []any{
		&t.Incarnation, &t.Number, &t.InputID, (*string)(&t.Deliver), &t.Digest.Key, &t.Digest.Sum, (*instant)(&t.AcceptedAt),
		(*string)(&t.Status), &t.Steered, &t.Superseded, (*string)(&t.Entry), &t.Attempt, &t.Recoveries, &t.Epoch,
		&t.EndEvent, (*instant)(&t.StartedAt), (*instant)(&t.EndedAt), &t.Reason, &failure, &t.Detail,
	}
	if payload {
		into = append(into, &t.Output, &t.Input)
	}
	err := rows.Scan(append(into, more...)...)
	if err != nil {
		return nil, err
	}
	if t.Status == "" {
		t.Status = store.TurnQueued
	}
	t.Error, err = fromJSON[store.TaskError](failure)
	return t, err
}

// learn keeps a turn that was read, unless what is known of it is newer. It returns the row.
func (r *taskRow) learn(read *store.Turn, payload bool) *turnRow {
	known := r.turns[read.Number]
	switch {
	case known == nil:
		known = &turnRow{turn: *read, whole: true, payload: payload}
		r.turns[read.Number] = known
	case !known.whole:
		known.turn = withEnd(read, &known.turn)
		known.whole, known.payload = true, payload
	case payload && !known.payload:
		known.turn.Input, known.payload = read.Input, true
		if !known.ended {
			known.turn.Output = read.Output
		}
	}
	r.inputs[read.InputID] = read.Number
	return known
}

// withEnd returns a turn as it is after its end was written.
func withEnd(fixed, end *store.Turn) store.Turn {
	c := *end
	c.InputID, c.Input, c.Digest, c.Deliver, c.AcceptedAt = fixed.InputID, fixed.Input, fixed.Digest, fixed.Deliver, fixed.AcceptedAt
	return c
}

func (t *turnRow) copied(payload bool) *store.Turn {
	c := t.turn
	if !payload {
		c.Input = nil
	}
	return &c
}

// turn reads a turn of a task, unless it is known.
func (t *tx) turn(sql string, r *taskRow, payload bool, args ...any) (*turnRow, error) {
	var found *turnRow
	err := t.query(sql, func(rows pgx.Rows) error {
		read, err := scanTurn(rows, payload)
		if err == nil && read.Number > r.pruned {
			found = r.learn(read, payload)
		}
		return err
	}, args...)
	return found, err
}

const sqlTurn = `SELECT ` + turnColumns + turnPayload + ` FROM perdure.turns WHERE task = $1 AND number = $2`

// Turn implements rules.Rows.
func (t *tx) Turn(incarnation, number int64) (*store.Turn, error) {
	r := t.tasks[incarnation]
	known := r.turns[number]
	if known == nil || !known.whole || !known.payload {
		var err error
		if known, err = t.turn(sqlTurn, r, true, incarnation, number); err != nil || known == nil {
			return nil, err
		}
	}
	return known.copied(true), nil
}

// sqlKnownTurns looks for the turns of inputs, of which most are new.
const sqlKnownTurns = `SELECT ` + turnColumns + ` FROM unnest($1::text[], $2::text[]) AS w (wanted_id, wanted_input)
	JOIN LATERAL (SELECT t.key FROM perdure.tasks t WHERE t.id = w.wanted_id OFFSET 0) k ON true
	JOIN LATERAL (SELECT ` + turnColumns + ` FROM perdure.turns WHERE task = k.key AND input_id = w.wanted_input OFFSET 0) u ON true`

func (t *tx) scanKnown(rows pgx.Rows) error {
	read, err := scanTurn(rows, false)
	if err != nil {
		return err
	}
	if r := t.tasks[read.Incarnation]; r != nil { // else others have locked it
		r.learn(read, false)
	}
	return nil
}

const sqlTurnByInput = `SELECT ` + turnColumns + ` FROM perdure.turns WHERE task = $1 AND input_id = $2`

// TurnByInput implements rules.Rows. The turn comes without its payload, which no rule reads.
func (t *tx) TurnByInput(incarnation int64, inputID string) (*store.Turn, error) {
	r := t.tasks[incarnation]
	number, looked := r.inputs[inputID]
	if (looked || r.own) && number == 0 {
		return nil, nil
	}
	known := r.turns[number]
	if known == nil || !known.whole {
		var err error
		if known, err = t.turn(sqlTurnByInput, r, false, incarnation, inputID); err != nil || known == nil {
			return nil, err
		}
	}
	return known.copied(false), nil
}

const sqlOpenTurns = `SELECT ` + turnColumns + ` FROM perdure.turns WHERE task = $1 AND number > $2 AND status = '' ORDER BY number`

// Queued implements rules.Rows.
func (t *tx) Queued(incarnation, after int64, limit int) ([]*store.Turn, error) {
	r := t.tasks[incarnation]
	if !r.open && (limit != 1 || r.head <= after) {
		_, err := t.turn(sqlOpenTurns, r, false, incarnation, after)
		if err != nil {
			return nil, err
		}
		r.open = true
	}
	var queued []*store.Turn
	for _, number := range slices.Sorted(maps.Keys(r.turns)) {
		if known := r.turns[number]; number > after && known.whole && !known.turn.Status.Outcome() && len(queued) < limit {
			queued = append(queued, known.copied(false))
		}
	}
	return queued, nil
}

const sqlLastEntered = `SELECT ` + turnColumns + turnPayload + ` FROM perdure.turns
	WHERE task = $1 AND number < $2 AND started_at > 0 ORDER BY number DESC LIMIT 1`

// LastEntered implements rules.Rows.
func (t *tx) LastEntered(incarnation, before int64) (*store.Turn, error) {
	r := t.tasks[incarnation]
	last := int64(0)
	for number, known := range r.turns {
		if number < before && number >= r.entered && !known.turn.StartedAt.IsZero() {
			last = max(last, number)
		}
	}
	switch {
	case last > 0:
		return t.Turn(incarnation, last)
	case r.entered == 0:
		return nil, nil
	}
	known, err := t.turn(sqlLastEntered, r, true, incarnation, before)
	if err != nil || known == nil {
		return nil, err
	}
	return known.copied(true), nil
}

// InsertTurn implements rules.Rows.
func (t *tx) InsertTurn(turn *store.Turn) error {
	r := t.tasks[turn.Incarnation]
	row := &turnRow{turn: *turn, whole: true, payload: true, created: true}
	r.turns[turn.Number], r.inputs[turn.InputID] = row, turn.Number
	t.changes.turns = append(t.changes.turns, row)
	return nil
}

// EndTurn implements rules.Rows.
func (t *tx) EndTurn(turn *store.Turn) error {
	r := t.tasks[turn.Incarnation]
	row := r.turns[turn.Number]
	switch {
	case row == nil:
		row = &turnRow{turn: *turn}
		r.turns[turn.Number] = row
	case row.whole:
		row.turn = withEnd(&row.turn, turn)
	default:
		row.turn = *turn
	}
	if turn.Number == r.head {
		r.head = 0
	}
	if !turn.StartedAt.IsZero() {
		r.entered = min(r.entered, turn.Number) // no later one was entered
	}
	if !row.created && !row.ended {
		t.changes.turns = append(t.changes.turns, row)
	}
	row.ended = true
	return nil
}

const sqlPrunable = `SELECT w.task, coalesce((SELECT max(t.end_event) FROM perdure.turns t WHERE t.task = w.task AND t.number <= w.number), 0)
	FROM unnest($1::bigint[], $2::bigint[]) AS w (task, number)`

// PruneTurns implements rules.Rows.
func (t *tx) PruneTurns(incarnation, upTo int64) (lastEvent int64, err error) {
	r := t.tasks[incarnation]
	if r.prunable == nil || r.prunable.upTo != upTo {
		if err := t.query(sqlPrunable, t.scanPrunable(map[int64]int64{incarnation: upTo}), []int64{incarnation}, []int64{upTo}); err != nil {
			return 0, err
		}
	}
	lastEvent = r.prunable.lastEvent
	for number, known := range r.turns {
		if number <= upTo {
			lastEvent = max(lastEvent, known.turn.EndEvent)
			delete(r.inputs, known.turn.InputID)
			delete(r.turns, number)
		}
	}
	r.pruned = max(r.pruned, upTo)
	t.changes.pruned = append(t.changes.pruned, prunedTurns{incarnation, upTo})
	return lastEvent, nil
}

func (t *tx) scanPrunable(upTo map[int64]int64) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		var task, lastEvent int64
		if err := rows.Scan(&task, &lastEvent); err != nil {
			return err
		}
		t.tasks[task].prunable = &prunable{upTo[task], lastEvent}
		return nil
	}
}

// What rows are written with are arrays, as those of tasks are. Numbers of parameters are those of turnEnd and the output.
const (
	endTexts  = `$1::text[], $4::text[], $11::text[], $12::text[], $13::text[], $14::bytea[]`
	endNames  = `status, entry, reason, error, detail, output`
	endValues = `u.status, ($2::boolean[])[n], ($3::boolean[])[n], u.entry, ($5::bigint[])[n], ($6::bigint[])[n], ($7::bigint[])[n],
		($8::bigint[])[n], ($9::bigint[])[n], ($10::bigint[])[n], u.reason, u.error, u.detail, u.output`

	sqlInsertTurns = `INSERT INTO perdure.turns (` + turnEnd + `, output, ` + turnFixed + `, input)
		SELECT ` + endValues + `, ($15::bigint[])[n], ($16::bigint[])[n], u.input_id, u.deliver, u.digest_key, u.digest,
			($21::bigint[])[n], u.input
		FROM unnest(` + endTexts + `, $17::text[], $18::text[], $19::text[], $20::text[], $22::bytea[]) WITH ORDINALITY
		AS u (` + endNames + `, input_id, deliver, digest_key, digest, input, n)`
	sqlEndTurns = `UPDATE perdure.turns t SET (` + turnEnd + `, output) = (` + endValues + `)
		FROM unnest(` + endTexts + `) WITH ORDINALITY AS u (` + endNames + `, n)
		WHERE t.task = ($15::bigint[])[n] AND t.number = ($16::bigint[])[n]`
)

// queueTurns adds the statements that write turns.
func (t *tx) queueTurns(b *pgx.Batch, rows []*turnRow) error {
	var created, ended []*store.Turn
	for _, r := range rows {
		if task := r.turn.Incarnation; t.gone(task) || r.turn.Number <= t.tasks[task].pruned && !r.created {
			continue
		}
		if r.created {
			created = append(created, &r.turn)
		} else {
			ended = append(ended, &r.turn)
		}
		r.created, r.ended = false, false
	}
	if len(created) > 0 {
		end, err := endColumns(created)
		if err != nil {
			return err
		}
		input := []any{column(created, func(t *store.Turn) []byte { return t.Input })}
		b.Queue(t.s.sql(sqlInsertTurns), slices.Concat(end, numberColumns(created), givenColumns(created), input)...)
	}
	if len(ended) == 0 {
		return nil
	}
	end, err := endColumns(ended)
	b.Queue(t.s.sql(sqlEndTurns), slices.Concat(end, numberColumns(ended))...)
	return err
}

func numberColumns(turns []*store.Turn) []any {
	return []any{
		column(turns, func(t *store.Turn) int64 { return t.Incarnation }),
		column(turns, func(t *store.Turn) int64 { return t.Number }),
	}
}

func givenColumns(turns []*store.Turn) []any {
	return []any{
		column(turns, func(t *store.Turn) string { return t.InputID }),
		column(turns, func(t *store.Turn) string { return string(t.Deliver) }),
		column(turns, func(t *store.Turn) string { return t.Digest.Key }),
		column(turns, func(t *store.Turn) string { return t.Digest.Sum }),
		column(turns, func(t *store.Turn) int64 { return micros(t.AcceptedAt) }),
	}
}

// endColumns are the values of turnEnd, and the output.
func endColumns(turns []*store.Turn) ([]any, error) {
	failures, err := failureColumn(turns, func(t *store.Turn) *store.TaskError { return t.Error })
	if err != nil {
		return nil, err
	}
	return []any{
		column(turns, storedStatus),
		column(turns, func(t *store.Turn) bool { return t.Steered }),
		column(turns, func(t *store.Turn) bool { return t.Superseded }),
		column(turns, func(t *store.Turn) string { return string(t.Entry) }),
		column(turns, func(t *store.Turn) int64 { return int64(t.Attempt) }),
		column(turns, func(t *store.Turn) int64 { return int64(t.Recoveries) }),
		column(turns, func(t *store.Turn) int64 { return t.Epoch }),
		column(turns, func(t *store.Turn) int64 { return t.EndEvent }),
		column(turns, func(t *store.Turn) int64 { return micros(t.StartedAt) }),
		column(turns, func(t *store.Turn) int64 { return micros(t.EndedAt) }),
		column(turns, func(t *store.Turn) string { return t.Reason }),
		failures,
		column(turns, func(t *store.Turn) string { return t.Detail }),
		column(turns, func(t *store.Turn) []byte { return t.Output }),
	}, nil
}

func storedStatus(t *store.Turn) string {
	if !t.Status.Outcome() {
		return ""
	}
	return string(t.Status)
}

const sqlPruneTurns = `DELETE FROM perdure.turns t USING unnest($1::bigint[], $2::bigint[]) AS w (task, number)
	WHERE t.task = w.task AND t.number <= w.number`
