package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure"
)

// defaultLimit is how many tasks are listed unless told; maxTitle how much of a title.
const (
	defaultLimit = 50
	maxTitle     = 60
)

func (a *app) lsCommand() *cobra.Command {
	var (
		opts     perdure.ListOptions
		statuses []string
		tags     []string
		asJSON   bool
	)
	c := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List tasks, newest first", Args: cobra.NoArgs,
		Long: "Ls lists tasks, newest first. Values of one option are alternatives, except tags: all must be there.",
		Example: `  perdure ls --status in_progress --status pending
  perdure ls --func digest --tag kind=test --limit 5
  perdure ls --status failed --limit 0 --json | jq -r '.[].task_id'`,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := parseList(&opts, statuses, tags); err != nil {
				return err
			}
			return a.with(c.Context(), reads, func(ctx context.Context, s *session) error { return a.list(ctx, s, &opts, asJSON) })
		},
	}
	flags := c.Flags()
	flags.StringSliceVar(&statuses, "status", nil, "only tasks of this `STATUS`; may be repeated")
	flags.StringSliceVar(&opts.Funcs, "func", nil, "only tasks of this `FUNC`; may be repeated")
	flags.StringArrayVar(&tags, "tag", nil, "only tasks with this tag, `KEY=VALUE`; may be repeated")
	flags.StringVar(&opts.Session, "session", "", "only tasks of this session")
	flags.IntVar(&opts.Limit, "limit", defaultLimit, "at most so many; 0: all")
	flags.BoolVar(&asJSON, "json", false, "print a JSON array")
	return a.reach(c)
}

// taskStatuses are the statuses that a task can have.
func taskStatuses() []perdure.Status {
	return []perdure.Status{perdure.Pending, perdure.InProgress, perdure.Suspended, perdure.Completed, perdure.Failed,
		perdure.Cancelled, perdure.Terminated, perdure.Parked}
}

func parseList(opts *perdure.ListOptions, statuses, tags []string) (err error) {
	for _, s := range statuses {
		if !slices.Contains(taskStatuses(), perdure.Status(s)) {
			return usage("--status %q: it can be %s", s, strings.Trim(fmt.Sprint(taskStatuses()), "[]"))
		}
		opts.Statuses = append(opts.Statuses, perdure.Status(s))
	}
	if opts.Limit < 0 {
		return usage("--limit: must not be %d", opts.Limit)
	}
	opts.Tags, err = parseTags(tags)
	return err
}

func (a *app) list(ctx context.Context, s *session, opts *perdure.ListOptions, asJSON bool) error {
	tasks := []*perdure.Info{}
	for info, err := range s.Tasks(ctx, opts) {
		if err != nil {
			return err
		}
		tasks = append(tasks, info)
	}
	if asJSON {
		return a.printJSON(tasks)
	}
	t := a.newTable("ID", "FUNC", "STATUS", "TURN", "AGE", "TITLE")
	for _, info := range tasks {
		t.add(info.ID, info.Func, t.status(info.Status), strconv.FormatInt(info.Turn.Number, 10), age(info.CreatedAt),
			shorten(info.Title, maxTitle))
	}
	if err := t.write(); err != nil {
		return err
	}
	if opts.Limit > 0 && len(tasks) == opts.Limit && a.onTerminal() {
		a.say("these are the newest %d; --limit 0 lists all", opts.Limit)
	}
	return nil
}

func (a *app) turnsCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "turns ID", Short: "List the turns of a task", Args: cobra.ExactArgs(1),
		Long:    "Turns lists the turns of a task in their order; with --json also their inputs and outputs.",
		Example: "  perdure turns order-7\n  perdure turns conv-1 --json | jq '.[-1].output'",
		RunE: func(c *cobra.Command, args []string) error {
			return a.with(c.Context(), reads, func(ctx context.Context, s *session) error { return a.turns(ctx, s, args[0], asJSON) })
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON array")
	return a.reach(c)
}

func (a *app) turns(ctx context.Context, s *session, id string, asJSON bool) error {
	turns := []*perdure.TurnInfo{}
	for turn, err := range s.Turns(ctx, id, nil) {
		if err != nil {
			return err
		}
		turns = append(turns, turn)
	}
	if asJSON {
		return a.printJSON(turns)
	}
	t := a.newTable("TURN", "INPUT", "STATUS", "ENTRY", "ATTEMPT", "RECOVERIES", "AGE", "TOOK", "RESULT")
	for _, turn := range turns {
		t.add(strconv.FormatInt(turn.Number, 10), turn.InputID, t.status(turn.Status), or(string(turn.Entry), "-"),
			strconv.Itoa(turn.Attempt), strconv.Itoa(turn.Recoveries), age(turn.AcceptedAt), took(turn), brief(turn))
	}
	return t.write()
}

// took says how long a turn ran.
func took(turn *perdure.TurnInfo) string {
	if turn.StartedAt.IsZero() || turn.EndedAt.IsZero() {
		return "-"
	}
	return roughly(turn.EndedAt.Sub(turn.StartedAt))
}

// brief says in a few words what a turn came to.
func brief(turn *perdure.TurnInfo) string {
	switch {
	case turn.Error != nil:
		return shorten(turn.Error.Message, maxTitle)
	case turn.Reason != "":
		return shorten(turn.Reason, maxTitle)
	case len(turn.Output) > 0:
		return fmt.Sprintf("output of %s", bytesText(int64(len(turn.Output))))
	}
	return ""
}

// or returns s, or otherwise if s is empty.
func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
