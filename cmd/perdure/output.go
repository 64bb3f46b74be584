package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"

	"charm.land/lipgloss/v2"
	"github.com/mattn/go-isatty"

	"github.com/perdure/perdure"
)

// onTerminal reports whether the output goes to a person.
func (a *app) onTerminal() bool {
	f, ok := a.out.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}

// coloured reports whether the output may have colours.
func (a *app) coloured() bool {
	return a.onTerminal() && a.getenv("NO_COLOR") == "" && a.getenv("TERM") != "dumb"
}

// printJSON writes a value for programs.
func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// table is text in columns; the last one is as wide as it likes.
type table struct {
	colour bool
	rows   [][]string
}

func (a *app) newTable(head ...string) *table {
	t := &table{colour: a.coloured()}
	for i := range head {
		head[i] = t.paint(head[i], lipgloss.NewStyle().Bold(true))
	}
	t.add(head...)
	return t
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// paint puts a style on a cell, on a terminal that has colours.
func (t *table) paint(cell string, style lipgloss.Style) string {
	if !t.colour {
		return cell
	}
	return style.Render(cell)
}

func (t *table) status(s perdure.Status) string { return t.paint(string(s), statusStyle(s)) }

func (t *table) write(w io.Writer) error {
	widths := make([]int, len(t.rows[0]))
	for _, row := range t.rows {
		for i, cell := range row {
			widths[i] = max(widths[i], lipgloss.Width(cell))
		}
	}
	var b strings.Builder
	for _, row := range t.rows {
		line := ""
		for i, cell := range row {
			line += cell + strings.Repeat(" ", widths[i]-lipgloss.Width(cell)+2)
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// statusStyle returns the colour of a status: one of the terminal's own sixteen.
func statusStyle(s perdure.Status) lipgloss.Style {
	colours := map[perdure.Status]string{
		perdure.Completed: "2", perdure.InProgress: "6", perdure.Pending: "4", perdure.Queued: "4", perdure.Suspended: "3",
		perdure.Failed: "1", perdure.Terminated: "1", perdure.Refused: "1", perdure.Parked: "5", perdure.Cancelled: "8",
	}
	return lipgloss.NewStyle().Foreground(lipgloss.Color(colours[s]))
}

// printable takes out of a text what a terminal would act on.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\t':
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r):
			return '?'
		}
		return r
	}, s)
}

// printableText is printable for texts of several lines.
func printableText(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = printable(lines[i])
	}
	return strings.Join(lines, "\n")
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
