package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"charm.land/lipgloss/v2"
	"github.com/spf13/cobra"

	"github.com/perdure/perdure"
)

const tailLong = `Tail prints a task's stream: what its handler emits, first what is stored, then live, until the task has
ended, or the turn of --turn. It goes on by itself when the server is restarted.

An event that has a "text" is printed as that text, others as JSON, one a line. What a crash takes back has
been printed already on a terminal, and is told on standard error; into a file or a pipe only what cannot be taken back
any more is printed, so that there the text is that of the output. --view chooses one or the other.

It exits 0 when the task (or turn) has completed or suspended, and 1 when it has failed or was stopped.`

func (a *app) tailCommand() *cobra.Command {
	var opts perdure.EventOptions
	var p printer
	var view string
	c := &cobra.Command{
		Use: "tail ID", Short: "Print a task's stream as it comes", Long: tailLong, Args: cobra.ExactArgs(1),
		Example: `  perdure tail article
  perdure tail conv-1 --turn 3
  perdure tail article --after 120 --json | jq -r .data.text`,
		RunE: func(c *cobra.Command, args []string) error {
			if opts.After < 0 {
				return usage("--after: must not be %d", opts.After)
			}
			if err := p.choose(a, view, &opts); err != nil {
				return err
			}
			return a.with(c.Context(), reads, func(ctx context.Context, s *session) error {
				return a.follow(ctx, s, args[0], opts, &p)
			})
		},
	}
	flags := c.Flags()
	flags.Int64Var(&opts.After, "after", 0, "begin after the event of this `NUMBER`")
	flags.Int64Var(&opts.Turn, "turn", 0, "end with the turn of this `NUMBER`")
	flags.BoolVar(&opts.NoWait, "no-wait", false, "end with what is there now")
	flags.BoolVar(&p.json, "json", false, "print every event as a line of JSON")
	viewFlag(c, &view)
	return a.reach(c)
}

func viewFlag(c *cobra.Command, view *string) {
	c.Flags().StringVar(view, "view", "", "`live`, with what may be taken back, or committed (default live on a terminal and with --json)")
}

// printer prints events.
type printer struct {
	json bool
	turn int64 // print the events of this turn only; 0: of all

	a        *app
	terminal bool
	inText   bool // the last thing that was printed is a text without its end of line
}

// choose decides what is printed.
func (p *printer) choose(a *app, view string, opts *perdure.EventOptions) error {
	p.a, p.terminal = a, a.onTerminal()
	switch view {
	case "":
		opts.Committed = !p.terminal && !p.json
	case "live", "committed":
		opts.Committed = view == "committed"
	default:
		return usage("--view %s: it can be live or committed", view)
	}
	return nil
}

// follow prints a stream to its end, over restarts of the server. How the task or turn ended is its error.
func (a *app) follow(ctx context.Context, s *session, id string, opts perdure.EventOptions, p *printer) error {
	for away := false; ; {
		end, err := a.followOnce(ctx, s, id, &opts, p)
		if ctx.Err() != nil {
			p.endLine()
			return fmt.Errorf("interrupted; task %s goes on: perdure tail %s --after %d", id, id, opts.After)
		}
		if errors.Is(err, perdure.ErrUnavailable) || errors.Is(err, perdure.ErrShuttingDown) {
			if !away {
				away = true
				p.note("the server at %s does not answer (%s); still reading", s.where, message(err))
			}
			continue
		}
		p.endLine()
		if err != nil || end == nil {
			return err
		}
		return a.ending(ctx, s, id, opts, end)
	}
}

// ending says how a stream ended, in the words of wait; nil if well.
func (a *app) ending(ctx context.Context, s *session, id string, opts perdure.EventOptions, end *perdure.Event) error {
	switch end.Status {
	case perdure.Completed, perdure.Suspended:
		return nil
	case perdure.Deleted:
		return fmt.Errorf("task %s: %w", id, perdure.ErrDeleted)
	}
	o, err := a.outcome(ctx, s, perdure.TurnQuery{TaskID: id, Turn: opts.Turn, Incarnation: opts.Incarnation})
	if err != nil {
		return err
	}
	return failure(o)
}

// followOnce prints events until the end, or until something breaks; opts.After is then the last number.
func (a *app) followOnce(ctx context.Context, s *session, id string, opts *perdure.EventOptions, p *printer) (*perdure.Event, error) {
	for e, err := range s.Events(ctx, id, opts) {
		if err != nil {
			return nil, err
		}
		opts.After = max(opts.After, e.Number, e.First-1)
		if err := p.print(e); err != nil {
			return nil, err
		}
		if e.Kind == perdure.EventEnd {
			return &e, nil
		}
	}
	return nil, nil
}

func (p *printer) print(e perdure.Event) error {
	if p.turn != 0 && e.Number != 0 && e.Turn != p.turn {
		return nil
	}
	if p.json {
		return json.NewEncoder(p.a.out).Encode(e)
	}
	switch e.Kind {
	case perdure.EventMessage:
		return p.message(e)
	case perdure.EventRewind:
		p.note("events %d to %d are taken back: that part is done again", e.To+1, e.Number-1)
	case perdure.EventGap:
		p.note("what came before event %d is no longer kept", e.First)
	case perdure.EventTurn:
		if p.turn != 0 {
			break
		}
		p.note("turn %d: %s%s", e.Turn, e.Status, reasonOf(e))
	}
	return nil
}

func reasonOf(e perdure.Event) string {
	if e.Reason == "" {
		return ""
	}
	return ": " + e.Reason
}

// message prints what was emitted: a text as it is, anything else as a line of JSON.
func (p *printer) message(e perdure.Event) error {
	if text, ok := textOf(e.Data); ok {
		if text != "" {
			p.inText = !strings.HasSuffix(text, "\n")
		}
		_, err := io.WriteString(p.a.out, text)
		return err
	}
	p.endLine()
	_, err := fmt.Fprintf(p.a.out, "%s\n", e.Data)
	return err
}

// textOf returns the text of an event that has one.
func textOf(data json.RawMessage) (string, bool) {
	var v struct {
		Text *string `json:"text"`
	}
	if len(data) == 0 || data[0] != '{' || json.Unmarshal(data, &v) != nil || v.Text == nil {
		return "", false
	}
	return *v.Text, true
}

// endLine ends a text's line on a terminal. Elsewhere a text is left as it is.
func (p *printer) endLine() {
	if p.inText && p.terminal {
		fmt.Fprintln(p.a.out)
	}
	p.inText = false
}

// note tells something on standard error, in a line of its own.
func (p *printer) note(format string, args ...any) {
	p.endLine()
	text := p.a.errOut.style("perdure: "+fmt.Sprintf(format, args...), lipgloss.NewStyle().Faint(true))
	p.a.errOut.show(text + "\n")
}

// followStart prints the events of a turn that was just started.
func (a *app) followStart(ctx context.Context, s *session, accepted *perdure.Accepted, opts perdure.EventOptions, p *printer) error {
	p.turn = accepted.Turn
	opts.Turn, opts.Incarnation, opts.After = accepted.Turn, accepted.Incarnation, accepted.StreamAfter
	return a.follow(ctx, s, accepted.TaskID, opts, p)
}
