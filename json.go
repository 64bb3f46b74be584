package perdure

import (
	"encoding/json"

	"github.com/perdure/perdure/internal/engine"
)

// marshal is json.Marshal of a user's value, whose methods may panic.
func marshal(v any) (data []byte, err error) {
	err = engine.Guard(func() (err error) {
		data, err = json.Marshal(v)
		return err
	})
	return data, err
}

// unmarshal is json.Unmarshal into a user's value, whose methods may panic.
func unmarshal(data []byte, v any) error {
	return engine.Guard(func() error { return json.Unmarshal(data, v) })
}
