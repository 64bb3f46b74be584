// Package funcs holds the example funcs that "perdure serve --examples" runs and that the programs beside
// it run alone. Each shows one thing: digest, work that a crash does not repeat; countdown, crashes and
// retries on demand; approval, a task that waits for a person; chat, a conversation that is steered;
// stream, a text that is written word by word; multiturn, an agent with a session; retry, a flaky call; provenance, what a task knows of itself.
package funcs

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/examples/funcs/model"
)

// Options change what the examples do to the process that runs them. Nil is the default.
type Options struct {
	// Exit ends the process for countdown's crash_at. Default: os.Exit. In tests it may be something
	// that does not return.
	Exit func(code int)
	// Model answers in chat. Default: the scripted one, with 30 ms before each word.
	Model model.Model
}

// All returns every example func with its handler.
func All(opts *Options) []perdure.Binding {
	o := Options{Exit: os.Exit, Model: model.Scripted{Delay: defaultModelDelay}}
	if opts != nil && opts.Exit != nil {
		o.Exit = opts.Exit
	}
	if opts != nil && opts.Model != nil {
		o.Model = opts.Model
	}
	return []perdure.Binding{
		Digest.Bind(digest),
		Countdown.Bind(func(ctx context.Context, turn *perdure.Turn[CountdownInput, CountdownOutput]) (CountdownOutput, error) {
			return countdown(ctx, turn, o.Exit)
		}),
		Approval.Bind(approval),
		Chat.Bind(func(ctx context.Context, turn *perdure.Turn[ChatInput, ChatOutput]) (ChatOutput, error) {
			return chat(ctx, turn, o.Model)
		}),
		Multiturn.Bind(multiturn),
		Stream.Bind(stream),
		Retry.Bind(retry),
		Provenance.Bind(provenance),
	}
}

// refuse is an error in the input: no retry would help.
func refuse(format string, args ...any) error { return perdure.Permanent(fmt.Errorf(format, args...)) }

// maxDelay bounds the delays that an input may ask for, in milliseconds.
const maxDelay = int(time.Hour / time.Millisecond)

func checkDelay(ms int) error {
	if ms < 0 || ms > maxDelay {
		return refuse("delay_ms: must be 0 to %d, not %d", maxDelay, ms)
	}
	return nil
}

// pause waits, unless the turn is interrupted: then it returns the interrupt's error, for the handler to
// return.
func pause(turn *perdure.Scope, ms int) error {
	timer := time.NewTimer(time.Duration(ms) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-turn.Interrupt().Done():
		return context.Cause(turn.Interrupt())
	case <-timer.C:
		return nil
	}
}

// story is how a turn was entered, kept in its metadata: one item of Entries for the first entry and for
// each one after a crash or a release; one item of Attempts for every entry, a retry's included.
type story struct {
	Entries  []perdure.EntryMode `json:"entries"`
	Attempts []int               `json:"attempts"`
}

// enter adds this entry. A retry raises the attempt and keeps the entry mode: it begins no new item of
// Entries.
func (s *story) enter(turn *perdure.Scope) {
	last := len(s.Attempts) - 1
	retried := last >= 0 && turn.Attempt() > s.Attempts[last] && turn.Entry() == s.Entries[len(s.Entries)-1]
	if !retried {
		s.Entries = append(s.Entries, turn.Entry())
	}
	s.Attempts = append(s.Attempts, turn.Attempt())
}
