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
// numbers as written.
func canonicalJSON(data []byte) ([]byte, error) {
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
