package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"charm.land/bubbles/v2/textinput"
	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/stores"
)

// What reaches the screen beside keys.
type (
	accepted struct { // a message was taken
		turn int64
		text string
	}
	refused struct { // a message was not taken
		text string
		err  error
	}
	emitted  struct{ perdure.Event }     // a piece of a reply, or a piece is taken back
	answered struct{ *perdure.TurnInfo } // a turn has ended
	trouble  struct{ err error }         // the stream cannot be read just now
	lost     struct{ err error }         // … nor later
)

// screen is the conversation on a terminal. What is over is printed above it and stays; it shows what is not.
func (c *conversation) screen(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	v := &view{talk: c, ctx: ctx, input: textinput.New(), open: map[int64]*exchange{}, width: 80}
	v.input.Prompt = "> "
	v.input.Placeholder = "say something"
	v.input.Focus()
	program := tea.NewProgram(v, tea.WithContext(ctx), tea.WithInput(c.a.in), tea.WithOutput(c.a.out.w), tea.WithEnvironment(c.a.environ))
	v.listen = func(after int64) { go c.listen(ctx, after, program.Send) }
	v.away = func(err error) { program.Send(trouble{err}) }
	_, err := program.Run()
	if v.err != nil {
		return v.err
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, tea.ErrInterrupted) {
		return err
	}
	c.a.say("the conversation goes on with: perdure chat %s", c.id)
	return nil
}

// listen passes on the task's stream, over restarts of the server.
func (c *conversation) listen(ctx context.Context, after int64, send func(tea.Msg)) {
	for ctx.Err() == nil {
		for e, err := range c.s.Events(ctx, c.id, &perdure.EventOptions{After: after}) {
			if err != nil {
				if !errors.Is(err, perdure.ErrUnavailable) && !errors.Is(err, perdure.ErrShuttingDown) {
					send(lost{err})
					return
				}
				send(trouble{err})
				break
			}
			after = max(after, e.Number, e.First-1)
			if err := c.heard(ctx, e, send); err != nil {
				send(lost{err})
				return
			}
		}
	}
}

func (c *conversation) heard(ctx context.Context, e perdure.Event, send func(tea.Msg)) error {
	switch e.Kind {
	case perdure.EventTurn:
		turn, err := c.s.Turn(ctx, perdure.TurnQuery{TaskID: c.id, Turn: e.Turn})
		if err != nil {
			return err
		}
		send(answered{turn})
	case perdure.EventEnd:
		return fmt.Errorf("the conversation has ended: %s", e.Status)
	default:
		send(emitted{e})
	}
	return nil
}

// exchange is a message that is not answered yet, with its reply so far.
type exchange struct {
	text  string
	reply perdure.Fold
}

// view is what the terminal shows. It belongs to the program's goroutine.
type view struct {
	talk   *conversation
	ctx    context.Context
	listen func(after int64)
	away   func(error)
	input  textinput.Model
	open   map[int64]*exchange // by turn
	over   int64               // the last turn that has ended
	status string
	width  int
	err    error
}

// Init implements tea.Model.
func (v *view) Init() tea.Cmd {
	return tea.Sequence(tea.Println(faint(stores.Redact("conversation "+v.talk.id))), textinput.Blink)
}

// Update implements tea.Model.
func (v *view) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		v.width = max(msg.Width, 20)
		v.input.SetWidth(v.width - 3)
		return v, nil
	case tea.KeyPressMsg:
		switch msg.String() {
		case "ctrl+c", "ctrl+d", "esc":
			return v, tea.Quit
		case "enter":
			return v, v.send()
		}
	case accepted:
		v.accepted(msg)
		return v, nil
	case refused:
		v.status = message(msg.err)
		v.input.SetValue(msg.text)
		return v, nil
	case emitted:
		v.status = ""
		v.exchange(msg.Turn).reply.Add(msg.Event)
		return v, nil
	case answered:
		return v, v.answered(msg.TurnInfo)
	case trouble:
		v.status = "the server does not answer: " + message(msg.err)
		return v, nil
	case lost:
		v.err = msg.err
		return v, tea.Quit
	}
	var cmd tea.Cmd
	v.input, cmd = v.input.Update(msg)
	return v, cmd
}

// accepted shows a message that waits for its answer, unless that was quicker.
func (v *view) accepted(msg accepted) {
	v.status = ""
	if msg.turn > v.over {
		v.exchange(msg.turn).text = msg.text
	}
}

func (v *view) exchange(turn int64) *exchange {
	if v.open[turn] == nil {
		v.open[turn] = &exchange{}
	}
	return v.open[turn]
}

// send takes the line that was typed.
func (v *view) send() tea.Cmd {
	text := strings.TrimSpace(v.input.Value())
	if text == "" {
		return nil
	}
	v.input.Reset()
	v.status = ""
	return func() tea.Msg {
		a, err := v.talk.say(v.ctx, text, v.away)
		if err != nil {
			return refused{text, err}
		}
		v.begin(a)
		return accepted{a.Turn, text}
	}
}

// begin listens to the stream once there is one.
func (v *view) begin(a *perdure.Accepted) {
	v.talk.once.Do(func() { v.listen(a.StreamAfter) })
}

// answered prints what is over.
func (v *view) answered(turn *perdure.TurnInfo) tea.Cmd {
	x := v.exchange(turn.Number)
	delete(v.open, turn.Number)
	v.over = max(v.over, turn.Number)
	v.status = ""
	var in said
	if json.Unmarshal(turn.Input, &in) == nil {
		x.text = in.Message
	}
	return tea.Println(v.render(x, replyEnd(turn)))
}

// replyEnd says how a reply ended, if not in full.
func replyEnd(turn *perdure.TurnInfo) string {
	var out struct {
		Partial bool `json:"partial"`
	}
	switch {
	case turn.Error != nil:
		return "failed: " + turn.Error.Message
	case turn.Status != perdure.Completed && turn.Status != perdure.Suspended:
		return strings.TrimSuffix(string(turn.Status)+": "+turn.Reason, ": ")
	case json.Unmarshal(turn.Output, &out) == nil && out.Partial:
		return "… you went on"
	}
	return ""
}

// View implements tea.Model.
func (v *view) View() tea.View {
	var b strings.Builder
	for _, turn := range slices.Sorted(maps.Keys(v.open)) {
		b.WriteString(v.render(v.open[turn], "") + "\n")
	}
	if v.status != "" {
		b.WriteString(lipgloss.Wrap(faint(v.status), v.width, " ") + "\n")
	}
	b.WriteString(v.input.View())
	return tea.NewView(b.String())
}

// render writes an exchange.
func (v *view) render(x *exchange, end string) string {
	text := lipgloss.NewStyle().Bold(true).Render("> " + plain(x.text))
	reply := ""
	for _, m := range x.reply.Messages() {
		piece, _ := textOf(m.Data)
		reply += piece
	}
	if reply != "" {
		text += "\n" + escape(strings.TrimSpace(reply))
	}
	if end != "" {
		text += "\n" + faint(end)
	}
	return lipgloss.Wrap(text, v.width, " ")
}

// faint is for what the program says beside the conversation.
func faint(s string) string { return lipgloss.NewStyle().Faint(true).Render(plain(s)) }
