// Package textrank finds the key sentences and the key terms of a text: those that have most in common
// with the rest of it, as PageRank over a graph of sentences, or of words, sees it (Mihalcea and Tarau,
// 2004). It knows no language model, only a list of common English words to leave out.
package textrank

import (
	"cmp"
	"math"
	"slices"
)

// Limits of what is ranked, so that the time for one text stays bounded. What comes after is not read.
const (
	maxSentences = 600
	maxTerms     = 4000 // words in the running text
)

// window is how far apart two words may stand and still count as neighbours.
const window = 4

// Key returns up to n key sentences of a text, in the order in which they stand in it. Equal texts give
// equal answers.
func Key(text string, n int) []string {
	sentences := Split(text)
	if len(sentences) > maxSentences {
		sentences = sentences[:maxSentences]
	}
	scores := rank(similarities(sentences))
	best := top(scores, n)
	slices.Sort(best)
	key := make([]string, 0, len(best))
	for _, i := range best {
		key = append(key, sentences[i])
	}
	return key
}

// Terms returns up to n key words of a text, the best first, in lower case.
func Terms(text string, n int) []string {
	words := Words(text)
	if len(words) > maxTerms {
		words = words[:maxTerms]
	}
	vocabulary, g := neighbours(words)
	terms := make([]string, 0, n)
	for _, i := range top(rank(g), n) {
		terms = append(terms, vocabulary[i])
	}
	return terms
}

// graph is undirected: graph[i][j] is the weight between i and j, and equals graph[j][i].
type graph []map[int]float64

func newGraph(n int) graph {
	g := make(graph, n)
	for i := range g {
		g[i] = map[int]float64{}
	}
	return g
}

func (g graph) add(i, j int, weight float64) {
	g[i][j] += weight
	g[j][i] += weight
}

// similarities weighs each pair of sentences by the words they share, relative to their lengths.
func similarities(sentences []string) graph {
	g := newGraph(len(sentences))
	lengths := make([]float64, len(sentences))
	holders := map[string][]int{} // sentences that hold a word
	for i, s := range sentences {
		words := Words(s)
		lengths[i] = math.Log(float64(len(words)) + 1)
		slices.Sort(words)
		for _, w := range slices.Compact(words) {
			for _, j := range holders[w] {
				g.add(i, j, 1)
			}
			holders[w] = append(holders[w], i)
		}
	}
	for i := range g {
		for j, shared := range g[i] {
			g[i][j] = shared / (lengths[i] + lengths[j])
		}
	}
	return g
}

// neighbours links words that stand close together. The vocabulary is in order of first appearance.
func neighbours(words []string) (vocabulary []string, g graph) {
	index := map[string]int{}
	for _, w := range words {
		if _, ok := index[w]; !ok {
			index[w] = len(vocabulary)
			vocabulary = append(vocabulary, w)
		}
	}
	g = newGraph(len(vocabulary))
	for at, w := range words {
		for _, other := range words[at+1 : min(at+window, len(words))] {
			if i, j := index[w], index[other]; i != j {
				g.add(i, j, 1)
			}
		}
	}
	return vocabulary, g
}

// Of PageRank.
const (
	damping = 0.85
	rounds  = 30
)

// rank returns the PageRank of each node.
func rank(g graph) []float64 {
	scores := make([]float64, len(g))
	links, out := flatten(g)
	for i := range scores {
		scores[i] = 1
	}
	for range rounds {
		next := make([]float64, len(g))
		for i := range g {
			sum := 0.0
			for _, l := range links[i] {
				sum += l.weight / out[l.to] * scores[l.to]
			}
			next[i] = 1 - damping + damping*sum
		}
		scores = next
	}
	return scores
}

type link struct {
	to     int
	weight float64
}

// flatten puts each node's links in order, so that sums come out the same each time, and adds them up.
func flatten(g graph) (links [][]link, out []float64) {
	links, out = make([][]link, len(g)), make([]float64, len(g))
	for i, row := range g {
		for j, weight := range row {
			links[i] = append(links[i], link{j, weight})
		}
		slices.SortFunc(links[i], func(a, b link) int { return cmp.Compare(a.to, b.to) })
		for _, l := range links[i] {
			out[i] += l.weight
		}
	}
	return links, out
}

// top returns the indexes of the n highest scores, the highest first; among equals the earlier first.
func top(scores []float64, n int) []int {
	order := make([]int, len(scores))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(scores[b], scores[a]) })
	return order[:max(0, min(n, len(order)))]
}
