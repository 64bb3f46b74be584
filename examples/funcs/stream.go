package funcs

import (
	"context"
	"fmt"
	"hash/fnv"
	"strings"

	"github.com/perdure/perdure"
)

// StreamInput says what to write about, and how long.
type StreamInput struct {
	Topic   string `json:"topic"`
	Words   int    `json:"words,omitempty"`    // 1 to 100,000; default 400
	DelayMS int    `json:"delay_ms,omitempty"` // before each word
}

// StreamOutput is the whole text: the texts of the stream's events, one after the other.
type StreamOutput struct {
	Text string `json:"text"`
}

// TextEvent is an event of stream and of chat: a piece of the text.
type TextEvent struct {
	Text string `json:"text"`
}

// Stream writes an article word by word, an event for each. A crash costs the words since the last checkpoint;
// readers see them taken back, and written again.
var Stream = perdure.NewFunc[StreamInput, StreamOutput]("stream", &perdure.FuncOptions[StreamInput]{
	Title: func(in StreamInput, _ string) (string, error) { return title("about " + in.Topic), nil },
})

const (
	defaultWords = 400
	maxWords     = 100_000
	maxTopic     = 200
	wordsKey     = "words"
	// wordsEach is how many words are written between two checkpoints.
	wordsEach = 50
)

func (in *StreamInput) validate() error {
	in.Topic = strings.TrimSpace(in.Topic)
	if in.Topic == "" || len(in.Topic) > maxTopic {
		return refuse("topic: must be text of 1 to %d bytes", maxTopic)
	}
	if in.Words == 0 {
		in.Words = defaultWords
	}
	if in.Words < 1 || in.Words > maxWords {
		return refuse("words: must be 1 to %d, not %d", maxWords, in.Words)
	}
	return checkDelay(in.DelayMS)
}

func stream(ctx context.Context, turn *perdure.Turn[StreamInput, StreamOutput]) (StreamOutput, error) {
	in := turn.Input()
	if err := in.validate(); err != nil {
		return StreamOutput{}, err
	}
	written := 0 // before the last checkpoint
	if _, err := turn.Metadata().Get(wordsKey, &written); err != nil {
		return StreamOutput{}, err
	}
	for n := written; n < in.Words; n++ {
		if err := pause(turn.Scope, in.DelayMS); err != nil {
			return StreamOutput{}, err
		}
		if err := turn.Emit(ctx, TextEvent{in.word(n)}); err != nil {
			return StreamOutput{}, err
		}
		if (n+1)%wordsEach > 0 {
			continue
		}
		if err := turn.Metadata().Set(wordsKey, n+1); err != nil {
			return StreamOutput{}, err
		}
		if err := turn.Checkpoint(ctx); err != nil {
			return StreamOutput{}, err
		}
	}
	var text strings.Builder
	for n := range in.Words {
		text.WriteString(in.word(n))
	}
	return StreamOutput{Text: text.String()}, nil
}

// What the article is made of: sentences of a subject, a verb, an object and a remark.
var (
	subjects = strings.Fields("people experts readers engineers poets children neighbours travellers")
	verbs    = strings.Fields("study question admire describe explain remember measure discuss")
	objects  = strings.Fields("origins details limits merits effects stories costs surprises")
	remarks  = strings.Fields("today quietly again together carefully twice outdoors gladly")
)

// word returns one word of the article, with the space after it. It depends on the topic and the number alone,
// as a model's words do not: so the text of an interrupted try need not be kept.
func (in *StreamInput) word(n int) string {
	const sentence = 7
	h := fnv.New32a()
	fmt.Fprint(h, in.Topic, "/", n/sentence)
	pick := func(words []string, shift uint32) string { return words[h.Sum32()>>shift%uint32(len(words))] }
	w := ""
	switch n % sentence {
	case 0:
		s := pick(subjects, 0)
		w = strings.ToUpper(s[:1]) + s[1:]
	case 1:
		w = pick(verbs, 4)
	case 2:
		w = "the"
	case 3:
		w = pick(objects, 8)
	case 4:
		w = "of"
	case 5:
		w = in.Topic
	case 6:
		w = pick(remarks, 12) + "."
	}
	if n == in.Words-1 {
		return w
	}
	return w + " "
}
