package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"charm.land/lipgloss/v2"

	"github.com/perdure/perdure"
)

// printJSON writes a value for programs.
func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// table is text in columns, for people wherever it goes; the last one is as wide as it likes.
type table struct {
	out  *screen
	rows [][]styled
}

func (a *app) newTable(head ...string) *table {
	t := &table{out: a.out}
	cells := make([]any, len(head))
	for i := range head {
		cells[i] = t.out.style(head[i], lipgloss.NewStyle().Bold(true))
	}
	t.add(cells...)
	return t
}

// add adds a row. A cell is a text, or styled already.
func (t *table) add(cells ...any) {
	row := make([]styled, len(cells))
	for i, cell := range cells {
		if text, ok := cell.(styled); ok {
			row[i] = text
			continue
		}
		row[i] = styled(plain(fmt.Sprint(cell)))
	}
	t.rows = append(t.rows, row)
}

func (t *table) status(s perdure.Status) styled { return t.out.style(string(s), statusStyle(s)) }

func (t *table) write() error {
	if len(t.rows) == 0 {
		return nil
	}
	widths := make([]int, len(t.rows[0]))
	for _, row := range t.rows {
		for i, cell := range row {
			widths[i] = max(widths[i], lipgloss.Width(string(cell)))
		}
	}
	var b strings.Builder
	for _, row := range t.rows {
		line := ""
		for i, cell := range row {
			line += string(cell) + strings.Repeat(" ", widths[i]-lipgloss.Width(string(cell))+2)
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return t.out.show(styled(b.String()))
}

// statusStyle returns the colour of a status: one of the terminal's own sixteen.
func statusStyle(s perdure.Status) lipgloss.Style {
	colours := map[perdure.Status]string{
		perdure.Completed: "2", perdure.InProgress: "6", perdure.Pending: "4", perdure.Queued: "4", perdure.Suspended: "3",
		perdure.Failed: "1", perdure.Terminated: "1", perdure.Refused: "1", perdure.Parked: "5", perdure.Cancelled: "8",
	}
	return lipgloss.NewStyle().Foreground(lipgloss.Color(colours[s]))
}

// shorten cuts a text to a number of characters.
func shorten(s string, limit int) string {
	if r := []rune(s); len(r) > limit {
		return string(r[:limit-1]) + "…"
	}
	return s
}

// age says roughly how long ago something was.
func age(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return roughly(time.Since(t))
}

func roughly(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%dms", max(0, d.Milliseconds()))
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// bytesText says a size in the largest unit that fits.
func bytesText(n int64) string {
	switch {
	case n >= 10<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 10<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}
