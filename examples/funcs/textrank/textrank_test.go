package textrank_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/perdure/perdure/examples/funcs/textrank"
)

const text = `The lease says which worker may write to a task. A worker renews its lease with one heartbeat.
When a worker dies, its lease lapses and another worker takes the task. My aunt grows tomatoes in Naples.

Readers of a task, e.g. a dashboard, need no lease. Why? Because reading does not change the task.`

func TestSplitKeepsAbbreviationsInsideTheirSentence(t *testing.T) {
	got := textrank.Split(text)
	want := []string{
		"The lease says which worker may write to a task.",
		"A worker renews its lease with one heartbeat.",
		"When a worker dies, its lease lapses and another worker takes the task.",
		"My aunt grows tomatoes in Naples.",
		"Readers of a task, e.g. a dashboard, need no lease.",
		"Because reading does not change the task.",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestKeySentencesAreTheCentralOnesInTheirOrder(t *testing.T) {
	got := textrank.Key(text, 3)
	if len(got) != 3 {
		t.Fatalf("got %d sentences, want 3", len(got))
	}
	if slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, "tomatoes") }) {
		t.Errorf("got %q: the sentence that has nothing in common with the others is among them", got)
	}
	if !slices.IsSortedFunc(got, func(a, b string) int { return strings.Index(text, a) - strings.Index(text, b) }) {
		t.Errorf("got %q: not in the order of the text", got)
	}
}

func TestTermsAreTheWordsOfTheSubject(t *testing.T) {
	got := textrank.Terms(text, 3)
	for _, want := range []string{"lease", "task", "worker"} {
		if !slices.Contains(got, want) {
			t.Errorf("got %q, want %q among them", got, want)
		}
	}
}

func TestEqualTextsGiveEqualAnswers(t *testing.T) {
	long := strings.Repeat(text+"\n\n", 20)
	sentences, terms := textrank.Key(long, 7), textrank.Terms(long, 7)
	for range 20 {
		if got := textrank.Key(long, 7); !slices.Equal(got, sentences) {
			t.Fatalf("got %q, then %q", sentences, got)
		}
		if got := textrank.Terms(long, 7); !slices.Equal(got, terms) {
			t.Fatalf("got %q, then %q", terms, got)
		}
	}
}

func TestOddTextsGiveWhatThereIs(t *testing.T) {
	for _, odd := range []string{"", " \n\n ", "one", "...", "\xff\xfe\x00", strings.Repeat("x", 1<<16), "Ein Satz über Ähren und Öfen."} {
		if got := textrank.Key(odd, 5); len(got) > 1 {
			t.Errorf("%.20q: got %d sentences", odd, len(got))
		}
		if got := textrank.Terms(odd, 0); len(got) != 0 {
			t.Errorf("%.20q: got %d terms, want none", odd, len(got))
		}
	}
}

func TestALongTextIsRankedInBoundedTime(t *testing.T) {
	long := strings.Repeat("The lease of the worker is renewed by the keeper of the engine. ", 20_000)
	if got := textrank.Key(long, 2); len(got) != 2 {
		t.Errorf("got %d sentences, want 2", len(got))
	}
}
