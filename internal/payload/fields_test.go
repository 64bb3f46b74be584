package payload

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

type deepest struct {
	Kelvin int `json:"kelvin"`
}

type base struct {
	ID     string `json:"id"`
	Hidden string `json:"-"`
	Dash   string `json:"-,"`
}

type declared struct {
	base
	*deepest
	Steps  int                `json:"steps,omitempty"`
	Plain  string             //
	Odd    int                `json:"a\"b"` // no name: the field's own
	List   []deepest          `json:"list"`
	Map    map[string]deepest `json:"map"`
	Next   **declared         `json:"next"`
	Any    any                `json:"any"`
	Raw    json.RawMessage    `json:"raw"`
	At     time.Time          `json:"at"`
	Own    lenient            `json:"own"`
	hidden int
}

// lenient reads itself as it likes.
type lenient struct{ A int }

func (l *lenient) UnmarshalJSON([]byte) error { return nil }

func TestFieldsAreNamedAsTheyAreDeclared(t *testing.T) {
	typ := reflect.TypeFor[declared]()
	for _, text := range []string{
		`{"id":"x","-":"d","kelvin":1,"steps":2,"Plain":"p","Odd":3}`,
		`{"list":[{"kelvin":1},{"kelvin":2}],"map":{"kelvin":{"kelvin":1},"KELVIN":{}},"next":{"next":{"steps":1}}}`,
		`{"any":{"Steps":1,"STEPS":2},"raw":{"x":{"y":1}},"at":"2026-01-01T00:00:00Z","own":{"a":1,"whatever":{}}}`,
		`{"list":{"of":"another kind"},"map":[{"a":1}],"steps":{"a":[{"b":1}]}}`, `[]`, `1`, `null`, `{}`, ` { "steps" : 1 } `,
	} {
		if err := Fields([]byte(text), typ); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	for text, want := range map[string]string{
		`{"Steps":1}`: "Steps", `{"STEPS":1,"steps":2}`: "STEPS", `{"plain":"p"}`: "plain", `{"odd":1}`: "odd", `{"ID":"x"}`: "ID",
		`{"Hidden":"x"}`: "Hidden", `{"hidden":1}`: "hidden", "{\"\u212aelvin\":1}": "\u212aelvin", `{"list":[{},{"Kelvin":1}]}`: "Kelvin",
		`{"map":{"x":{"KELVIN":1}}}`: "KELVIN", `{"next":{"next":{"Steps":1}}}`: "Steps", `{"base":{}}`: "base", `{"other":1}`: "other",
		`{"` + strings.Repeat("x", 100) + `":1}`: "…",
	} {
		if err := Fields([]byte(text), typ); err == nil || !strings.Contains(err.Error(), want) || len(err.Error()) > 100 {
			t.Errorf("%s: got %v, want %s named", text, err, want)
		}
	}
}

type loop struct {
	*loop
	A int
}

func TestTypesThatEmbedThemselves(t *testing.T) {
	if err := Fields([]byte(`{"A":1}`), reflect.TypeFor[*loop]()); err != nil {
		t.Error(err)
	}
}

// What passes, and decodes without unknown fields, has found no field under another name.
func FuzzFields(f *testing.F) {
	for _, s := range []string{`{"steps":1,"STEPS":2}`, `{"list":[{"kelvin":1}]}`, `{"map":{"A":{"\u006belvin":1}}}`, `{"\u212aelvin":1}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if Check(data) != nil || Fields(data, reflect.TypeFor[declared]()) != nil {
			return
		}
		var any map[string]json.RawMessage
		var d declared
		if json.Unmarshal(data, &d) != nil || json.Unmarshal(data, &any) != nil {
			return
		}
		if _, named := any["steps"]; d.Steps != 0 && !named {
			t.Errorf("%q: steps became %d", data, d.Steps)
		}
		if _, named := any["kelvin"]; d.deepest != nil && !named {
			t.Errorf("%q: kelvin became %d", data, d.deepest.Kelvin)
		}
	})
}
