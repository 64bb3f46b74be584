package funcs_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/examples/funcs"
	"github.com/perdure/perdure/perduretest"
)

func say(t *testing.T, h *perduretest.Harness, message string, opts perdure.StartOptions) *perdure.Handle[funcs.ChatOutput] {
	t.Helper()
	opts.TaskID = "c"
	handle, err := funcs.Chat.Start(t.Context(), h.Client(), funcs.ChatInput{Message: message}, &opts)
	if err != nil {
		t.Fatal(err)
	}
	return handle
}

func replied(t *testing.T, h *perdure.Handle[funcs.ChatOutput]) funcs.ChatOutput {
	t.Helper()
	r, err := h.Result(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r.Output
}

func TestAReplyTakesItsTimeAndHasEnoughWordsToBeSteered(t *testing.T) {
	play(t, func(t *testing.T, h *perduretest.Harness) {
		began := time.Now()
		out := replied(t, say(t, h, "hello", perdure.StartOptions{}))
		words := len(strings.Fields(out.Reply))
		if words < 40 || out.Partial || out.Turn != 1 || time.Since(began) < 40*30*time.Millisecond {
			t.Errorf("got %d words in %v, %+v", words, time.Since(began), out)
		}
	})
}

func TestASteeredReplyIsKeptAsFarAsItCame(t *testing.T) {
	play(t, func(t *testing.T, h *perduretest.Harness) {
		first := say(t, h, "one", perdure.StartOptions{})
		<-time.After(100 * time.Millisecond)
		second := say(t, h, "two", perdure.StartOptions{})
		out := replied(t, first)
		if !out.Partial || out.Reply != "You said: one. " {
			t.Errorf("first: got %+v, want three words of a reply", out)
		}
		if out := replied(t, second); out.Partial || !reflect.DeepEqual(out.Heard, []string{"one", "two"}) {
			t.Errorf("second: got %+v", out)
		}
	})
}

func TestABurstIsHeardInOrderAndOnce(t *testing.T) {
	play(t, func(t *testing.T, h *perduretest.Harness) {
		var said []*perdure.Handle[funcs.ChatOutput]
		var want []string
		for i := range 11 {
			message := fmt.Sprint("message ", i)
			want = append(want, message)
			said = append(said, say(t, h, message, perdure.StartOptions{}))
		}
		for i, handle := range said {
			out := replied(t, handle)
			if out.Turn != int64(i+1) || !reflect.DeepEqual(out.Heard, want[:i+1]) || out.Partial != (i < 10) {
				t.Errorf("turn %d: got %+v", i+1, out)
			}
		}
	})
}

func TestTooManyMessagesAtOnceAreRefused(t *testing.T) {
	play(t, func(t *testing.T, h *perduretest.Harness) {
		var said []*perdure.Handle[funcs.ChatOutput]
		for i := range 11 {
			said = append(said, say(t, h, fmt.Sprint("message ", i), perdure.StartOptions{Deliver: perdure.Enqueue}))
		}
		_, err := funcs.Chat.Start(t.Context(), h.Client(), funcs.ChatInput{Message: "one more"}, &perdure.StartOptions{TaskID: "c"})
		if !errors.Is(err, perdure.ErrQueueFull) {
			t.Errorf("the eleventh in the queue: got %v", err)
		}
		for _, handle := range said {
			replied(t, handle)
		}
	})
}

func TestARecoveredChatHearsNothingTwice(t *testing.T) {
	play(t, func(t *testing.T, h *perduretest.Harness) {
		first := say(t, h, "one", perdure.StartOptions{})
		<-time.After(100 * time.Millisecond)
		h.Crash()
		second := say(t, h, "two", perdure.StartOptions{Deliver: perdure.Enqueue})
		if out := replied(t, first); out.Partial || !reflect.DeepEqual(out.Heard, []string{"one"}) {
			t.Errorf("first: got %+v", out)
		}
		if out := replied(t, second); !reflect.DeepEqual(out.Heard, []string{"one", "two"}) {
			t.Errorf("second: got %+v", out)
		}
	})
}

func TestACancelledChatIsCancelledAndGoesOnWithTheNextMessage(t *testing.T) {
	play(t, func(t *testing.T, h *perduretest.Harness) {
		first := say(t, h, "one", perdure.StartOptions{})
		synctest.Wait()
		if err := first.Cancel(t.Context(), "enough"); err != nil {
			t.Fatal(err)
		}
		if _, err := first.Result(t.Context()); !errors.Is(err, perdure.ErrCancelled) {
			t.Errorf("got %v, want it cancelled", err)
		}
		replied(t, say(t, h, "two", perdure.StartOptions{}))
	})
}

func TestAChatRefusesWhatIsNoMessage(t *testing.T) {
	play(t, func(t *testing.T, h *perduretest.Harness) {
		for _, message := range []string{"", " \n", strings.Repeat("x", 17<<10)} {
			if _, err := say(t, h, message, perdure.StartOptions{}).Result(t.Context()); !errors.Is(err, perdure.ErrFailed) {
				t.Errorf("%d bytes: got %v, want a failed turn", len(message), err)
			}
		}
		replied(t, say(t, h, "hello", perdure.StartOptions{}))
	})
}

func TestAnEmptyNoteFailsItsTurnAndNotTheSession(t *testing.T) {
	play(t, func(t *testing.T, h *perduretest.Harness) {
		call := func(in funcs.MultiturnInput) (perdure.Result[funcs.MultiturnOutput], error) {
			return funcs.Multiturn.Run(t.Context(), h.Client(), in, &perdure.StartOptions{TaskID: "n"})
		}
		if _, err := call(funcs.MultiturnInput{Note: "one"}); err != nil {
			t.Fatal(err)
		}
		for _, in := range []funcs.MultiturnInput{{}, {Note: "x", Finish: true}} {
			if _, err := call(in); !errors.Is(err, perdure.ErrFailed) {
				t.Errorf("%+v: got %v, want a failed turn", in, err)
			}
		}
		r, err := call(funcs.MultiturnInput{Finish: true})
		if err != nil || r.Output.Turn != 4 || len(r.Output.Notes) != 1 {
			t.Errorf("got %+v, %v", r, err)
		}
		var conflict *perdure.ConflictError
		if _, err := call(funcs.MultiturnInput{Note: "late"}); !errors.As(err, &conflict) || conflict.Status != perdure.Completed {
			t.Errorf("after the end: got %v", err)
		}
	})
}
