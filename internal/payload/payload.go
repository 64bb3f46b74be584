// Package payload is what perdure asks of JSON beyond encoding/json, which replaces what is no UTF-8 without a word, takes
// the last of equal keys, finds fields in any case, and does not know equal values. All JSON is written and read by
// encoding/json; this package looks at its text.
package payload

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"
)

// MaxDepth is how deep arrays and objects may lie within each other. Python's parser takes about 990, PHP's 512; what carries a
// payload over HTTP adds less than ten.
const MaxDepth = 500

// Errors of payloads. Their texts go on after the name of what was looked at.
var (
	ErrUTF8  = errors.New("is not UTF-8 text")
	ErrDepth = fmt.Errorf("is nested more than %d deep", MaxDepth)
)

// Sound reports why data is not one JSON text that every reader can read: UTF-8, nested no deeper than MaxDepth.
func Sound(data []byte) error {
	switch {
	case !utf8.Valid(data):
		return ErrUTF8
	case deep(data):
		return ErrDepth
	case json.Valid(data):
		return nil
	}
	var v json.RawMessage
	return fmt.Errorf("is not JSON: %w", json.Unmarshal(data, &v))
}

// Check is Sound, and refuses objects that have a key twice.
func Check(data []byte) error {
	if err := Sound(data); err != nil {
		return err
	}
	w := walker{data: data}
	return w.value()
}

// Canonical is Check, and returns a form in which equal values are equal bytes: keys sorted, no white space, numbers as
// written, strings as encoding/json writes them. The escape of half a surrogate pair, which stands for no character, stays.
func Canonical(data []byte) ([]byte, error) {
	if err := Sound(data); err != nil {
		return nil, err
	}
	w := walker{data: data, writes: true, out: make([]byte, 0, len(data))}
	err := w.value()
	return w.out, err
}

// deep reports whether data, if it is JSON, is nested deeper than MaxDepth.
func deep(data []byte) bool {
	if bytes.Count(data, []byte{'['})+bytes.Count(data, []byte{'{'}) <= MaxDepth {
		return false
	}
	depth := 0
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '"':
			i += closing(data[i+1:]) + 1
		case '[', '{':
			if depth++; depth > MaxDepth {
				return true
			}
		case ']', '}':
			depth--
		}
	}
	return false
}

// closing returns where the string ends whose opening quote is just before text.
func closing(text []byte) int {
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return len(text)
}

// walker goes through sound JSON.
type walker struct {
	data    []byte
	at      int
	writes  bool // the canonical form, to out
	out     []byte
	members []member // of the objects that it is in
}

// member is a member of an object, and where its canonical form is.
type member struct {
	key      []byte
	from, to int
}

func (w *walker) put(text ...byte) {
	if w.writes {
		w.out = append(w.out, text...)
	}
}

// next passes white space, and returns what follows.
func (w *walker) next() byte {
	for {
		switch c := w.data[w.at]; c {
		case ' ', '\t', '\r', '\n':
			w.at++
		default:
			return c
		}
	}
}

// value passes a value.
func (w *walker) value() error {
	switch w.next() {
	case '{':
		return w.object()
	case '[':
		return w.array()
	case '"':
		if text := w.quoted(); w.writes {
			w.out = appendText(w.out, unquote(text))
		}
	default:
		w.put(w.scalar()...)
	}
	return nil
}

// scalar passes a number or a literal.
func (w *walker) scalar() []byte {
	begin := w.at
	for ; w.at < len(w.data); w.at++ {
		switch w.data[w.at] {
		case ' ', '\t', '\r', '\n', ',', ']', '}':
			return w.data[begin:w.at]
		}
	}
	return w.data[begin:]
}

// quoted passes a string, and returns what is between its quotes.
func (w *walker) quoted() []byte {
	begin := w.at + 1
	end := begin + closing(w.data[begin:])
	w.at = end + 1
	return w.data[begin:end]
}

// goesOn passes the comma before the next of an array or object, or its end.
func (w *walker) goesOn(end byte, first bool) bool {
	if w.next() == end {
		w.at++
		return false
	}
	if !first {
		w.at++
		w.next()
	}
	return true
}

// key passes the key of a member and its colon.
func (w *walker) key() []byte {
	key := unquote(w.quoted())
	w.next()
	w.at++
	return key
}

func (w *walker) array() error {
	w.at++
	w.put('[')
	for first := true; w.goesOn(']', first); first = false {
		if !first {
			w.put(',')
		}
		if err := w.value(); err != nil {
			return err
		}
	}
	w.put(']')
	return nil
}

func (w *walker) object() error {
	w.at++
	w.put('{')
	outer, begin := len(w.members), len(w.out)
	for first := true; w.goesOn('}', first); first = false {
		m := member{key: w.key(), from: len(w.out)}
		if w.writes {
			w.out = append(appendText(w.out, m.key), ':')
		}
		if err := w.value(); err != nil {
			return err
		}
		w.put(',')
		m.to = len(w.out)
		w.members = append(w.members, m)
	}
	err := w.sort(w.members[outer:], begin)
	w.members = w.members[:outer]
	w.out = bytes.TrimSuffix(w.out, []byte{','})
	w.put('}')
	return err
}

// sort refuses members of which two have the same key, and brings what is written of them, from begin on, in order.
func (w *walker) sort(members []member, begin int) error {
	byKey := func(a, b member) int { return bytes.Compare(a.key, b.key) }
	sorted := slices.IsSortedFunc(members, byKey)
	if !sorted {
		slices.SortFunc(members, byKey)
	}
	for i := 1; i < len(members); i++ {
		if bytes.Equal(members[i].key, members[i-1].key) {
			return fmt.Errorf("has key %s twice", short(members[i].key))
		}
	}
	if sorted || !w.writes {
		return nil
	}
	written := bytes.Clone(w.out[begin:])
	w.out = w.out[:begin]
	for _, m := range members {
		w.out = append(w.out, written[m.from-begin:m.to-begin]...)
	}
	return nil
}

// short quotes the beginning of a key.
func short(key []byte) string {
	const most = 40
	if runes := []rune(string(key)); len(runes) > most {
		return fmt.Sprintf("%q…", string(runes[:most]))
	}
	return fmt.Sprintf("%q", key)
}
