package main

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/creack/pty"

	"github.com/perdure/perdure"
)

// reply is what the chat example answers.
type reply struct {
	Reply   string   `json:"reply"`
	Partial bool     `json:"partial"`
	Turn    int64    `json:"turn"`
	Heard   []string `json:"heard"`
}

func TestABurstOfTenIsAcceptedOneMoreIsRefusedAndAllAreHeardOnce(t *testing.T) {
	t.Parallel()
	s := serving(t, "--model-delay", "5ms")
	first := "message 0" + strings.Repeat(" and so on", 1000) // its reply takes longer than the burst
	s.must("start", "chat", "--id", "c", "--input", `{"message":"`+first+`"}`)
	var all sync.WaitGroup
	waits := make([]func() result, 10)
	for i := range waits {
		waits[i] = s.begin("", "steer", "c", "--deliver", "enqueue", "--input", fmt.Sprintf(`{"message":"message %d"}`, i+1), "--wait", "--json")
	}
	eventually(t, "ten messages wait", func() bool { return s.task("c").Pending == 10 })
	s.do("steer", "c", "--input", `{"message":"one too many"}`).wants(t, 4, "queue of waiting inputs is full")
	if got := s.task("c").Pending; got != 10 {
		t.Errorf("G2: %d wait after the refusal, want 10: it leaves no trace", got)
	}
	s.must("cancel", "c", "--turn", "1") // lets the queue move on
	turns := map[int64]reply{}
	var mu sync.Mutex
	for _, wait := range waits {
		all.Go(func() {
			r := wait()
			if r.code != 0 {
				t.Errorf("a steer: %+v", r)
				return
			}
			got := decode[reply](t, r.out)
			mu.Lock()
			defer mu.Unlock()
			turns[got.Turn] = got
		})
	}
	all.Wait()
	if len(turns) != 10 {
		t.Fatalf("got answers of %d turns, want 10", len(turns))
	}
	last := turns[11].Heard
	seen := map[string]bool{}
	for _, m := range last {
		seen[m] = true
	}
	if len(last) != 11 || len(seen) != 11 || last[0] != first {
		t.Errorf("G1: heard %q, want all eleven once", last)
	}
	for n, r := range turns {
		if !reflect.DeepEqual(r.Heard, last[:n]) {
			t.Errorf("G1: turn %d has heard %q, want %q", n, r.Heard, last[:n])
		}
	}
}

func TestOfTwoWhoExtendOneConversationOneIsTold(t *testing.T) {
	t.Parallel()
	s := serving(t, "--model-delay", "1ms")
	s.must("start", "chat", "--id", "c", "--input-id", "first", "--input", `{"message":"hello"}`, "--wait")
	one := s.begin("", "steer", "c", "--if-last", "first", "--input-id", "a", "--input", `{"message":"a"}`)
	two := s.begin("", "steer", "c", "--if-last", "first", "--input-id", "b", "--input", `{"message":"b"}`)
	got := map[string]result{"a": one(), "b": two()}
	winner, loser := "a", "b"
	if got["a"].code != 0 {
		winner, loser = "b", "a"
	}
	if got[winner].code != 0 || got[loser].code != 4 || !strings.Contains(got[loser].err, `actual value is "`+winner+`"`) {
		t.Errorf("S3: got %+v", got)
	}
}

func TestAChatFromAPipeIsAnsweredLineByLine(t *testing.T) {
	t.Parallel()
	s := serving(t, "--model-delay", "1ms")
	r := s.feed("hello\n\n  and again \n", "chat", "c")
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	if r.code != 0 || len(lines) != 2 || !strings.HasPrefix(lines[0], "You said: hello.") || !strings.HasPrefix(lines[1], "You said: and again.") {
		t.Errorf("got %+v", r)
	}
	r = s.feed("hello\n"+strings.Repeat("x", 17<<10)+"\nstill there?\n", "chat", "c")
	if r.code != 1 || !strings.Contains(r.err, "message: must be text") || !strings.Contains(r.out, "You said: still there.") {
		t.Errorf("with a message that fails: got code %d, %s", r.code, r.err)
	}
	s.feed("hello\n", "chat", "x", "--func", "nope").wantsLast(t, 3, "unknown func nope")
}

// wantsLast checks the exit code and the last line on standard error.
func (r result) wantsLast(t *testing.T, code int, message string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(r.err), "\n")
	if last := lines[len(lines)-1]; r.code != code || !strings.Contains(last, message) {
		t.Errorf("got exit code %d and %q, want %d and %q", r.code, last, code, message)
	}
}

func TestAChatOnATerminalIsSteeredByTyping(t *testing.T) {
	t.Parallel()
	s := serving(t, "--model-delay", "30ms")
	c := s.command(t.Context(), "chat", "c")
	c.Env = append(c.Env, "TERM=xterm")
	terminal, err := pty.StartWithSize(c, &pty.Winsize{Rows: 24, Cols: 80})
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	out := &lockedBuffer{}
	shown := make(chan struct{})
	go func() { defer close(shown); io.Copy(out, terminal) }() // ends with an error when the program does
	press := func(text string) {
		if _, err := terminal.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the prompt", func() bool { return strings.Contains(out.String(), "ay something") })
	press("one\r")
	eventually(t, "a word of the reply", func() bool { return strings.Contains(out.String(), "You") })
	press("two\r")
	eventually(t, "the first reply is cut", func() bool { return strings.Contains(out.String(), "you went on") })
	eventually(t, "two turns", func() bool { return s.task("c").Turn.Number == 2 && s.task("c").Status == perdure.Suspended })
	press("\x04")
	err = c.Wait()
	<-shown
	if err != nil || !strings.Contains(out.String(), "perdure chat c") {
		t.Errorf("got %v and\n%s", err, out.String())
	}
}

// lockedBuffer is written by a process and read by a test.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestTheScreenShowsWhatIsOpenAndPrintsWhatIsOver(t *testing.T) {
	v := &view{talk: &conversation{id: "c"}, open: map[int64]*exchange{}, width: 80}
	show := func(msg tea.Msg) string {
		v.Update(msg)
		return v.View().Content
	}
	event := func(n, turn int64, kind perdure.EventKind, data string, to int64) emitted {
		return emitted{perdure.Event{Number: n, Turn: turn, Kind: kind, Data: []byte(data), To: to}}
	}
	show(accepted{1, "one\x1b[31m"})
	show(accepted{2, "two"})
	show(event(1, 1, perdure.EventMessage, `{"text":"hello "}`, 0))
	got := show(event(2, 1, perdure.EventMessage, `{"text":"wrong"}`, 0))
	if !strings.Contains(got, "> one\\u001b[31m") || !strings.Contains(got, "hello wrong") || !strings.Contains(got, "> two") {
		t.Errorf("got %q", got)
	}
	show(event(3, 1, perdure.EventRewind, "", 1))
	if got := show(event(4, 1, perdure.EventMessage, `{"text":"there"}`, 0)); strings.Contains(got, "wrong") || !strings.Contains(got, "hello there") {
		t.Errorf("after a rewind: got %q", got)
	}
	if got := show(trouble{errors.New("refused")}); !strings.Contains(got, "does not answer: refused") {
		t.Errorf("got %q", got)
	}
	if got := show(answered{&perdure.TurnInfo{Number: 1, Status: perdure.Completed, Input: []byte(`{"message":"one"}`)}}); strings.Contains(got, "hello") || strings.Contains(got, "refused") {
		t.Errorf("after the answer: got %q", got)
	}
	if got := show(accepted{1, "one"}); strings.Contains(got, "> one") {
		t.Errorf("accepted after it was answered: got %q", got)
	}
	for want, turn := range map[string]*perdure.TurnInfo{
		"":                 {Status: perdure.Completed, Output: []byte(`{"partial":false}`)},
		"… you went on":    {Status: perdure.Completed, Output: []byte(`{"partial":true}`)},
		"failed: no model": {Status: perdure.Failed, Error: &perdure.TaskError{Message: "no model"}},
		"cancelled: why":   {Status: perdure.Cancelled, Reason: "why"},
		"terminated":       {Status: perdure.Terminated},
	} {
		if got := replyEnd(turn); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestAFollowerGoesOnOverAKilledServerAndItsTextIsTheOutput(t *testing.T) {
	t.Parallel()
	s := serving(t)
	follow := s.begin("", "start", "stream", "--id", "article", "--input", `{"topic":"boats","words":400,"delay_ms":5}`, "--follow")
	eventually(t, "some of it is written", func() bool {
		return strings.Count(s.do("tail", "article", "--no-wait", "--json").out, "\n") > 120
	})
	late := s.begin("", "tail", "article", "--after", "60", "--json")
	s.kill()
	<-time.After(300 * time.Millisecond)
	s.start()
	r := follow()
	out := decode[struct{ Text string }](t, s.must("wait", "article"))
	if r.code != 0 || r.out != out.Text || out.Text == "" {
		t.Errorf("E2: the follower exits %d with\n%s\nand the output is\n%s", r.code, r.out, out.Text)
	}
	live, committed := fold(t, s.must("tail", "article", "--json")), fold(t, s.must("tail", "article", "--json", "--view", "committed"))
	if live != out.Text || committed != out.Text {
		t.Errorf("E2: folded, the live view is\n%s\nthe committed one\n%s\nthe output\n%s", live, committed, out.Text)
	}
	if l := late(); l.code != 0 || !strings.HasSuffix(out.Text, fold(t, l.out)) || fold(t, l.out) == "" {
		t.Errorf("E3: who joined after event 60 has, folded,\n%s", fold(t, l.out))
	}
	if !strings.Contains(s.must("tail", "article", "--json"), `"kind":"rewind"`) {
		t.Error("nothing was taken back: the kill proved little")
	}
}

// fold returns the text of events, rewinds applied.
func fold(t *testing.T, lines string) string {
	t.Helper()
	var f perdure.Fold
	for line := range strings.Lines(lines) {
		f.Add(decode[perdure.Event](t, line))
	}
	text := ""
	for _, m := range f.Messages() {
		piece, _ := textOf(m.Data)
		text += piece
	}
	return text
}

func TestTailPrintsWhatIsThere(t *testing.T) {
	t.Parallel()
	s := serving(t)
	s.must("start", "countdown", "--id", "c", "--input", `{"steps":2,"fail_at":[2]}`, "--wait")
	r := s.do("tail", "c")
	if want := "{\"step\":1,\"of\":2}\n{\"step\":2,\"of\":2}\n"; r.code != 0 || r.out != want {
		t.Errorf("got %+v, want %s", r, want)
	}
	s.do("tail", "nope").wants(t, 3, "nope")
	s.do("tail", "c", "--after", "-1").wants(t, 2, "--after")
	s.do("tail", "c", "--view", "none").wants(t, 2, "--view")
	s.do("start", "countdown", "--view", "live").wants(t, 2, "--follow")
	r = s.do("start", "countdown", "--input", `{"steps":1,"fail_at":[9]}`, "--follow", "--wait")
	r.wantsLast(t, 1, "failed")
}
