package perdure

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"time"

	"github.com/perdure/perdure/internal/payload"
	"github.com/perdure/perdure/store"
)

// RetryPolicy says whether and when a failed attempt is tried again (Y1). After attempt n the wait is
// Initial·Factorⁿ⁻¹ + Step·(n-1), at most Max, less a random share of up to Jitter. The zero value
// never retries. What is stored holds for the task's life; Retryable is taken from the running program.
type RetryPolicy struct {
	Attempts int           // in all, counting the first; 0 and 1 mean no retry
	Initial  time.Duration // the first wait
	Step     time.Duration // added for each attempt: linear
	Factor   float64       // multiplied for each attempt: exponential; 0 means 1
	Max      time.Duration // the longest wait; 0 means no limit
	Jitter   float64       // 0 to 1

	// Retryable decides whether an error is worth another attempt; nil means every error. Cancellation,
	// release, a lost lease and Permanent errors never are (Y4).
	Retryable func(error) bool
}

// NoRetry is the policy of one attempt.
func NoRetry() RetryPolicy { return RetryPolicy{} }

// ExponentialRetry waits 1 s, 2 s, 4 s … up to 1 min, each shortened by up to a fifth.
func ExponentialRetry(attempts int) RetryPolicy {
	return RetryPolicy{Attempts: attempts, Initial: time.Second, Factor: 2, Max: time.Minute, Jitter: 0.2}
}

// FixedRetry waits the same time before each attempt.
func FixedRetry(attempts int, wait time.Duration) RetryPolicy {
	return RetryPolicy{Attempts: attempts, Initial: wait}
}

// LinearRetry waits once, twice, three times … the given time.
func LinearRetry(attempts int, wait time.Duration) RetryPolicy {
	return RetryPolicy{Attempts: attempts, Initial: wait, Step: wait}
}

// maxAttempts bounds the attempts of a policy.
const maxAttempts = 1_000_000

func (p RetryPolicy) validate() error {
	bad := func(field string, value any) error {
		return invalid("retry policy: %s must not be %v", field, value)
	}
	switch {
	case p.Attempts < 0 || p.Attempts > maxAttempts:
		return bad("Attempts", p.Attempts)
	case p.Initial < 0:
		return bad("Initial", p.Initial)
	case p.Step < 0:
		return bad("Step", p.Step)
	case p.Max < 0:
		return bad("Max", p.Max)
	case p.Factor != 0 && !(p.Factor >= 1 && p.Factor <= math.MaxFloat32):
		return bad("Factor", p.Factor)
	case !(p.Jitter >= 0 && p.Jitter <= 1):
		return bad("Jitter", p.Jitter)
	case p.Max > 0 && p.Max < p.Initial:
		return invalid("retry policy: Max %v is less than Initial %v", p.Max, p.Initial)
	}
	return nil
}

func (p RetryPolicy) stored() store.Retry {
	return store.Retry{Attempts: p.Attempts, Initial: p.Initial, Step: p.Step, Max: p.Max, Factor: p.Factor, Jitter: p.Jitter}
}

// retryJSON is a policy on the wire: durations as Go writes them, such as "100ms".
type retryJSON struct {
	Attempts int     `json:"attempts"`
	Initial  string  `json:"initial,omitempty"`
	Step     string  `json:"step,omitempty"`
	Factor   float64 `json:"factor,omitempty"`
	Max      string  `json:"max,omitempty"`
	Jitter   float64 `json:"jitter,omitempty"`
}

func durationString(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

func parseDuration(field, s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("retry.%s: %q is not a duration such as \"100ms\"", field, s)
	}
	return d, nil
}

// MarshalJSON writes the policy as the HTTP API does, durations as text.
func (p RetryPolicy) MarshalJSON() ([]byte, error) {
	return json.Marshal(retryJSON{
		Attempts: p.Attempts, Initial: durationString(p.Initial), Step: durationString(p.Step),
		Factor: p.Factor, Max: durationString(p.Max), Jitter: p.Jitter,
	})
}

// UnmarshalJSON reads what MarshalJSON writes, and refuses unknown fields, names in another case, and a field given twice.
func (p *RetryPolicy) UnmarshalJSON(b []byte) error {
	if err := payload.Check(b); err != nil {
		return fmt.Errorf("retry %w", err)
	}
	if err := payload.Fields(b, reflect.TypeFor[retryJSON]()); err != nil {
		return fmt.Errorf("retry: %w", err)
	}
	var j retryJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return fmt.Errorf("retry: %s", inputProblem(err))
	}
	initial, err1 := parseDuration("initial", j.Initial)
	step, err2 := parseDuration("step", j.Step)
	limit, err3 := parseDuration("max", j.Max)
	*p = RetryPolicy{Attempts: j.Attempts, Initial: initial, Step: step, Factor: j.Factor, Max: limit, Jitter: j.Jitter}
	return errors.Join(err1, err2, err3)
}
