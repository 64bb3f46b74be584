package engine

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/perdure/perdure/store"
)

// canonicalJSON returns a form in which equal values are equal bytes: keys sorted, no white space,
// numbers as written. Small inputs are often in that form already.
func canonicalJSON(data []byte) ([]byte, error) {
	if s := (canonicalScan{data: data}); s.value() && s.at == len(data) {
		return data, nil
	}
	return canonicalize(data)
}

func canonicalize(data []byte) ([]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, fmt.Errorf("input is not JSON: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("input is not JSON: more than one value")
	}
	return json.Marshal(v)
}

// digest identifies canonical JSON without a key.
func digest(canonical []byte) store.Digest {
	sum := sha256.Sum256(canonical)
	return store.Digest{Sum: base64.RawStdEncoding.EncodeToString(sum[:])}
}

// canonicalScan walks valid JSON and stops at the first byte that canonicalize might write otherwise. It
// is cautious: strings with anything but plain ASCII stop it too.
type canonicalScan struct {
	data []byte
	at   int
}

// value passes a value; it reports false when it was stopped.
func (s *canonicalScan) value() bool {
	switch s.peek() {
	case '{':
		return s.object()
	case '[':
		return s.array()
	case '"':
		_, ok := s.text()
		return ok
	}
	begin := s.at
	for c := s.peek(); c == '-' || c == '+' || c == '.' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || c == 'E'; c = s.peek() {
		s.at++
	}
	return s.at > begin
}

// peek returns the next byte, 0 at the end.
func (s *canonicalScan) peek() byte {
	if s.at == len(s.data) {
		return 0
	}
	return s.data[s.at]
}

func (s *canonicalScan) pass(c byte) bool {
	if s.peek() != c {
		return false
	}
	s.at++
	return true
}

// text passes a string and returns what is between its quotes.
func (s *canonicalScan) text() ([]byte, bool) {
	if !s.pass('"') {
		return nil, false
	}
	begin := s.at
	for ; s.at < len(s.data); s.at++ {
		switch c := s.data[s.at]; {
		case c == '"':
			s.at++
			return s.data[begin : s.at-1], true
		case c < ' ' || c > '~' || c == '\\' || c == '<' || c == '>' || c == '&':
			return nil, false
		}
	}
	return nil, false
}

// object passes an object whose keys are in order, none twice.
func (s *canonicalScan) object() bool {
	s.at++
	var last []byte
	for first := true; !s.pass('}'); first = false {
		if !first && !s.pass(',') {
			return false
		}
		key, ok := s.text()
		if !ok || !first && bytes.Compare(last, key) >= 0 || !s.pass(':') || !s.value() {
			return false
		}
		last = key
	}
	return true
}

func (s *canonicalScan) array() bool {
	s.at++
	for first := true; !s.pass(']'); first = false {
		if !first && !s.pass(',') || !s.value() {
			return false
		}
	}
	return true
}
