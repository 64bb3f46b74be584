package perdure

import (
	"encoding/json"

	"github.com/perdure/perdure/internal/engine"
)

// unmarshal is json.Unmarshal into a user's value, whose methods may panic.
func unmarshal(data []byte, v any) error {
	return engine.Guard(func() error { return json.Unmarshal(data, v) })
}
