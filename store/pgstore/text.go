package pgstore

import (
	"encoding/json"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/perdure/perdure/store"
)

// texts are the statements for one schema. They are written for the schema perdure; another takes its place.
type texts struct {
	schema string
	known  sync.Map // string → string
}

func (s *Store) sql(text string) string { return s.texts.text(text) }

func (x *texts) text(sql string) string {
	if x.schema == DefaultSchema {
		return sql
	}
	if known, ok := x.known.Load(sql); ok {
		return known.(string)
	}
	own := strings.ReplaceAll(sql, DefaultSchema+".", pgx.Identifier{x.schema}.Sanitize()+".")
	x.known.Store(sql, own)
	return own
}

// ScanInt64 implements pgtype.Int64Scanner.
func (i *instant) ScanInt64(v pgtype.Int8) error {
	*i = instant{}
	if v.Int64 != 0 {
		*i = instant(time.UnixMicro(v.Int64).UTC())
	}
	return nil
}

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// rememberLimit bounds what is remembered of each kind of JSON text.
const rememberLimit = 4096

// shared are small values that many rows share, by their texts, so that the hot path neither parses nor writes JSON.
type shared struct {
	settings memo[store.Settings]
	sources  memo[store.Source]
	names    memo[*[]string]
	tags     memo[*map[string]string]
}

// memo remembers values and their JSON texts. Values are shared: nobody changes them.
type memo[V comparable] struct {
	mu     sync.RWMutex
	values map[string]V
	texts  map[V]string
}

// parse returns the value of a text.
func (m *memo[V]) parse(text string) (V, error) {
	m.mu.RLock()
	v, ok := m.values[text]
	m.mu.RUnlock()
	if ok || text == "" {
		return v, nil
	}
	err := json.Unmarshal([]byte(text), &v)
	if err == nil {
		m.remember(text, v)
	}
	return v, err
}

// text returns the text of a value.
func (m *memo[V]) text(v V) (string, error) {
	m.mu.RLock()
	text, ok := m.texts[v]
	m.mu.RUnlock()
	if ok {
		return text, nil
	}
	b, err := json.Marshal(v)
	if err == nil {
		m.remember(string(b), v)
	}
	return string(b), err
}

func (m *memo[V]) remember(text string, v V) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.values == nil || len(m.values) >= rememberLimit {
		m.values, m.texts = map[string]V{}, map[V]string{}
	}
	m.values[text], m.texts[v] = v, text
}

// jsonText encodes a value, nil as the empty text.
func jsonText[V any](v *V) (string, error) {
	if v == nil {
		return "", nil
	}
	text, err := json.Marshal(v)
	return string(text), err
}

func fromJSON[V any](text string) (*V, error) {
	if text == "" {
		return nil, nil
	}
	v := new(V)
	return v, json.Unmarshal([]byte(text), v)
}

// column makes an array of one value of each row.
func column[R, V any](rows []R, value func(R) V) []V {
	values := make([]V, len(rows))
	for i, r := range rows {
		values[i] = value(r)
	}
	return values
}

// failureColumn makes an array of the JSON of one error of each row.
func failureColumn[R any](rows []R, value func(R) *store.TaskError) ([]string, error) {
	texts := make([]string, len(rows))
	for i, r := range rows {
		var err error
		if texts[i], err = jsonText(value(r)); err != nil {
			return nil, err
		}
	}
	return texts, nil
}
