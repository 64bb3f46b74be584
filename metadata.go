package perdure

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/perdure/perdure/internal/engine"
	"github.com/perdure/perdure/internal/payload"
)

// Metadata is a task's small JSON key/values, kept across attempts and turns. Changes are seen at once by
// the handler and become durable with [Scope.Checkpoint] and with the turn's end; a try that ends before
// loses them (M1). Going over Options.Limits.Metadata is ErrTooLarge and changes nothing; so does a value that is
// no JSON or is nested more than 500 deep, which is ErrInvalid. Bytes of a value that are no UTF-8 become U+FFFD,
// which is logged and counted. Its methods may be called concurrently.
type Metadata struct {
	m *engine.Metadata
}

// Get decodes the value of key into v, and reports whether there is one.
func (m *Metadata) Get(key string, v any) (bool, error) {
	stored, ok := m.m.Get(key)
	if !ok {
		return false, nil
	}
	if err := unmarshal(stored, v); err != nil {
		return true, fmt.Errorf("decode metadata %q: %w", key, err)
	}
	return true, nil
}

// Set sets key to the JSON of v.
func (m *Metadata) Set(key string, v any) error {
	if err := validKey(key); err != nil {
		return err
	}
	value, err := m.marshal(key, v)
	if err != nil {
		return err
	}
	_, err = m.m.Update(key, func(json.RawMessage) (json.RawMessage, error) { return value, nil })
	return err
}

// Delete removes key; removing an absent one does nothing.
func (m *Metadata) Delete(key string) error {
	_, err := m.m.Update(key, func(json.RawMessage) (json.RawMessage, error) { return nil, nil })
	return err
}

// Increment adds delta to the integer at key, which counts as 0 when absent, and returns the sum.
func (m *Metadata) Increment(key string, delta int64) (int64, error) {
	if err := validKey(key); err != nil {
		return 0, err
	}
	var sum int64
	_, err := m.m.Update(key, func(old json.RawMessage) (json.RawMessage, error) {
		if old != nil {
			if err := json.Unmarshal(old, &sum); err != nil {
				return nil, fmt.Errorf("metadata %q is not an integer: %w", key, err)
			}
		}
		if delta > 0 && sum > math.MaxInt64-delta || delta < 0 && sum < math.MinInt64-delta {
			return nil, fmt.Errorf("metadata %q: %w: %d and %d are more than an integer of 64 bits holds", key, ErrInvalid, sum, delta)
		}
		sum += delta
		return json.Marshal(sum)
	})
	return sum, err
}

// Append adds the JSON of v to the array at key, which counts as empty when absent.
func (m *Metadata) Append(key string, v any) error {
	if err := validKey(key); err != nil {
		return err
	}
	value, err := m.marshal(key, v)
	if err != nil {
		return err
	}
	_, err = m.m.Update(key, func(old json.RawMessage) (json.RawMessage, error) {
		var list []json.RawMessage
		if old != nil {
			if err := json.Unmarshal(old, &list); err != nil {
				return nil, fmt.Errorf("metadata %q is not an array: %w", key, err)
			}
		}
		all, _, err := payload.Marshal(append(list, value))
		if err != nil {
			return nil, fmt.Errorf("metadata %q: %w: %w", key, ErrInvalid, err)
		}
		return all, nil
	})
	return err
}

// marshal encodes a value.
func (m *Metadata) marshal(key string, v any) (json.RawMessage, error) {
	value, replaced, err := engine.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("metadata %q: %w: %w", key, ErrInvalid, err)
	}
	if replaced {
		m.m.Replaced()
	}
	return value, nil
}

// All returns the keys in order with their JSON values, as they were when the loop began.
func (m *Metadata) All() iter.Seq2[string, json.RawMessage] {
	return func(yield func(string, json.RawMessage) bool) {
		keys, values := m.m.All()
		for _, k := range keys {
			if !yield(k, bytes.Clone(values[k])) {
				return
			}
		}
	}
}

// maxKey bounds the length of a metadata key, in bytes.
const maxKey = 256

func validKey(key string) error {
	switch {
	case key == "" || len(key) > maxKey:
		return invalid("metadata key of %d bytes: it must have 1 to %d", len(key), maxKey)
	case !utf8.ValidString(key) || strings.ContainsRune(key, 0):
		return invalid("metadata key %q is not UTF-8 text", key)
	case strings.HasPrefix(key, reservedPrefix):
		return invalid("metadata key %q: keys that begin with %q are the framework's", key, reservedPrefix)
	}
	return nil
}
