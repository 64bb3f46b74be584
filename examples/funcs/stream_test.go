package funcs_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/examples/funcs"
	"github.com/perdure/perdure/perduretest"
)

// textOf reads a stream to its end and returns what its messages say when rewinds are applied.
func textOf(t *testing.T, h *perdure.Handle[funcs.StreamOutput], after int64) string {
	t.Helper()
	var fold perdure.Fold
	for e, err := range h.Events(t.Context(), after) {
		if err != nil {
			t.Fatal(err)
		}
		fold.Add(e)
	}
	return told(t, fold.Messages())
}

func told(t *testing.T, messages []perdure.Event) string {
	t.Helper()
	var b strings.Builder
	for _, m := range messages {
		var e funcs.TextEvent
		if err := json.Unmarshal(m.Data, &e); err != nil {
			t.Fatal(err)
		}
		b.WriteString(e.Text)
	}
	return b.String()
}

func TestTheTextOfAStreamIsThatOfItsEventsWhateverDies(t *testing.T) {
	for crashes := range 4 {
		play(t, func(t *testing.T, h *perduretest.Harness) {
			handle, err := funcs.Stream.Start(t.Context(), h.Client(), funcs.StreamInput{Topic: "boats", DelayMS: 5}, nil)
			if err != nil {
				t.Fatal(err)
			}
			for range crashes {
				<-time.After(700 * time.Millisecond)
				h.Crash()
			}
			r, err := handle.Result(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if n := len(strings.Fields(r.Output.Text)); n != 400 {
				t.Errorf("got %d words, want 400", n)
			}
			if got := textOf(t, handle, 0); got != r.Output.Text {
				t.Errorf("%d crashes: the stream says\n%s\nand the output\n%s", crashes, got, r.Output.Text)
			}
			if got := textOf(t, handle, 10); got == "" || !strings.HasSuffix(r.Output.Text, got) {
				t.Errorf("%d crashes: from the middle the stream says\n%s", crashes, got)
			}
		})
	}
}

func TestAStreamRefusesWhatItCannotWrite(t *testing.T) {
	play(t, func(t *testing.T, h *perduretest.Harness) {
		for _, in := range []funcs.StreamInput{{}, {Topic: strings.Repeat("x", 201)}, {Topic: "x", Words: -1}, {Topic: "x", Words: 100_001}, {Topic: "x", DelayMS: -1}} {
			if _, err := funcs.Stream.Run(t.Context(), h.Client(), in, nil); !errors.Is(err, perdure.ErrFailed) {
				t.Errorf("%.40v: got %v, want a failure", in, err)
			}
		}
	})
}

func TestCountdownAndChatTellHowFarTheyAre(t *testing.T) {
	play(t, func(t *testing.T, h *perduretest.Harness) {
		count, err := funcs.Countdown.Start(t.Context(), h.Client(), funcs.CountdownInput{Steps: 3, FailAt: []int{2}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		var steps []string
		for e, err := range count.CommittedEvents(t.Context(), 0) {
			if err != nil {
				t.Fatal(err)
			}
			steps = append(steps, string(e.Data))
		}
		if got := strings.Join(steps, " "); got != `{"step":1,"of":3} {"step":2,"of":3} {"step":3,"of":3}  ` {
			t.Errorf("got %s", got)
		}
		c := say(t, h, "hello", perdure.StartOptions{})
		var fold perdure.Fold
		for e, err := range c.Events(t.Context(), 0) {
			if err != nil {
				t.Fatal(err)
			}
			fold.Add(e)
		}
		if got, want := told(t, fold.Messages()), replied(t, c).Reply; got != want {
			t.Errorf("the stream says %q, the reply is %q", got, want)
		}
	})
}
