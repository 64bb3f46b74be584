package bench

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/perdure/perdure/store/sqlitestore"
)

// bare writes the rows of a cycle with nothing around it: no engine, no rules, no reads. It is what the
// machine can do with this schema, these settings and group commit.
type bare struct {
	db    *sqlite.Conn
	ops   chan *bareOp
	done  chan struct{}
	input []byte
	err   error // of the writer; read after done
}

type bareOp struct {
	id     string
	key    int64 // 0: insert; else update
	number int64 // set by an insert
	err    error
	done   chan struct{}
}

// Statements of a cycle: the columns that the store writes.
const (
	bareInsertTask = `INSERT INTO tasks (id, func, source, settings, created_at, status, worker, suspect,
		turn, turn_input_id, turn_steered, turn_entry, turn_attempt, turn_recoveries, turn_streak, turn_started_at,
		turn_overdue, turn_checkpoint, turn_cancel, turn_ended, last_turn, last_input_id, entered, queued, nudging,
		epoch, request, entered_at, settled_epoch, last_event, first_event, last_emitted, mark, event_epoch, updated_at, version)
		VALUES (?1, 'trivial', 1, 1, ?2, 'in_progress', ?3, 0,
		1, ?1, 0, 'fresh', 1, 0, 0, ?2, 0, 0, 0, 0, 1, ?1, 1, 0, 0, 1, 1, ?2, 0, 0, 1, 0, 0, 0, ?2, 1)`
	bareInsertTurn = `INSERT INTO turns (task, number, input_id, deliver, digest, accepted_at, input)
		VALUES (?1, 1, ?2, 'interrupt', ?3, ?4, ?5)`
	bareUpdateTask = `UPDATE tasks SET status = 'completed', worker = NULL, turn_ended = 1, settled_epoch = 1,
		last_event = 1, mark = 1, event_epoch = 1, updated_at = ?2, ended_at = ?2, expires_at = ?3, version = 2
		WHERE key = ?1`
	bareUpdateTurn = `UPDATE turns SET status = 'completed', entry = 'fresh', attempt = 1, epoch = 1, end_event = 1,
		started_at = ?2, ended_at = ?2, output = ?3 WHERE task = ?1 AND number = 1`
)

// openBare makes a file with the store's schema and opens it alone, with the store's settings.
func openBare(ctx context.Context, path string) (*bare, error) {
	st, err := sqlitestore.Open(ctx, path, nil)
	if err != nil {
		return nil, err
	}
	if err := st.Close(); err != nil {
		return nil, err
	}
	db, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		return nil, err
	}
	err = sqlitex.ExecScript(db, `INSERT INTO sources (id, json) VALUES (1, '{}'); INSERT INTO settings (id, json) VALUES (1, '{}');`)
	for _, pragma := range []string{"synchronous = FULL", "cache_size = -24000", "wal_autocheckpoint = 4000"} {
		if err == nil {
			err = sqlitex.ExecuteTransient(db, "PRAGMA "+pragma, nil)
		}
	}
	if err != nil {
		db.Close()
		return nil, err
	}
	b := &bare{db: db, ops: make(chan *bareOp, 4096), done: make(chan struct{})}
	if b.input, err = json.Marshal(payload); err != nil {
		return nil, err
	}
	go b.write()
	return b, nil
}

// cycle inserts a task with its turn, then updates both.
func (b *bare) cycle() error {
	insert := &bareOp{id: uuid.Must(uuid.NewV7()).String()}
	if err := b.do(insert); err != nil {
		return err
	}
	return b.do(&bareOp{key: insert.number})
}

func (b *bare) do(op *bareOp) error {
	op.done = make(chan struct{})
	b.ops <- op
	<-op.done
	return op.err
}

// write is the writer's goroutine: group commit as the store does it.
func (b *bare) write() {
	defer close(b.done)
	for op := range b.ops {
		batch := []*bareOp{op}
		for more := true; more && len(batch) < 512; {
			select {
			case op, ok := <-b.ops:
				if more = ok; ok {
					batch = append(batch, op)
				}
			default:
				more = false
			}
		}
		b.commit(batch)
	}
}

func (b *bare) commit(batch []*bareOp) {
	err := sqlitex.Execute(b.db, "BEGIN IMMEDIATE", nil)
	for _, op := range batch {
		if err == nil {
			err = b.apply(op)
		}
	}
	if err == nil {
		err = sqlitex.Execute(b.db, "COMMIT", nil)
	}
	for _, op := range batch {
		op.err = err
		close(op.done)
	}
}

func (b *bare) apply(op *bareOp) error {
	now := time.Now().UnixMicro()
	if op.key != 0 {
		const week = 7 * 24 * int64(time.Hour/time.Microsecond)
		if err := b.exec(bareUpdateTask, op.key, now, now+week); err != nil {
			return err
		}
		return b.exec(bareUpdateTurn, op.key, now, b.input)
	}
	if err := b.exec(bareInsertTask, op.id, now, "0198c0de-0000-7000-8000-000000000000"); err != nil {
		return err
	}
	op.number = b.db.LastInsertRowID()
	const digest = "0123456789abcdef0123456789abcdef0123456789a"
	return b.exec(bareInsertTurn, op.number, op.id, digest, now, b.input)
}

func (b *bare) exec(sql string, args ...any) error {
	s, err := b.db.Prepare(sql)
	if err != nil {
		return err
	}
	for i, arg := range args {
		switch v := arg.(type) {
		case int64:
			s.BindInt64(i+1, v)
		case string:
			s.BindText(i+1, v)
		case []byte:
			s.BindBytes(i+1, v)
		}
	}
	if _, err := s.Step(); err != nil {
		return err
	}
	return s.Reset()
}

func (b *bare) close() error {
	close(b.ops)
	<-b.done
	return b.db.Close()
}
