package bench

import (
	"context"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/perdure/perdure/store/sqlitestore"
)

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

// bareFile is a file that is written bare.
type bareFile struct {
	db    *sqlite.Conn
	input []byte
}

// openBareFile makes a file with the store's schema and opens it alone, with the store's settings.
func openBareFile(ctx context.Context, path string, input []byte) ([]committer, func() error, error) {
	st, err := sqlitestore.Open(ctx, path, nil)
	if err != nil {
		return nil, nil, err
	}
	if err := st.Close(); err != nil {
		return nil, nil, err
	}
	db, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		return nil, nil, err
	}
	err = sqlitex.ExecScript(db, `INSERT INTO sources (id, json) VALUES (1, '{}'); INSERT INTO settings (id, json) VALUES (1, '{}');`)
	for _, pragma := range []string{"synchronous = FULL", "cache_size = -24000", "wal_autocheckpoint = 4000"} {
		if err == nil {
			err = sqlitex.ExecuteTransient(db, "PRAGMA "+pragma, nil)
		}
	}
	if err != nil {
		db.Close()
		return nil, nil, err
	}
	f := &bareFile{db: db, input: input}
	return []committer{f.commit}, db.Close, nil
}

func (f *bareFile) commit(batch []*bareOp) error {
	err := sqlitex.Execute(f.db, "BEGIN IMMEDIATE", nil)
	for _, op := range batch {
		if err == nil {
			err = f.apply(op)
		}
	}
	if err == nil {
		err = sqlitex.Execute(f.db, "COMMIT", nil)
	}
	return err
}

func (f *bareFile) apply(op *bareOp) error {
	now := time.Now().UnixMicro()
	if op.key != 0 {
		const week = 7 * 24 * int64(time.Hour/time.Microsecond)
		if err := f.exec(bareUpdateTask, op.key, now, now+week); err != nil {
			return err
		}
		return f.exec(bareUpdateTurn, op.key, now, f.input)
	}
	if err := f.exec(bareInsertTask, op.id, now, bareWorker); err != nil {
		return err
	}
	op.number = f.db.LastInsertRowID()
	return f.exec(bareInsertTurn, op.number, op.id, bareDigest, now, f.input)
}

func (f *bareFile) exec(sql string, args ...any) error {
	s, err := f.db.Prepare(sql)
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
