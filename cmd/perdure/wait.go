package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure"
)

func (a *app) waitCommand() *cobra.Command {
	var (
		q       perdure.TurnQuery
		timeout time.Duration
		asJSON  bool
	)
	c := &cobra.Command{
		Use: "wait ID", Short: "Wait for a task's outcome, and print the output", Args: cobra.ExactArgs(1),
		Long: `Wait waits until the task's current (else last) turn has ended, and prints its output, as "start --wait"
does. It may be called at any time, any number of times, also long after the end.

On a terminal the output is laid out for people: its "report" as text if it has one, else strings without
quotes and escapes, and what is long indented. In a file or a pipe, and with --json, it is JSON.`,
		Example: `  perdure wait order-7
  perdure wait conv-1 --turn 3 --timeout 1m`,
		RunE: func(c *cobra.Command, args []string) error {
			q.TaskID = args[0]
			return a.with(c.Context(), reads, func(ctx context.Context, s *session) error {
				return a.await(ctx, s, q, timeout, asJSON)
			})
		},
	}
	c.Flags().Int64Var(&q.Turn, "turn", 0, "wait for the turn of this `NUMBER`")
	c.Flags().StringVar(&q.InputID, "input-id", "", "wait for the turn of the input with this `ID`")
	c.Flags().DurationVar(&timeout, "timeout", 0, "wait no longer than this")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON, also on a terminal")
	c.MarkFlagsMutuallyExclusive("turn", "input-id")
	return a.reach(c)
}

// errTimeout is the cause with which a wait ends when its time is over.
var errTimeout = errors.New("the wait is over")

// await waits for a turn's outcome and prints it.
func (a *app) await(ctx context.Context, s *session, q perdure.TurnQuery, timeout time.Duration, asJSON bool) error {
	waiting := ctx
	if timeout > 0 {
		var cancel context.CancelFunc
		waiting, cancel = context.WithTimeoutCause(ctx, timeout, errTimeout)
		defer cancel()
	}
	o, err := a.outcome(waiting, s, q)
	switch {
	case waiting.Err() == nil:
	case ctx.Err() != nil:
		return fmt.Errorf("interrupted; task %s goes on: perdure wait %s", q.TaskID, q.TaskID)
	default:
		return fmt.Errorf("task %s has not ended within %v; wait again: perdure wait %s", q.TaskID, timeout, q.TaskID)
	}
	if err != nil {
		return err
	}
	return a.printOutcome(o, asJSON)
}

// outcome waits for a turn's outcome, also while the server is away.
func (a *app) outcome(ctx context.Context, s *session, q perdure.TurnQuery) (*perdure.Outcome, error) {
	for away := false; ; {
		o, err := s.Outcome(ctx, q)
		if !errors.Is(err, perdure.ErrUnavailable) && !errors.Is(err, perdure.ErrShuttingDown) || ctx.Err() != nil {
			return o, err
		}
		if !away {
			away = true
			a.say("the server at %s does not answer (%s); still waiting", s.where, message(err))
		}
	}
}

// printOutcome prints the output of a turn that has one; other outcomes are errors.
func (a *app) printOutcome(o *perdure.Outcome, asJSON bool) error {
	if o.Err() != nil {
		return failure(o)
	}
	if o.Status == perdure.Suspended {
		a.say("task %s is suspended: %s", o.TaskID, o.Reason)
	}
	if asJSON || !a.onTerminal() {
		return a.printJSON(o.Output)
	}
	text := readable(o.Output)
	if report, ok := reportOf(o.Output); ok {
		text = strings.TrimRight(report, "\n") + "\n"
	}
	_, err := io.WriteString(a.out, text)
	return err
}

// failure is the error of a turn without output.
func failure(o *perdure.Outcome) error {
	return fmt.Errorf("task %s, turn %d: %s", o.TaskID, o.Turn, describe(o))
}

// describe says how a turn without output ended.
func describe(o *perdure.Outcome) string {
	text := string(o.Status)
	if e := o.Error; e != nil {
		if e.Attempts > 1 {
			text += fmt.Sprintf(" after %d attempts", e.Attempts)
		}
		return text + ": " + e.Message
	}
	if o.Reason != "" {
		text += ": " + o.Reason
	}
	return text
}

// reportOf returns the text that an output has for people.
func reportOf(output json.RawMessage) (string, bool) {
	var v struct {
		Report *string `json:"report"`
	}
	if json.Unmarshal(output, &v) != nil || v.Report == nil {
		return "", false
	}
	return *v.Report, true
}
