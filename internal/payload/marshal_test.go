package payload

import (
	"encoding/json"
	"strings"
	"testing"
)

type named string

func (n named) MarshalText() ([]byte, error) { return []byte("<" + string(n) + ">"), nil }

type ownJSON struct{ text string }

func (o *ownJSON) MarshalJSON() ([]byte, error) { return json.Marshal(o.text) }

type inner struct{ Text string }

func TestBytesThatAreNoUTF8AreNoticed(t *testing.T) {
	const bad, good = "na\xc3", "na\uFFFD"
	for name, make := range map[string]func(string) any{
		"string":               func(s string) any { return s },
		"field":                func(s string) any { return struct{ A inner }{inner{s}} },
		"embedded":             func(s string) any { return struct{ inner }{inner{s}} },
		"embedded pointer":     func(s string) any { return struct{ *inner }{&inner{s}} },
		"behind an interface":  func(s string) any { return []any{1, &inner{s}} },
		"slice":                func(s string) any { return []string{"a", s} },
		"array":                func(s string) any { return [2]string{"a", s} },
		"map value":            func(s string) any { return map[string]any{"a": []string{s}} },
		"map key":              func(s string) any { return map[string]int{s: 1} },
		"MarshalText":          func(s string) any { return named(s) },
		"key with MarshalText": func(s string) any { return map[named]int{named(s): 1} },
		"MarshalJSON":          func(s string) any { return &ownJSON{s} },
		"MarshalJSON of a field": func(s string) any {
			return &struct{ A ownJSON }{ownJSON{s}}
		},
		"pointer with MarshalJSON in a field": func(s string) any { return &struct{ A *ownJSON }{&ownJSON{s}} },
		"RawMessage":                          func(s string) any { return json.RawMessage(`"` + s + `"`) },
		"quoted": func(s string) any {
			return struct {
				A string `json:",string"`
			}{s}
		},
	} {
		data, replaced, err := Marshal(make(bad))
		if err != nil || !replaced || Sound(data) != nil {
			t.Errorf("%s: got %q, %v, %v; want what was replaced noticed", name, data, replaced, err)
		}
		if data, replaced, err := Marshal(make(good)); err != nil || replaced {
			t.Errorf("%s: got %q, %v, %v of the character U+FFFD itself", name, data, replaced, err)
		}
	}
}

func TestWhatOnlyLooksReplaced(t *testing.T) {
	for _, v := range []any{json.RawMessage(`"\ufffd"`), map[string]any{"a": json.RawMessage(`["\ufffd"]`), "b": nil}, `\ufffd`, []byte(`\ufffd`),
		struct {
			A json.RawMessage
			B string `json:"-"`
			c string
		}{json.RawMessage(`"\ufffd"`), "\xff", "\xff"}, (*ownJSON)(nil), []any{(*ownJSON)(nil), `\ufffd`}} {
		if data, replaced, err := Marshal(v); err != nil || replaced {
			t.Errorf("%s: %v, %v; nothing was replaced", data, replaced, err)
		}
	}
}

func TestWhatIsNestedTooDeepIsNotMarshalled(t *testing.T) {
	type list struct{ Next *list }
	var l *list
	for range MaxDepth {
		l = &list{l}
	}
	if _, _, err := Marshal(l); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	if _, _, err := Marshal(&list{l}); err != ErrDepth {
		t.Errorf("got %v, want ErrDepth", err)
	}
	raw := json.RawMessage(strings.Repeat("[", 501) + strings.Repeat("]", 501))
	if _, _, err := Marshal(raw); err != ErrDepth {
		t.Errorf("got %v, want ErrDepth", err)
	}
}
