package clienttest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure"
)

func streamTests() []test {
	return []test{
		{"E3 a stream is history, then live, then one end", streamLive},
		{"E3 a stream is joined at any number", streamJoined},
		{"E2 what is taken back is seen as such, and not at all in the committed view", streamTakenBack},
		{"E3 a stream of what is there now", streamNow},
		{"E3 a turn's stream ends with the turn, a task's with the task", streamScopes},
		{"E3 deletion ends a stream", streamDeleted},
		{"E3 a stream that cannot be read", streamRefused},
		{"E3 a reader may leave", streamLeft},
		{"E3 the context ends a stream", streamCut},
	}
}

// speak is the func of these tests. It emits the letters of its input one by one, each after a second, with a
// checkpoint after a dot, and fails its first attempt at an exclamation mark.
func speak() perdure.Binding {
	return perdure.NewFunc[Note, Note]("speak", &perdure.FuncOptions[Note]{MultiTurn: true, Retry: perdure.FixedRetry(2, time.Second)}).
		Bind(func(ctx context.Context, turn *perdure.Turn[Note, Note]) (Note, error) {
			var said string
			if _, err := turn.Metadata().Get("said", &said); err != nil {
				return Note{}, err
			}
			for _, letter := range strings.TrimPrefix(turn.Input().Text, said) {
				<-time.After(time.Second)
				said += string(letter)
				switch letter {
				case '.':
					if err := errors.Join(turn.Metadata().Set("said", said), turn.Checkpoint(ctx)); err != nil {
						return Note{}, err
					}
				case '!':
					if turn.Attempt() == 1 {
						return Note{}, errors.New("again")
					}
				default:
					if err := turn.Emit(ctx, string(letter)); err != nil {
						return Note{}, err
					}
				}
			}
			return turn.Input(), turn.Metadata().Delete("said")
		})
}

// line writes an event in short.
func line(e perdure.Event) string {
	switch e.Kind {
	case perdure.EventMessage:
		return fmt.Sprintf("%d%s", e.Number, strings.Trim(string(e.Data), `"`))
	case perdure.EventRewind:
		return fmt.Sprintf("%d<%d", e.Number, e.To)
	case perdure.EventGap:
		return fmt.Sprintf("gap:%d", e.First)
	case perdure.EventTurn:
		return fmt.Sprintf("%d!%s", e.Number, e.Status)
	}
	return "end:" + string(e.Status)
}

// follow reads a stream in the background; what it returns tells how far it has come.
func (e *env) follow(t *testing.T, ctx context.Context, id string, opts *perdure.EventOptions) func() string {
	t.Helper()
	var mu sync.Mutex
	var lines []string
	events := e.client.Events(ctx, id, opts)
	go func() {
		for ev, err := range events {
			mu.Lock()
			if err == nil {
				lines = append(lines, line(ev))
			} else {
				lines = append(lines, "error")
			}
			mu.Unlock()
		}
	}()
	return func() string {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		return strings.Join(lines, " ")
	}
}

func reads(t *testing.T, what string, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func streamLive(t *testing.T, e *env) {
	a := e.start(t, request("speak", "t1", "i1", "ab.c"))
	all := e.follow(t, t.Context(), "t1", &perdure.EventOptions{Turn: a.Turn})
	advance(2500 * time.Millisecond)
	reads(t, "live", all(), "1a 2b")
	late := e.follow(t, t.Context(), "t1", &perdure.EventOptions{Turn: a.Turn})
	advance(10 * time.Second)
	const want = "1a 2b 3c 4!completed end:completed"
	reads(t, "to the end", all(), want)
	reads(t, "history and live", late(), want)
	again := e.follow(t, t.Context(), "t1", &perdure.EventOptions{Turn: a.Turn})
	advance(time.Second)
	reads(t, "after the end", again(), want)
	for ev, err := range e.client.Events(t.Context(), "t1", &perdure.EventOptions{Turn: a.Turn, After: 2}) {
		if err != nil || ev.Turn != 1 || ev.Attempt != 1 || ev.At.IsZero() || string(ev.Data) != `"c"` {
			t.Errorf("got %+v, %v", ev, err)
		}
		break
	}
}

func streamJoined(t *testing.T, e *env) {
	a := e.start(t, request("speak", "t1", "i1", "abcdef"))
	var joined []func() string
	for after := range int64(9) {
		joined = append(joined, e.follow(t, t.Context(), "t1", &perdure.EventOptions{Turn: a.Turn, After: after}))
		advance(time.Second)
	}
	advance(10 * time.Second)
	want := strings.Fields("1a 2b 3c 4d 5e 6f 7!completed end:completed")
	for after, lines := range joined {
		reads(t, fmt.Sprint("after ", after), lines(), strings.Join(want[min(after, 7):], " "))
	}
}

func streamTakenBack(t *testing.T, e *env) {
	a := e.start(t, request("speak", "t1", "i1", "ab.cd!e"))
	live := e.follow(t, t.Context(), "t1", &perdure.EventOptions{Turn: a.Turn})
	committed := e.follow(t, t.Context(), "t1", &perdure.EventOptions{Turn: a.Turn, Committed: true})
	advance(5500 * time.Millisecond)
	reads(t, "live, before the failure", live(), "1a 2b 3c 4d")
	reads(t, "committed, before the failure", committed(), "1a 2b")
	advance(time.Minute)
	reads(t, "live", live(), "1a 2b 3c 4d 5<2 6c 7d 8e 9!completed end:completed")
	reads(t, "committed", committed(), "1a 2b 6c 7d 8e 9!completed end:completed")
}

func streamNow(t *testing.T, e *env) {
	e.start(t, request("speak", "t1", "i1", "ab.c"))
	advance(3500 * time.Millisecond)
	now := func(after int64, committed bool) string {
		lines := e.follow(t, t.Context(), "t1", &perdure.EventOptions{After: after, Committed: committed, NoWait: true})
		advance(time.Millisecond)
		return lines()
	}
	reads(t, "now", now(0, false), "1a 2b")
	reads(t, "beyond the end", now(7, false), "")
	advance(10 * time.Second)
	reads(t, "of a conversation that waits", now(1, true), "2b 3c 4!completed")
	if _, err := e.client.Cancel(t.Context(), "t1", nil); err != nil {
		t.Fatal(err)
	}
	reads(t, "of what has ended", now(3, false), "4!completed end:cancelled")
}

func streamScopes(t *testing.T, e *env) {
	first := e.start(t, request("speak", "t1", "i1", "a"))
	task := e.follow(t, t.Context(), "t1", nil)
	advance(10 * time.Second)
	second := e.start(t, request("speak", "t1", "i2", "b"))
	advance(10 * time.Second)
	one := e.follow(t, t.Context(), "t1", &perdure.EventOptions{Turn: first.Turn})
	two := e.follow(t, t.Context(), "t1", &perdure.EventOptions{Turn: second.Turn, After: 2})
	advance(time.Second)
	reads(t, "first turn", one(), "1a 2!completed end:completed")
	reads(t, "second turn", two(), "3b 4!completed end:completed")
	reads(t, "task", task(), "1a 2!completed 3b 4!completed")
	if _, err := e.client.Terminate(t.Context(), "t1", nil); err != nil {
		t.Fatal(err)
	}
	advance(time.Second)
	reads(t, "task, after its end", task(), "1a 2!completed 3b 4!completed end:terminated")
}

func streamDeleted(t *testing.T, e *env) {
	old := e.start(t, request("speak", "t1", "i1", "abc"))
	lines := e.follow(t, t.Context(), "t1", nil)
	advance(1500 * time.Millisecond)
	if err := e.client.Delete(t.Context(), "t1", nil); err != nil {
		t.Fatal(err)
	}
	advance(time.Second)
	reads(t, "of a deleted task", lines(), "1a end:deleted")
	e.start(t, request("speak", "t1", "i1", "xyz"))
	gone := e.follow(t, t.Context(), "t1", &perdure.EventOptions{Incarnation: old.Incarnation})
	advance(2 * time.Second)
	reads(t, "of the one before", gone(), "end:deleted")
}

func streamRefused(t *testing.T, e *env) {
	e.start(t, request("echo", "t1", "i1", "x"))
	for name, c := range map[string]struct {
		id   string
		opts *perdure.EventOptions
		want error
	}{
		"no such task":      {"nope", nil, perdure.ErrNotFound},
		"no identifier":     {"a b", nil, perdure.ErrNotFound},
		"no such turn":      {"t1", &perdure.EventOptions{Turn: 9}, perdure.ErrNotFound},
		"a negative number": {"t1", &perdure.EventOptions{After: -1}, perdure.ErrInvalid},
		"a negative turn":   {"t1", &perdure.EventOptions{Turn: -1}, perdure.ErrInvalid},
	} {
		next, stop := iter.Pull2(e.client.Events(t.Context(), c.id, c.opts))
		ev, err, _ := next()
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got %+v, %v, want %v", name, ev, err, c.want)
		}
		stop()
	}
}

func streamLeft(t *testing.T, e *env) {
	e.start(t, request("speak", "t1", "i1", "abc"))
	var lines []string
	for ev, err := range e.client.Events(t.Context(), "t1", nil) {
		if err != nil {
			t.Fatal(err)
		}
		if lines = append(lines, line(ev)); len(lines) == 2 {
			break
		}
	}
	if !slices.Equal(lines, []string{"1a", "2b"}) {
		t.Errorf("got %v", lines)
	}
}

func streamCut(t *testing.T, e *env) {
	e.start(t, request("speak", "t1", "i1", "abc"))
	enough := errors.New("enough")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 1500*time.Millisecond, enough)
	defer cancel()
	count := 0
	for _, err := range e.client.Events(ctx, "t1", nil) {
		if err != nil && (!errors.Is(err, enough) || count != 1) {
			t.Errorf("after %d events: got %v, want the cause", count, err)
		}
		count++
	}
	if count != 2 {
		t.Errorf("got %d items, want an event and the error", count)
	}
}
