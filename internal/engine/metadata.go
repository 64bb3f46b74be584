package engine

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/perdure/perdure/store"
)

// Metadata is a task's small JSON key/values. Changes are kept in memory until a checkpoint or the end
// of the turn writes them (rule M1). Its methods may be called concurrently.
type Metadata struct {
	a *Attempt

	mu     sync.Mutex
	values map[string]raw
	size   int
	dirty  map[string]int // by changed key: the number of its last change
	change int
	stored int // the number of the last change when the newest snapshot was made that the store has
}

// changes are those of a task's metadata that are not stored, as of one moment.
type changes struct {
	list    []store.Change
	numbers map[string]int // by key
	upTo    int
}

func newMetadata(a *Attempt, stored map[string][]byte) (*Metadata, error) {
	m := &Metadata{a: a}
	if len(stored) == 0 {
		return m, nil
	}
	m.values = make(map[string]raw, len(stored))
	for k, v := range stored {
		plain, err := a.e.decode(place{ofMetadata, a.task.ID, k}, v)
		if err != nil {
			return nil, err
		}
		m.values[k] = plain
		m.size += len(k) + len(plain)
	}
	return m, nil
}

// Get returns the value of a key, and whether there is one.
func (m *Metadata) Get(key string) (raw, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.values[key]
	return v, ok
}

// Update replaces the value of a key by what f makes of it; nil is "no value", in and out. An error of
// f, or a size over the limit, leaves everything as it was.
func (m *Metadata) Update(key string, f func(old raw) (raw, error)) (raw, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old, had := m.values[key]
	v, err := f(old)
	if err != nil {
		return nil, err
	}
	if !had && v == nil {
		return nil, nil
	}
	size := m.size
	if had {
		size -= len(key) + len(old)
	}
	if v != nil {
		size += len(key) + len(v)
	}
	if size > m.a.e.cfg.MaxMetadata && size > m.size {
		return nil, fmt.Errorf("metadata of %d bytes with key %q: %w: the limit is %d", size, key, ErrTooLarge, m.a.e.cfg.MaxMetadata)
	}
	m.size = size
	m.put(key, v)
	return v, nil
}

// put makes a change. m.mu is held.
func (m *Metadata) put(key string, v raw) {
	if m.values == nil {
		m.values = map[string]raw{}
	}
	if v == nil {
		delete(m.values, key)
	} else {
		m.values[key] = v
	}
	if m.dirty == nil {
		m.dirty = map[string]int{}
	}
	first := len(m.dirty) == 0
	m.change++
	m.dirty[key] = m.change
	if first {
		m.a.autoCheckpoint()
	}
}

// Replaced is as Attempt.Replaced, of a value.
func (m *Metadata) Replaced() { m.a.Replaced("metadata") }

// All returns the keys in order, and a copy of the values.
func (m *Metadata) All() ([]string, map[string]raw) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.values)), maps.Clone(m.values)
}

// snapshot returns the unwritten changes, encoded. The codec is called while nothing is locked.
func (m *Metadata) snapshot() (*changes, error) {
	if m == nil {
		return &changes{}, nil
	}
	s := m.unwritten()
	for i, c := range s.list {
		if c.Value == nil {
			continue
		}
		var err error
		if s.list[i].Value, err = m.a.e.encode(place{ofMetadata, m.a.task.ID, c.Key}, c.Value); err != nil {
			return nil, fmt.Errorf("encode metadata %q: %w", c.Key, err)
		}
	}
	return s, nil
}

func (m *Metadata) unwritten() *changes {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &changes{numbers: maps.Clone(m.dirty), upTo: m.change}
	for _, key := range slices.Sorted(maps.Keys(m.dirty)) {
		s.list = append(s.list, store.Change{Key: key, Value: m.values[key]})
	}
	return s
}

// unlessStored returns what of a snapshot is to be written: nothing when the store is known to have a newer one, which
// covers it. The pen is held.
func (m *Metadata) unlessStored(s *changes) []store.Change {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s.upTo < m.stored {
		return nil
	}
	return s.list
}

// written forgets the changes of a snapshot, but not those made to the same keys since (M2).
func (m *Metadata) written(s *changes) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stored = max(m.stored, s.upTo)
	for key, n := range s.numbers {
		if m.dirty[key] == n {
			delete(m.dirty, key)
		}
	}
	if len(m.dirty) > 0 {
		m.a.autoCheckpoint()
	}
}

// autoCheckpoint arms the func's AutoCheckpoint, if it has one.
func (a *Attempt) autoCheckpoint() {
	if a.fn.AutoCheckpoint <= 0 {
		return
	}
	a.timers.set(ofCheckpoint, a.fn.AutoCheckpoint, func() {
		if a.meta.clean() {
			return
		}
		if err := a.Checkpoint(a.ctx); err != nil && a.ctx.Err() == nil {
			a.Logger().Warn("automatic checkpoint failed", "error", err)
		}
	})
}

// clean reports whether everything is written.
func (m *Metadata) clean() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.dirty) == 0
}
