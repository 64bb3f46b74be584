package clienttest

import (
	"bytes"

	"github.com/perdure/perdure/internal/payload"
)

// SameJSON reports whether two texts of JSON are of one value.
func SameJSON(a, b []byte) bool {
	x, err := payload.Canonical(a)
	if err != nil {
		return false
	}
	y, err := payload.Canonical(b)
	return err == nil && bytes.Equal(x, y)
}
