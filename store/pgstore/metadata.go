package pgstore

import (
	"maps"

	"github.com/jackc/pgx/v5"

	"github.com/perdure/perdure/store"
)

const sqlMetadata = `SELECT task, key, value FROM perdure.metadata WHERE task = ANY($1)`

// Metadata implements rules.Rows.
func (t *tx) Metadata(incarnation int64) (map[string][]byte, error) {
	r := t.tasks[incarnation]
	if !r.known {
		if err := t.query(sqlMetadata, t.scanMetadata, []int64{incarnation}); err != nil {
			return nil, err
		}
		t.knowMetadata(r)
	}
	m := maps.Clone(r.metadata)
	if m == nil {
		m = map[string][]byte{}
	}
	return m, nil
}

func (t *tx) scanMetadata(rows pgx.Rows) error {
	var task int64
	var key string
	var value []byte
	if err := rows.Scan(&task, &key, &value); err != nil {
		return err
	}
	r := t.tasks[task]
	if r.metadata == nil {
		r.metadata = map[string][]byte{}
	}
	r.metadata[key] = value
	return nil
}

// knowMetadata completes what has been read with what has been changed and not been written.
func (t *tx) knowMetadata(r *taskRow) {
	r.known = true
	for k, value := range t.changes.metadata {
		if k.task == r.task.Incarnation {
			r.setMetadata(k.key, value)
		}
	}
}

func (r *taskRow) setMetadata(key string, value []byte) {
	if value == nil {
		delete(r.metadata, key)
		return
	}
	if r.metadata == nil {
		r.metadata = map[string][]byte{}
	}
	r.metadata[key] = value
}

// SetMetadata implements rules.Rows.
func (t *tx) SetMetadata(incarnation int64, changes []store.Change) error {
	if t.changes.metadata == nil {
		t.changes.metadata = map[metadataKey][]byte{}
	}
	r := t.tasks[incarnation]
	for _, c := range changes {
		t.changes.metadata[metadataKey{incarnation, c.Key}] = c.Value
		if r.known {
			r.setMetadata(c.Key, c.Value)
		}
	}
	return nil
}

const (
	sqlDropMetadata = `DELETE FROM perdure.metadata m USING unnest($1::bigint[], $2::text[]) AS w (task, key)
		WHERE m.task = w.task AND m.key = w.key`
	sqlSetMetadata = `INSERT INTO perdure.metadata (task, key, value) SELECT * FROM unnest($1::bigint[], $2::text[], $3::bytea[])
		ON CONFLICT (task, key) DO UPDATE SET value = excluded.value`
)

func (t *tx) queueMetadata(b *pgx.Batch, changed map[metadataKey][]byte) {
	var set, drop []metadataKey
	for k, value := range changed {
		switch {
		case t.gone(k.task):
		case value == nil:
			drop = append(drop, k)
		default:
			set = append(set, k)
		}
	}
	task := func(k metadataKey) int64 { return k.task }
	key := func(k metadataKey) string { return k.key }
	if len(drop) > 0 {
		b.Queue(t.s.sql(sqlDropMetadata), column(drop, task), column(drop, key))
	}
	if len(set) > 0 {
		b.Queue(t.s.sql(sqlSetMetadata), column(set, task), column(set, key),
			column(set, func(k metadataKey) []byte { return changed[k] }))
	}
}
