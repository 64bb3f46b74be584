// Package model has the language models of the chat example: a scripted one that needs nothing, and any
// behind an OpenAI-compatible endpoint.
package model

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"time"
)

// Message is a message of a conversation.
type Message struct {
	Role    string `json:"role"` // User or Assistant
	Content string `json:"content"`
}

// Roles of messages.
const (
	User      = "user"
	Assistant = "assistant"
)

// Model answers conversations.
type Model interface {
	// Stream returns the reply to a conversation piece by piece. An error, which is ctx's cause when that
	// has ended, comes last.
	Stream(ctx context.Context, conversation []Message) iter.Seq2[string, error]
}

// Scripted says the same to everybody: what it has heard last, and a text of more than forty words.
type Scripted struct {
	Delay time.Duration // before each word
}

const script = "You said: %s. This reply is scripted, so it knows no more than that, but it takes its time: it comes word " +
	"by word, as a model's would, and is long enough to be interrupted. Go on typing while it runs, and it stops " +
	"here, keeps what it has said so far, and turns to what you have to say now."

// Stream implements Model.
func (m Scripted) Stream(ctx context.Context, conversation []Message) iter.Seq2[string, error] {
	said := ""
	if n := len(conversation); n > 0 {
		said = strings.TrimRight(conversation[n-1].Content, ".!? ")
	}
	return func(yield func(string, error) bool) {
		for word := range strings.FieldsSeq(fmt.Sprintf(script, said)) {
			if err := pause(ctx, m.Delay); err != nil {
				yield("", err)
				return
			}
			if !yield(word+" ", nil) {
				return
			}
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
