package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"charm.land/lipgloss/v2"
	"github.com/mattn/go-isatty"
)

// screen is where a command writes. What people read there is escaped: of what it is given nothing but text, ends of
// lines and tabs arrives. Programs, which read from a file or a pipe, get every byte as it is.
//
// The program's own styles go through [screen.show], and so pass. It may be written to by several goroutines.
type screen struct {
	w      io.Writer
	people bool // people read it
	colour bool

	mu   sync.Mutex
	rest []byte // the beginning of a character whose end has not been written yet
}

// newScreen returns a screen over a file. Standard error is for people wherever it goes.
func newScreen(f *os.File, forPeople, colour bool) *screen {
	terminal := isatty.IsTerminal(f.Fd())
	return &screen{w: f, people: terminal || forPeople, colour: terminal && colour}
}

// Write implements io.Writer.
func (s *screen) Write(p []byte) (int, error) {
	if !s.people {
		return s.w.Write(p)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	text := append(s.rest, p...)
	whole := wholeRunes(text)
	s.rest = append([]byte(nil), text[whole:]...)
	if _, err := io.WriteString(s.w, escape(string(text[:whole]))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// styled is a text that is escaped, and may have the program's own styles.
type styled string

// style escapes a text of one line, and puts a style on it where there are colours.
func (s *screen) style(text string, style lipgloss.Style) styled {
	if !s.colour {
		return styled(plain(text))
	}
	return styled(style.Render(plain(text)))
}

// show writes a text as it is.
func (s *screen) show(text styled) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := io.WriteString(s.w, string(text))
	return err
}

// wholeRunes returns how many bytes of a text are in front of a character that is cut off by its end.
func wholeRunes(text []byte) int {
	for i := len(text) - 1; i >= 0 && i >= len(text)-utf8.UTFMax; i-- {
		if utf8.RuneStart(text[i]) {
			if !utf8.FullRune(text[i:]) {
				return i
			}
			break
		}
	}
	return len(text)
}

// escape replaces what a terminal would act on, or nobody would see, by what JSON writes for it: \u001b. Ends of
// lines and tabs stay. What is JSON before is the same JSON after.
func escape(s string) string {
	if strings.IndexFunc(s, acts) < 0 && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for _, r := range strings.ReplaceAll(s, "\r\n", "\n") {
		if !acts(r) {
			b.WriteRune(r)
			continue
		}
		high, low := r, rune(0)
		if r > 0xffff {
			high, low = 0xd800+(r-0x10000)>>10, 0xdc00+(r-0x10000)&0x3ff
		}
		fmt.Fprintf(&b, `\u%04x`, high)
		if low > 0 {
			fmt.Fprintf(&b, `\u%04x`, low)
		}
	}
	return b.String()
}

// acts reports whether a terminal would do something with a character, or show nothing for it: controls (C0, C1),
// directions of writing, what has no width, separators of lines.
func acts(r rune) bool {
	if r < utf8.RuneSelf {
		return r < ' ' && r != '\n' && r != '\t' || r == 0x7f
	}
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Other_Default_Ignorable_Code_Point)
}

// plain is escape for a text that has to stay in its line.
func plain(s string) string {
	return escape(strings.NewReplacer("\r\n", " ", "\n", " ", "\t", " ").Replace(s))
}
