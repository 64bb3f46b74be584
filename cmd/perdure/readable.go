package main

import (
	"bytes"
	"encoding/json"
	"strings"
)

// How JSON is laid out for people.
const (
	maxFolded = 80 // what is shorter, and has no escapes, stays in its line
	maxNested = 20 // what is deeper stays in its line, too
)

// readable lays out JSON for people: strings without quotes and escapes, what is short in one line, the rest
// indented. It is no JSON any more.
func readable(data json.RawMessage) string {
	inline, below := layout(data, 0)
	if below == nil {
		return inline + "\n"
	}
	return strings.Join(below, "\n") + "\n"
}

// layout returns what stands for a value: a text for behind its name, or else lines for below that.
func layout(data json.RawMessage, depth int) (inline string, below []string) {
	var text string
	if bytes.HasPrefix(data, []byte(`"`)) && json.Unmarshal(data, &text) == nil {
		if text = strings.TrimRight(text, "\n"); strings.Contains(text, "\n") {
			return "", strings.Split(text, "\n")
		}
		return text, nil
	}
	folded := compact(data)
	long := len(folded) > maxFolded-2*depth || strings.Contains(folded, `\`)
	switch {
	case long && depth < maxNested && folded[0] == '{':
		return "", members(data, depth)
	case long && depth < maxNested && folded[0] == '[':
		return "", elements(data, depth)
	}
	return folded, nil
}

// members lays out an object, in the order in which it was written.
func members(data json.RawMessage, depth int) (lines []string) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.Token() // {
	for dec.More() {
		name, err := dec.Token()
		var value json.RawMessage
		if err != nil || dec.Decode(&value) != nil {
			break
		}
		inline, below := layout(value, depth+1)
		lines = append(lines, strings.TrimRight(plain(name.(string))+": "+inline, " "))
		for _, line := range below {
			lines = append(lines, "  "+line)
		}
	}
	return lines
}

// elements lays out an array.
func elements(data json.RawMessage, depth int) (lines []string) {
	var values []json.RawMessage
	if json.Unmarshal(data, &values) != nil {
		return []string{compact(data)}
	}
	for _, value := range values {
		mark := "- "
		inline, below := layout(value, depth+1)
		if below == nil {
			below = []string{inline}
		}
		for _, line := range below {
			lines = append(lines, mark+line)
			mark = "  "
		}
	}
	return lines
}

// compact returns JSON in one line.
func compact(data json.RawMessage) string {
	var b bytes.Buffer
	if json.Compact(&b, data) != nil {
		return string(data)
	}
	return b.String()
}
