package rules

import (
	"encoding/json"
	"time"

	"github.com/perdure/perdure/store"
)

// once applies an operation that has a request ID, or answers as before when it is a repeat (O6). What was refused is
// not remembered: it left no trace.
func once[T any](rows Rows, now time.Time, r *Request, apply func() (*T, error)) (*T, error) {
	if r.ID == "" {
		return apply()
	}
	known, err := rows.Request(r.Task, r.ID)
	if err != nil {
		return nil, err
	}
	if known != nil && now.Sub(known.At) < store.RequestsKept {
		if known.Op != r.Op {
			return nil, &store.ConflictError{TaskID: r.Task, RequestID: r.ID}
		}
		answer := new(T)
		return answer, json.Unmarshal(known.Answer, answer)
	}
	answer, err := apply()
	if err != nil {
		return nil, err
	}
	if r.Answer, err = json.Marshal(answer); err != nil {
		return nil, err
	}
	r.At = now
	return answer, rows.Remember(r)
}
