package funcs

import (
	"context"
	"fmt"
	"time"

	"github.com/perdure/perdure"
)

// RetryInput says how flaky the call is.
type RetryInput struct {
	Failures  int  `json:"failures"`            // how many attempts fail before one succeeds
	Permanent bool `json:"permanent,omitempty"` // they fail with an error that no retry would help
}

// RetryOutput says which attempt succeeded.
type RetryOutput struct {
	Attempts int    `json:"attempts"`
	Answer   string `json:"answer"`
}

// Retry calls something flaky, and leaves it to the policy to try again: up to five attempts, waiting
// 50 ms, 100 ms, 200 ms … between them.
var Retry = perdure.NewFunc[RetryInput, RetryOutput]("retry", &perdure.FuncOptions[RetryInput]{
	Retry: perdure.RetryPolicy{Attempts: 5, Initial: 50 * time.Millisecond, Factor: 2, Max: time.Second},
})

func retry(_ context.Context, turn *perdure.Turn[RetryInput, RetryOutput]) (RetryOutput, error) {
	in := turn.Input()
	if in.Failures < 0 {
		return RetryOutput{}, refuse("failures: must not be %d", in.Failures)
	}
	answer, err := flaky(turn.Attempt(), in.Failures)
	if err != nil && in.Permanent {
		err = perdure.Permanent(err)
	}
	return RetryOutput{Attempts: turn.Attempt(), Answer: answer}, err
}

// flaky stands for a call over the network.
func flaky(attempt, failures int) (string, error) {
	if attempt <= failures {
		return "", fmt.Errorf("call %d: connection reset by peer", attempt)
	}
	return "hello", nil
}
