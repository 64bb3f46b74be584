package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"charm.land/lipgloss/v2"
	"github.com/spf13/cobra"

	"github.com/perdure/perdure"
)

// maxValue is how much of a metadata value is shown to a person.
const maxValue = 100

func (a *app) getCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "get ID", Short: "Show a task", Args: cobra.ExactArgs(1),
		Long:    "Get shows a task with its metadata: for people, or all of it with --json.",
		Example: "  perdure get order-7\n  perdure get nightly --json | jq .metadata",
		RunE: func(c *cobra.Command, args []string) error {
			return a.with(c.Context(), reads, func(ctx context.Context, s *session) error {
				info, err := s.Task(ctx, args[0])
				if err != nil {
					return err
				}
				if asJSON {
					return a.printJSON(info)
				}
				return a.show(info)
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return a.reach(c)
}

// card is a list of names and values, without those that are empty.
type card struct {
	table
}

// line adds a line, unless the value, a text or styled, is empty.
func (c *card) line(name string, value any) {
	if value != "" {
		c.add(c.out.style(name, lipgloss.NewStyle().Bold(true)), value)
	}
}

func (a *app) show(info *perdure.Info) error {
	c := &card{table{out: a.out}}
	c.line("task", info.ID)
	c.line("func", info.Func)
	c.line("status", c.status(info.Status)+styled(plain(waiting(info))))
	c.line("reason", info.Reason)
	c.line("title", info.Title)
	c.line("description", info.Description)
	c.line("tags", tagText(info.Tags))
	c.line("session", info.Session)
	c.line("agent", info.Agent)
	c.line("source", sourceText(&info.Source))
	c.line("turn", turnText(&info.Turn))
	c.line("input", info.Turn.InputID)
	if info.Pending > 0 {
		c.line("queued", fmt.Sprintf("%d inputs", info.Pending))
	}
	if info.Lease != nil {
		c.line("lease", fmt.Sprintf("worker %s, epoch %d", info.Lease.Worker, info.Lease.Epoch))
	}
	c.line("created", when(info.CreatedAt))
	c.line("updated", when(info.UpdatedAt))
	c.line("ended", when(info.EndedAt))
	c.line("kept until", moment(info.ExpiresAt))
	if err := c.write(); err != nil {
		return err
	}
	return a.showMetadata(info)
}

func (a *app) showMetadata(info *perdure.Info) error {
	if len(info.Metadata) == 0 {
		return nil
	}
	c := &card{table{out: a.out}}
	for _, key := range slices.Sorted(maps.Keys(info.Metadata)) {
		c.line("  "+key, shorten(valueText(info.Metadata[key]), maxValue))
	}
	if _, err := io.WriteString(a.out, "metadata\n"); err != nil {
		return err
	}
	return c.write()
}

// valueText is a metadata value in one line: of a string, what it says.
func valueText(value json.RawMessage) string {
	var text string
	if json.Unmarshal(value, &text) == nil && text != "" {
		return text
	}
	return string(value)
}

// waiting says what a pending task waits for.
func waiting(info *perdure.Info) string {
	if info.WaitingFor == "" {
		return ""
	}
	text := " (waiting for " + info.WaitingFor
	if left := time.Until(info.NotBefore); left > 0 {
		text += ", in " + roughly(left)
	}
	return text + ")"
}

func tagText(tags map[string]string) string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		list = append(list, k+"="+tags[k])
	}
	return strings.Join(list, ", ")
}

func sourceText(s *perdure.Source) string {
	text := s.Program
	if s.Version != "" {
		text += " " + s.Version
	}
	if s.Host != "" {
		text += " on " + s.Host
	}
	return text
}

func turnText(t *perdure.CurrentTurn) string {
	text := fmt.Sprintf("%d", t.Number)
	if t.Entry != "" {
		text += fmt.Sprintf(", entered %s, attempt %d", t.Entry, t.Attempt)
	}
	if t.Recoveries > 0 {
		text += fmt.Sprintf(", recovered %d times", t.Recoveries)
	}
	if t.Steered {
		text += ", steered"
	}
	if t.Cancel {
		text += ", cancel requested"
	}
	if !t.Deadline.IsZero() {
		text += ", deadline " + moment(t.Deadline)
	}
	return text
}

func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format(time.DateTime)
}

func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return moment(t) + " (" + age(t) + " ago)"
}
