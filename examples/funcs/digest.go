package funcs

import (
	"context"
	"fmt"
	"strings"
	"unicode"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/examples/funcs/textrank"
)

// DigestInput says what to read: files and folders of the machine that runs the func, or a text.
type DigestInput struct {
	Paths     []string `json:"paths,omitempty"` // Markdown, plain text and Go files, or folders of them
	Text      string   `json:"text,omitempty"`
	Sentences int      `json:"sentences,omitempty"` // key sentences per file: default 5, at most 50
	DelayMS   int      `json:"delay_ms,omitempty"`  // after each file, so that there is time to interfere
}

// DigestOutput is the report, for people and for programs.
type DigestOutput struct {
	Report  string              `json:"report"`
	Files   []FileDigest        `json:"files"`
	Read    int                 `json:"read"`    // files read in the last entry
	Skipped int                 `json:"skipped"` // files that an earlier entry had read
	Entries []perdure.EntryMode `json:"entries"`
}

// FileDigest is what one file comes down to.
type FileDigest struct {
	Path      string            `json:"path"`
	Sentences []string          `json:"sentences"`
	Terms     []string          `json:"terms"`
	Words     int               `json:"words"`
	Entry     perdure.EntryMode `json:"entry"`             // in which it was read
	Problem   string            `json:"problem,omitempty"` // why it was not read
}

// FileEvent is an event of digest: a file has been read.
type FileEvent struct {
	Path    string `json:"path"`
	Words   int    `json:"words"`
	Problem string `json:"problem,omitempty"`
}

// Digest reads files and keeps their key sentences and terms. It checkpoints after every file, so that a
// file that was read before a crash is not read again.
var Digest = perdure.NewFunc[DigestInput, DigestOutput]("digest", &perdure.FuncOptions[DigestInput]{
	Title: digestTitle,
})

const (
	defaultSentences = 5
	maxSentences     = 50
	termsPerFile     = 8
	termsInReport    = 12
	maxTitle         = 80
)

func digestTitle(in DigestInput, _ string) (string, error) {
	if len(in.Paths) == 0 {
		return "digest of a text", nil
	}
	return title("digest of " + strings.Join(in.Paths, ", ")), nil
}

func (in *DigestInput) validate() error {
	switch {
	case len(in.Paths) > 0 && in.Text != "":
		return refuse("give paths or text, not both")
	case len(in.Paths) == 0 && strings.TrimSpace(in.Text) == "":
		return refuse("give paths or text")
	case in.Sentences < 0 || in.Sentences > maxSentences:
		return refuse("sentences: must be 1 to %d, not %d", maxSentences, in.Sentences)
	}
	if in.Sentences == 0 {
		in.Sentences = defaultSentences
	}
	return checkDelay(in.DelayMS)
}

// sources returns what there is to read, in order.
func (in *DigestInput) sources() ([]source, error) {
	if in.Text != "" {
		return []source{{path: "(text)", read: func() (string, error) { return in.Text, nil }}}, nil
	}
	return find(in.Paths)
}

const (
	storyKey   = "story"
	filePrefix = "file:" // and the file's path
)

func digest(ctx context.Context, turn *perdure.Turn[DigestInput, DigestOutput]) (DigestOutput, error) {
	in := turn.Input()
	if err := in.validate(); err != nil {
		return DigestOutput{}, err
	}
	s, err := tell(ctx, turn.Scope)
	if err != nil {
		return DigestOutput{}, err
	}
	sources, err := in.sources()
	if err != nil {
		return DigestOutput{}, err
	}
	out := DigestOutput{Entries: s.Entries, Files: []FileDigest{}}
	for _, src := range sources {
		if err := out.add(ctx, turn.Scope, &in, src, metadataBudget/len(sources)); err != nil {
			return DigestOutput{}, err
		}
	}
	out.Report = report(&out)
	return out, nil
}

// tell records this entry, durably, before anything else is done.
func tell(ctx context.Context, turn *perdure.Scope) (*story, error) {
	s := &story{}
	if _, err := turn.Metadata().Get(storyKey, s); err != nil {
		return nil, err
	}
	s.enter(turn)
	if err := turn.Metadata().Set(storyKey, s); err != nil {
		return nil, err
	}
	return s, turn.Checkpoint(ctx)
}

// add takes what an earlier entry has kept of a file, else reads the file and keeps its digest.
func (out *DigestOutput) add(ctx context.Context, turn *perdure.Scope, in *DigestInput, src source, budget int) error {
	key := filePrefix + src.id()
	var d FileDigest
	known, err := turn.Metadata().Get(key, &d)
	if err != nil {
		return err
	}
	if known {
		out.Skipped++
		out.Files = append(out.Files, d)
		return nil
	}
	if turn.Interrupted() {
		return context.Cause(turn.Interrupt())
	}
	d = summarize(src, in.Sentences, turn.Entry())
	d.fit(budget)
	if err := turn.Metadata().Set(key, d); err != nil {
		return err
	}
	if err := turn.Emit(ctx, FileEvent{Path: d.Path, Words: d.Words, Problem: d.Problem}); err != nil {
		return err
	}
	if err := turn.Checkpoint(ctx); err != nil {
		return err
	}
	out.Read++
	out.Files = append(out.Files, d)
	return pause(turn, in.DelayMS)
}

// summarize reads a file. One that cannot be read is no reason to give up the others.
func summarize(src source, sentences int, entry perdure.EntryMode) FileDigest {
	d := FileDigest{Path: src.path, Entry: entry, Sentences: []string{}, Terms: []string{}}
	text, err := src.read()
	if err != nil {
		d.Problem = err.Error()
		return d
	}
	for _, s := range textrank.Key(text, sentences) {
		d.Sentences = append(d.Sentences, shorten(s, maxSentence))
	}
	d.Terms = append(d.Terms, textrank.Terms(text, termsPerFile)...)
	d.Words = textrank.Count(text)
	return d
}

// shorten cuts a text to a number of characters.
func shorten(s string, limit int) string {
	if r := []rune(s); len(r) > limit {
		return string(r[:limit-1]) + "…"
	}
	return s
}

// title makes a title of a text of any kind.
func title(s string) string {
	return shorten(strings.Join(strings.FieldsFunc(s, unicode.IsControl), " "), maxTitle)
}

// report writes the digests for people.
func report(out *DigestOutput) string {
	var b strings.Builder
	words := 0
	for _, d := range out.Files {
		words += d.Words
	}
	fmt.Fprintf(&b, "%d files, %d words\n", len(out.Files), words)
	if terms := commonTerms(out.Files); len(terms) > 0 {
		fmt.Fprintf(&b, "Key terms: %s\n", strings.Join(terms, ", "))
	}
	for _, d := range out.Files {
		fmt.Fprintf(&b, "\n%s (%d words", d.Path, d.Words)
		if len(d.Terms) > 0 {
			fmt.Fprintf(&b, ": %s", strings.Join(d.Terms, ", "))
		}
		b.WriteString(")\n")
		if d.Problem != "" {
			fmt.Fprintf(&b, "  not read: %s\n", d.Problem)
		}
		for _, s := range d.Sentences {
			fmt.Fprintf(&b, "  - %s\n", s)
		}
	}
	return b.String()
}
