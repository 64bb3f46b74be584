package funcs

import (
	"context"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/examples/funcs/model"
)

// ChatInput is what a person says.
type ChatInput struct {
	Message string `json:"message"`
}

// ChatOutput is the reply, as far as it had come when the turn was steered, and all that was heard so far.
type ChatOutput struct {
	Reply   string   `json:"reply"`
	Partial bool     `json:"partial"`
	Turn    int64    `json:"turn"`
	Heard   []string `json:"heard"`
}

// Chat is a conversation with a model. Who goes on talking steers it: the reply stops where it is, is kept
// as far as it came, and the next message is answered.
var Chat = perdure.NewFunc[ChatInput, ChatOutput]("chat", &perdure.FuncOptions[ChatInput]{
	MultiTurn: true, Steerable: true, Retry: perdure.ExponentialRetry(3), // models fail, too
	Title: func(in ChatInput, _ string) (string, error) { return title(in.Message), nil },
})

// maxMessage bounds a message, in bytes.
const maxMessage = 16 << 10

// remembered is how many exchanges the model is told of.
const remembered = 20

// exchange is a message and its reply. Only the last ones keep their reply.
type exchange struct {
	Turn    int64  `json:"turn"`
	Message string `json:"message"`
	Reply   string `json:"reply,omitempty"`
	Partial bool   `json:"partial,omitempty"`
}

// conversation is what a chat keeps in its metadata.
type conversation struct {
	turn      *perdure.Scope
	exchanges []exchange
}

const exchangesKey = "exchanges"

func chat(ctx context.Context, turn *perdure.Turn[ChatInput, ChatOutput], m model.Model) (ChatOutput, error) {
	message := turn.Input().Message
	switch {
	case strings.TrimSpace(message) == "":
		return ChatOutput{}, refuse("message: is missing")
	case len(message) > maxMessage || !utf8.ValidString(message):
		return ChatOutput{}, refuse("message: must be text of at most %d bytes", maxMessage)
	}
	c := conversation{turn: turn.Scope}
	if err := c.hear(ctx, message); err != nil {
		return ChatOutput{}, err
	}
	reply, err := c.answer(ctx, m)
	if err != nil && !steered(turn.Scope) {
		return ChatOutput{}, err // also of a cancel, the deadline or a shutdown
	}
	if err := c.keep(reply, err != nil); err != nil {
		return ChatOutput{}, err
	}
	return ChatOutput{Reply: reply, Partial: err != nil, Turn: turn.Number(), Heard: c.heard()}, nil
}

// steered reports whether a newer message is all that the turn was interrupted by.
func steered(turn *perdure.Scope) bool { return turn.Causes() == perdure.Causes{Steered: true} }

// hear loads what was said before and adds the message, once however often the turn is entered.
func (c *conversation) hear(ctx context.Context, message string) error {
	if _, err := c.turn.Metadata().Get(exchangesKey, &c.exchanges); err != nil {
		return err
	}
	if n := len(c.exchanges); n > 0 && c.exchanges[n-1].Turn == c.turn.Number() {
		return nil
	}
	if n := len(c.exchanges); n >= remembered {
		c.exchanges[n-remembered].Reply = ""
	}
	c.exchanges = append(c.exchanges, exchange{Turn: c.turn.Number(), Message: message})
	if err := c.turn.Metadata().Set(exchangesKey, c.exchanges); err != nil {
		return perdure.Permanent(err) // the conversation has become too long
	}
	return c.turn.Checkpoint(ctx)
}

// answer asks the model, and emits its words as they come. What had come is returned beside an error.
func (c *conversation) answer(ctx context.Context, m model.Model) (string, error) {
	var reply strings.Builder
	for text, err := range m.Stream(c.turn.Interrupt(), c.messages()) {
		if err != nil {
			return reply.String(), err
		}
		if err := c.turn.Emit(ctx, TextEvent{text}); err != nil {
			return reply.String(), err
		}
		reply.WriteString(text)
	}
	return reply.String(), nil
}

// keep stores the reply with the end of the turn.
func (c *conversation) keep(reply string, partial bool) error {
	last := &c.exchanges[len(c.exchanges)-1]
	last.Reply, last.Partial = reply, partial
	return c.turn.Metadata().Set(exchangesKey, c.exchanges)
}

func (c *conversation) heard() []string {
	var all []string
	for _, e := range c.exchanges {
		all = append(all, e.Message)
	}
	return all
}

// messages is what the model is told.
func (c *conversation) messages() []model.Message {
	var all []model.Message
	for _, e := range c.exchanges[max(0, len(c.exchanges)-remembered):] {
		all = append(all, model.Message{Role: model.User, Content: e.Message})
		if e.Reply != "" {
			all = append(all, model.Message{Role: model.Assistant, Content: e.Reply})
		}
	}
	return all
}

// defaultModelDelay is the scripted model's delay before each word.
const defaultModelDelay = 30 * time.Millisecond
