package engine

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"github.com/perdure/perdure/internal/payload"
	"github.com/perdure/perdure/store"
)

// Guard calls code of a user's: this is the one place where that is done, but for the loops in which callers range over
// what they are given. A panic becomes a *PanicError. Goroutines that users start cannot be guarded.
func Guard(call func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &PanicError{value: p, stack: string(debug.Stack())}
		}
	}()
	return call()
}

// PanicError is a panic of a user's code.
type PanicError struct {
	value any
	stack string
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

// Stack returns the stack of the panic.
func (e *PanicError) Stack() string { return e.stack }

// Bounds of texts that users' code leaves behind (S6).
const (
	maxText   = 64 << 10 // bytes of an error's message, and of a stack
	maxReason = 1024     // characters
	cutMark   = " … (cut)"
)

// PlainText makes a user's text one that every store keeps as it is: UTF-8 without NUL (Y3).
func PlainText(s string) string {
	if store.ValidText(s) {
		return s
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// Marshal is json.Marshal of a user's value, whose methods may panic. It reports whether bytes that are no UTF-8 have
// become U+FFFD.
func Marshal(v any) (data []byte, replaced bool, err error) {
	err = Guard(func() (err error) {
		data, replaced, err = payload.Marshal(v)
		return err
	})
	return data, replaced, err
}

// Replaced notes that in something which was given for a task bytes that no store keeps as text have become U+FFFD.
func (e *Engine) Replaced(task, what string) {
	e.stats.replaced.Add(1)
	warnReplaced(e.log.With("task", task), what)
}

func warnReplaced(log *slog.Logger, what string) {
	log.Warn("bytes that are no UTF-8 have become U+FFFD", "in", what)
}

// Replaced is Engine.Replaced for what the handler gives. Only the first is logged.
func (a *Attempt) Replaced(what string) {
	a.e.stats.replaced.Add(1)
	if !a.replaced.Swap(true) {
		warnReplaced(a.Logger(), what)
	}
}

// errorText is PlainText of an error's message or a stack, cut to its bound. What PlainText puts in may be longer than
// what was there.
func errorText(s string) string {
	text := PlainText(s[:min(len(s), maxText)])
	if len(s) <= maxText && len(text) <= maxText {
		return text
	}
	end := min(len(text), maxText-len(cutMark))
	for end < len(text) && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + cutMark
}

// reasonText is PlainText of a reason, cut to its bound.
func reasonText(s string) string {
	n, end := 0, 0
	for i := range s {
		if n == maxReason-utf8.RuneCountInString(cutMark) {
			end = i
		}
		if n++; n > maxReason {
			return PlainText(s[:end]) + cutMark
		}
	}
	return PlainText(s)
}

// guardLog makes the panics of a user's log handler harmless: the record is dropped, counted, and told on stderr.
func guardLog(l *slog.Logger, dropped *atomic.Int64) *slog.Logger {
	return slog.New(logGuard{h: l.Handler(), dropped: dropped})
}

type logGuard struct {
	h       slog.Handler
	dropped *atomic.Int64
}

func (g logGuard) Enabled(ctx context.Context, level slog.Level) (on bool) {
	g.call("", func() error {
		on = g.h.Enabled(ctx, level)
		return nil
	})
	return on
}

func (g logGuard) Handle(ctx context.Context, r slog.Record) error {
	return g.call(r.Message, func() error { return g.h.Handle(ctx, r) })
}

func (g logGuard) WithAttrs(attrs []slog.Attr) slog.Handler {
	g.call("", func() error {
		g.h = g.h.WithAttrs(attrs)
		return nil
	})
	return g
}

func (g logGuard) WithGroup(name string) slog.Handler {
	g.call("", func() error {
		g.h = g.h.WithGroup(name)
		return nil
	})
	return g
}

func (g *logGuard) call(message string, f func() error) error {
	err := Guard(f)
	if p, ok := err.(*PanicError); ok {
		g.dropped.Add(1)
		fmt.Fprintf(os.Stderr, "perdure: the log handler panicked (%v); dropped: %q\n", p, message)
	}
	return err
}
