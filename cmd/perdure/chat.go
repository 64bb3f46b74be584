package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync"

	"github.com/google/uuid"
	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"github.com/perdure/perdure"
)

const chatLong = `Chat is a conversation with a func that takes {"message":"…"} and emits {"text":"…"} as its reply comes: the chat
example, or one of your own. Without an ID a new conversation is begun.

On a terminal, go on typing while it answers: the reply stops where it is, and your next message is answered.
Several messages are answered one after the other. Ctrl-C or Ctrl-D leaves; the conversation stays, and
goes on with the same ID, from any terminal.

From a file or a pipe each line is a message, sent when the one before has been answered; the replies go to standard
output. It exits 1 if one of them failed.`

func (a *app) chatCommand() *cobra.Command {
	var fn string
	c := &cobra.Command{
		Use: "chat [ID]", Short: "Have a conversation, and interrupt it", Long: chatLong, Args: cobra.MaximumNArgs(1),
		Example: `  perdure chat
  perdure chat conv-1
  printf 'hello\nwhat did I say?\n' | perdure chat conv-1`,
		RunE: func(c *cobra.Command, args []string) error {
			talk := &conversation{a: a, fn: fn}
			if len(args) > 0 {
				talk.id = args[0]
			} else {
				talk.id = uuid.Must(uuid.NewV7()).String()
			}
			return a.with(c.Context(), writes, func(ctx context.Context, s *session) error {
				talk.s = s
				if a.interactive() {
					return talk.screen(ctx)
				}
				return talk.lines(ctx)
			})
		},
	}
	c.Flags().StringVar(&fn, "func", "chat", "the `FUNC` to talk to")
	return a.reach(c)
}

// interactive reports whether a person sits on both sides of the program.
func (a *app) interactive() bool {
	in, ok := a.in.(interface{ Fd() uintptr })
	return ok && isatty.IsTerminal(in.Fd()) && a.onTerminal()
}

// conversation is one with a task.
type conversation struct {
	a  *app
	s  *session
	id string
	fn string

	once sync.Once // the screen listens from the first message on
}

type said struct {
	Message string `json:"message"`
}

// say sends a message, again and again while the server is away: away is told then.
func (c *conversation) say(ctx context.Context, text string, away func(error)) (*perdure.Accepted, error) {
	input, err := json.Marshal(said{text})
	if err != nil {
		return nil, err
	}
	req := &perdure.StartRequest{Func: c.fn, TaskID: c.id, InputID: uuid.Must(uuid.NewV7()).String(), Input: input}
	for {
		accepted, err := c.s.Start(ctx, req)
		switch {
		case ctx.Err() == nil && (errors.Is(err, perdure.ErrUnavailable) || errors.Is(err, perdure.ErrShuttingDown)):
			away(err)
			continue
		case errors.Is(err, perdure.ErrUnknownFunc):
			err = &unknownFunc{c.fn, err}
		}
		return accepted, err
	}
}

// errAnswers says that a message has not been answered.
var errAnswers = errors.New("not every message was answered")

// lines sends the lines of the input, each when the one before has been answered.
func (c *conversation) lines(ctx context.Context) error {
	c.a.say("conversation %s", c.id)
	var failed error
	in := bufio.NewScanner(c.a.in)
	in.Buffer(nil, maxLine)
	for in.Scan() {
		text := strings.TrimSpace(in.Text())
		if text == "" {
			continue
		}
		accepted, err := c.say(ctx, text, func(err error) {
			c.a.say("the server at %s does not answer (%s); still sending", c.s.where, message(err))
		})
		if err != nil {
			return err
		}
		p := &printer{a: c.a}
		err = c.a.followStart(ctx, c.s, accepted, perdure.EventOptions{Committed: true}, p)
		if ctx.Err() != nil {
			return err
		}
		if err != nil {
			c.a.say("%s", message(err))
			failed = errAnswers
		}
		if _, err := io.WriteString(c.a.out, "\n"); err != nil {
			return err
		}
	}
	return errors.Join(in.Err(), failed)
}

// maxLine bounds a line of the input, in bytes.
const maxLine = 1 << 20
