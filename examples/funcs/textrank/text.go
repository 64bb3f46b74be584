package textrank

import (
	"strings"
	"unicode"
)

// Split returns the sentences of a text. A blank line ends a sentence, and so does a full stop, question
// or exclamation mark before a space, unless it belongs to an abbreviation. White space is made single.
func Split(text string) []string {
	var sentences []string
	for paragraph := range strings.SplitSeq(strings.ReplaceAll(text, "\r\n", "\n"), "\n\n") {
		sentences = splitParagraph(sentences, strings.Fields(paragraph))
	}
	return sentences
}

// minWords is how many words make a sentence worth ranking.
const minWords = 4

func splitParagraph(sentences, words []string) []string {
	begin := 0
	for i, w := range words {
		if i < len(words)-1 && !endsSentence(w) {
			continue
		}
		if i+1-begin >= minWords {
			sentences = append(sentences, strings.Join(words[begin:i+1], " "))
		}
		begin = i + 1
	}
	return sentences
}

// abbreviations end with a full stop and no sentence.
const abbreviations = " e.g. i.e. etc. cf. vs. mr. mrs. ms. dr. prof. st. no. fig. al. approx. z.b. d.h. bzw. "

func endsSentence(word string) bool {
	word = strings.TrimRight(word, `"')]*_”’`)
	if word == "" || !strings.ContainsRune(".!?…。！？", lastRune(word)) {
		return false
	}
	bare := strings.ToLower(strings.TrimLeft(word, `"'([*_“‘`))
	initial := len([]rune(bare)) == 2 && unicode.IsLetter([]rune(bare)[0]) && strings.HasSuffix(bare, ".")
	return !initial && !strings.Contains(abbreviations, " "+bare+" ")
}

func lastRune(s string) rune {
	r := []rune(s)
	return r[len(r)-1]
}

// Words returns the words of a text that carry meaning, in lower case and in their order: no numbers, no
// single letters, none of the commonest English words.
func Words(text string) []string {
	fields := strings.FieldsFunc(text, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '\'' && r != '-' && r != '_'
	})
	var words []string
	for _, w := range fields {
		w = strings.ToLower(strings.Trim(w, "'-_"))
		w = strings.TrimSuffix(w, "'s")
		if len([]rune(w)) > 2 && len(w) <= maxWord && !common(w) && strings.ContainsFunc(w, unicode.IsLetter) {
			words = append(words, w)
		}
	}
	return words
}

// maxWord is the length, in bytes, above which something is no word but a key or a hash.
const maxWord = 40

// Count returns how many words a text has, common ones included.
func Count(text string) int { return len(strings.Fields(text)) }

func common(word string) bool { return strings.Contains(commonWords, " "+word+" ") }

const commonWords = " about above after again against all also although always among and another any anything are aren't " +
	"around because been before being below between both but can can't cannot could couldn't did didn't does " +
	"doesn't doing don't done down during each either else enough even ever every everything few for from " +
	"further get gets given gives goes had has hasn't have haven't having her here hers him his how however " +
	"into isn't its itself just least less let like made make makes many may mean means might more most much " +
	"must need needs never next nor not nothing now off often once one only onto other others otherwise our " +
	"ours out over own per rather same see shall she should shouldn't since some something still such take " +
	"taken takes than that the their theirs them then there these they thing things this those though three " +
	"through thus too two under until upon use used uses using very via was wasn't way well were what when " +
	"where whether which while who whole whom whose why will with within without won't would wouldn't yet you " +
	"your yours "
