package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/perdure/perdure"
)

// starting is the flags of start and steer.
type starting struct {
	req      perdure.StartRequest
	input    string
	ifExists string
	deliver  string
	retry    string
	tags     []string
	steer    bool // the func is that of the task
	wait     bool
	follow   bool
	view     string
	json     bool
	timeout  time.Duration
}

const startLong = `Start gives a func an input and prints the task's ID. A new task is made, unless --id names one: if that
is suspended it goes on with the input; if it is running and its func can be steered, the input is
queued behind the running turn.

With --wait it waits for the outcome and prints the output instead, as "perdure wait" does, and the ID on
standard error. The wait outlasts a restart of the server.
With --follow it prints what the turn emits, as tail does, until its end; with --wait too, the output after that.

It exits 0 when the turn has completed or suspended, and 1 when it has failed or was stopped.`

const startExample = `  perdure start digest --input '{"paths":["docs"]}' --wait
  perdure start stream --input '{"topic":"boats"}' --follow
  perdure start countdown --input @steps.json --id nightly --tag kind=test
  echo '{"request":"buy a boat"}' | perdure start approval --input - --id order-7
  perdure start approval --id order-7 --input '{"approved":true,"by":"Ada"}' --wait
  perdure start retry --input '{"failures":2}' --retry '{"attempts":4,"initial":"1s","factor":2}'`

func (a *app) startCommand() *cobra.Command {
	var f starting
	c := &cobra.Command{
		Use: "start FUNC", Short: "Give a func an input", Long: startLong, Example: startExample, Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			f.req.Func = args[0]
			return a.start(c, &f)
		},
	}
	a.inputFlags(c, &f)
	flags := c.Flags()
	flags.StringVar(&f.req.TaskID, "id", "", "the task's `ID` (default: a new one)")
	flags.StringVar(&f.ifExists, "if-exists", "", "`attach`: if the task exists add no input, and take its current turn")
	flags.StringVar(&f.req.Title, "title", "", "the task's title")
	flags.StringVar(&f.req.Description, "description", "", "the task's description")
	flags.StringArrayVar(&f.tags, "tag", nil, "a tag of the task, as `KEY=VALUE`; may be repeated")
	flags.StringVar(&f.req.Session, "session", "", "the task's session, a label to find it by")
	flags.StringVar(&f.retry, "retry", "", "the retry policy instead of the func's, as `JSON`")
	return a.reach(c)
}

func (a *app) steerCommand() *cobra.Command {
	var f starting
	c := &cobra.Command{
		Use: "steer ID", Short: "Give a task its next input", Args: cobra.ExactArgs(1),
		Long: "Steer gives an existing task its next input. It is start for a task whose func need not be named.",
		Example: `  perdure steer order-7 --input '{"approved":true,"by":"Ada"}' --wait
  perdure steer conv-1 --input @next.json --deliver enqueue`,
		RunE: func(c *cobra.Command, args []string) error {
			f.req.TaskID, f.steer = args[0], true
			return a.start(c, &f)
		},
	}
	a.inputFlags(c, &f)
	return a.reach(c)
}

func (a *app) inputFlags(c *cobra.Command, f *starting) {
	flags := c.Flags()
	flags.StringVarP(&f.input, "input", "i", "{}", "the input: `JSON`, or @FILE, or - for standard input")
	flags.StringVar(&f.req.InputID, "input-id", "", "the input's `ID`: the same one again is the same input (default: a new one)")
	flags.StringVar(&f.req.IfLastInputID, "if-last", "", "only if the task's last input has this `ID`")
	flags.StringVar(&f.deliver, "deliver", "", "to a running turn: `interrupt`, enqueue, reject or replace (default interrupt)")
	flags.BoolVarP(&f.wait, "wait", "w", false, "wait for the outcome, and print the output")
	flags.BoolVarP(&f.follow, "follow", "f", false, "print what the turn emits, until its end")
	viewFlag(c, &f.view)
	flags.DurationVar(&f.timeout, "timeout", 0, "with --wait, wait no longer than this")
	flags.BoolVar(&f.json, "json", false, "print JSON, also on a terminal")
}

// complete fills in the request from the flags. An ID that was given and is empty is a mistake of a
// script, and not a wish for a new one.
func (f *starting) complete(flags *pflag.FlagSet, in io.Reader) (err error) {
	for _, name := range []string{"id", "input-id", "if-last"} {
		if flag := flags.Lookup(name); flag != nil && flag.Changed && flag.Value.String() == "" {
			return usage("--%s: must not be empty", name)
		}
	}
	f.req.IfExists, f.req.Deliver = perdure.IfExists(f.ifExists), perdure.Deliver(f.deliver)
	if f.req.Tags, err = parseTags(f.tags); err != nil {
		return err
	}
	if f.retry != "" {
		f.req.Retry = &perdure.RetryPolicy{}
		if err := json.Unmarshal([]byte(f.retry), f.req.Retry); err != nil {
			return usage("--retry: %w", err)
		}
	}
	switch {
	case f.timeout < 0:
		return usage("--timeout: must not be %v", f.timeout)
	case f.timeout > 0 && !f.wait:
		return usage("--timeout bounds the wait of --wait, which is not given")
	case f.view != "" && !f.follow:
		return usage("--view is of --follow, which is not given")
	}
	f.req.Input, err = readInput(f.input, in)
	return err
}

// readInput returns the JSON that --input names.
func readInput(arg string, in io.Reader) (json.RawMessage, error) {
	input, where := []byte(arg), "--input"
	var err error
	switch path, isFile := strings.CutPrefix(arg, "@"); {
	case arg == "-":
		where = "standard input"
		input, err = readAll(in)
	case isFile:
		where = path
		input, err = readFile(path)
	}
	if err != nil {
		return nil, usage("--input: %w", err)
	}
	var v json.RawMessage
	if err := json.Unmarshal(input, &v); err != nil {
		return nil, usage("%s is not JSON: %w", where, err)
	}
	return v, nil
}

// parseTags reads KEY=VALUE arguments.
func parseTags(args []string) (map[string]string, error) {
	tags := map[string]string{}
	for _, arg := range args {
		k, v, ok := strings.Cut(arg, "=")
		if !ok || k == "" {
			return nil, usage("--tag %q: it must be KEY=VALUE", arg)
		}
		if _, twice := tags[k]; twice {
			return nil, usage("--tag %q: the key is given twice", arg)
		}
		tags[k] = v
	}
	return tags, nil
}

func (a *app) start(c *cobra.Command, f *starting) error {
	if err := f.complete(c.Flags(), a.in); err != nil {
		return err
	}
	p, opts := printer{json: f.json}, perdure.EventOptions{}
	if err := p.choose(a, f.view, &opts); err != nil {
		return err
	}
	return a.with(c.Context(), writes, func(ctx context.Context, s *session) error {
		if f.steer {
			info, err := s.Task(ctx, f.req.TaskID)
			if err != nil {
				return err
			}
			f.req.Func = info.Func
		}
		accepted, err := s.Start(ctx, &f.req)
		if err != nil {
			if errors.Is(err, perdure.ErrUnknownFunc) {
				return &unknownFunc{f.req.Func, err}
			}
			return err
		}
		if !f.wait && !f.follow {
			return a.printAccepted(accepted, f.json)
		}
		a.say("task %s, turn %d: %s", accepted.TaskID, accepted.Turn, accepted.Status)
		if f.follow {
			if err := a.followStart(ctx, s, accepted, opts, &p); err != nil || !f.wait {
				return err
			}
		}
		q := perdure.TurnQuery{TaskID: accepted.TaskID, Turn: accepted.Turn, Incarnation: accepted.Incarnation}
		return a.await(ctx, s, q, f.timeout, f.json)
	})
}

// unknownFunc names a func that nobody runs.
type unknownFunc struct {
	name string
	err  error
}

func (e *unknownFunc) Error() string {
	return "unknown func " + e.name + ": no server has declared it (\"perdure funcs\" lists what there is)"
}
func (e *unknownFunc) Unwrap() error { return e.err }

func (a *app) printAccepted(accepted *perdure.Accepted, asJSON bool) error {
	if asJSON {
		return a.printJSON(accepted)
	}
	switch {
	case accepted.Attached:
		a.say("task exists: attached to turn %d", accepted.Turn)
	case accepted.Known:
		a.say("input was accepted before, as turn %d", accepted.Turn)
	case accepted.Queued:
		a.say("queued as turn %d", accepted.Turn)
	}
	_, err := io.WriteString(a.out, accepted.TaskID+"\n")
	return err
}
