package sqlitestore

import (
	"encoding/json"
	"fmt"

	"github.com/perdure/perdure/store"
)

// What a connection remembers of each kind: so many values, and none whose text is longer.
const (
	internLimit = 4096
	internBytes = 1024
)

// interned is what a connection knows of small values that many rows share, so that the hot path neither
// parses nor writes JSON. Rows of settings and sources are never changed nor removed.
type interned struct {
	settings   map[int64]store.Settings
	settingsID map[store.Settings]int64
	sources    map[int64]store.Source
	sourceID   map[store.Source]int64
	tags       map[string]map[string]string
	names      map[string][]string
}

func newInterned() interned {
	return interned{
		settings: map[int64]store.Settings{}, settingsID: map[store.Settings]int64{},
		sources: map[int64]store.Source{}, sourceID: map[store.Source]int64{},
		tags: map[string]map[string]string{}, names: map[string][]string{},
	}
}

// remember sets a key of a bounded map.
func remember[K comparable, V any](m map[K]V, k K, v V) {
	if len(m) >= internLimit {
		clear(m)
	}
	m[k] = v
}

const (
	sqlSettingsByID = `SELECT json FROM settings WHERE id = ?`
	sqlSettingsFind = `SELECT id FROM settings WHERE json = ?`
	sqlSettingsAdd  = `INSERT INTO settings (json) VALUES (?)`
	sqlSourceByID   = `SELECT json FROM sources WHERE id = ?`
	sqlSourceFind   = `SELECT id FROM sources WHERE json = ?`
	sqlSourceAdd    = `INSERT INTO sources (json) VALUES (?)`
)

func (c *conn) settings(id int64) (store.Settings, error) {
	return lookup(c, c.interned.settings, sqlSettingsByID, id)
}

func (c *conn) settingsID(v store.Settings) (int64, error) {
	return internID(c, c.interned.settingsID, sqlSettingsFind, sqlSettingsAdd, v)
}

func (c *conn) source(id int64) (store.Source, error) {
	return lookup(c, c.interned.sources, sqlSourceByID, id)
}

func (c *conn) sourceID(v store.Source) (int64, error) {
	return internID(c, c.interned.sourceID, sqlSourceFind, sqlSourceAdd, v)
}

// lookup returns the value of an interned row.
func lookup[V any](c *conn, known map[int64]V, query string, id int64) (V, error) {
	if v, ok := known[id]; ok {
		return v, nil
	}
	var v V
	found := false
	s := c.stmt(query).int(id)
	err := s.each(func() error {
		found = true
		return json.Unmarshal([]byte(s.nextText()), &v)
	})
	if err == nil && !found {
		err = fmt.Errorf("row %d of settings or sources is missing", id)
	}
	if err != nil {
		return v, err
	}
	remember(known, id, v)
	return v, nil
}

// internID returns the row of a value, which it adds when there is none.
func internID[V comparable](c *conn, known map[V]int64, find, add string, v V) (int64, error) {
	if id, ok := known[v]; ok {
		return id, nil
	}
	text, err := json.Marshal(v)
	if err != nil {
		return 0, err
	}
	var id int64
	s := c.stmt(find).text(string(text))
	if err := s.each(func() error { id = s.nextInt(); return nil }); err != nil {
		return 0, err
	}
	if id == 0 {
		if err := c.stmt(add).text(string(text)).exec(); err != nil {
			return 0, err
		}
		id = c.db.LastInsertRowID()
	}
	remember(known, v, id)
	return id, nil
}

// parse decodes a JSON text that many rows share. The value is shared as well: nobody changes it.
func parse[V any](known map[string]V, text string) (V, error) {
	v, ok := known[text]
	if ok || text == "" {
		return v, nil
	}
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return v, err
	}
	if len(text) <= internBytes {
		remember(known, text, v)
	}
	return v, nil
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
