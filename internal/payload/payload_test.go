package payload

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
)

// reference is the form that digests of stored inputs were made of from the first version on.
func reference(t *testing.T, data []byte) []byte {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%q: %v", data, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		t.Fatalf("%q has more than one value", data)
	}
	want, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return want
}

func FuzzCanonical(f *testing.F) {
	for _, s := range []string{`{"a":1,"b":[true,null,"x"]}`, `{"b":1,"a":2}`, `{"a":1,"a":2}`, `[]`, `{}`, `"<"`, `1E5`, `-0`, `{"a":{"b":{}}}`,
		`[1,2.50,"\\u0041"]`, " 1\n", `"ä"`, `{"":0}`, `""`, ` { "b" : [ ] , "a" : { "d" : 1 , "c" : 2 } , "ab":"\u2028\u007f" } `,
		`"\ud83d\ude00\ud800"`, `{"\ud800":1,"\udbff":2}`, `["\"\\\/\b\f\n\r\t\u0000"]`, "\"\xff\"", "\"\xed\xa0\x80\"", `{"\u0061":1,"a":1}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := Canonical(data)
		if checked := Check(data); (err == nil) != (checked == nil) {
			t.Fatalf("%q: Canonical says %v, Check %v", data, err, checked)
		}
		if err != nil {
			return
		}
		if again, err := Canonical(got); err != nil || !bytes.Equal(again, got) {
			t.Fatalf("%q: the canonical form of %q is %q, %v", data, got, again, err)
		}
		if !bytes.Contains(bytes.ToLower(data), []byte(`\ud`)) && !bytes.Equal(got, reference(t, data)) {
			t.Fatalf("%q: got %q, want %q", data, got, reference(t, data))
		}
	})
}

func TestEqualInputsHaveOneCanonicalForm(t *testing.T) {
	for _, forms := range [][]string{
		{`{"a":[1,{"x":"<","y":2}],"b":"ä"}`, ` {"b" : "\u00e4", "a": [1, {"y":2, "x":"\u003c"}]}`},
		{`"\ud83d\ude00"`, `"😀"`, `"\uD83D\uDE00"`},
		{`"x\ud800"`, `"\u0078\uD800"`},
		{`{"\ud800":1,"\ud801":2,"\uffff":3}`, `{"\uffff":3,"\ud801":2,"\ud800":1}`},
	} {
		first, err := Canonical([]byte(forms[0]))
		if err != nil {
			t.Fatal(err)
		}
		for _, form := range forms[1:] {
			if got, err := Canonical([]byte(form)); err != nil || !bytes.Equal(got, first) {
				t.Errorf("S2: got %s of %s and %s of %s, %v", first, forms[0], got, form, err)
			}
		}
	}
}

func TestHalvesOfSurrogatePairsAreToldApart(t *testing.T) {
	seen := map[string]string{}
	for _, text := range []string{`"\ud800"`, `"\ud801"`, `"\udc00"`, `"\udfff"`, `"\ufffd"`, `"\ud800\ud800"`, `"\udc00\ud800"`, `"\\ud800"`,
		`"\ud800x\udc00"`, `"\ud800\udc00"`, `["\ud800"]`, `{"\ud800":0}`, `{"\ud801":0}`} {
		got, err := Canonical([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if other, twice := seen[string(got)]; twice {
			t.Errorf("%s and %s have one canonical form, %s", text, other, got)
		}
		seen[string(got)] = text
	}
	if got, err := Canonical([]byte(`"a\uD800\u00e4"`)); err != nil || string(got) != `"a\ud800ä"` {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestWhatIsRefused(t *testing.T) {
	nested := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for text, want := range map[string]string{
		"\"\xc3\"":                               "is not UTF-8 text",
		"\"\xed\xa0\x80\"":                       "is not UTF-8 text",
		`{`:                                      "is not JSON",
		``:                                       "is not JSON",
		`1 2`:                                    "is not JSON",
		`{"a":1,"a":1}`:                          `has key "a" twice`,
		`{"b":{"x":[{"a":1,"c":2,"\u0061":3}]}}`: `has key "a" twice`,
		`{"\ud800":1,"\uD800":1}`:                "twice",
		`{"` + strings.Repeat("k", 99) + `":1,"` + strings.Repeat("k", 99) + `":1}`: `"… twice`,
		nested(MaxDepth + 1):                            "is nested more than 500 deep",
		`["]",` + strings.Repeat(`{"\"":[`, 250) + `]}`: "is nested more than 500 deep",
		strings.Repeat("[", 100_000):                    "is nested more than 500 deep",
	} {
		if err := Check([]byte(text)); err == nil || !strings.Contains(err.Error(), want) || len(err.Error()) > 100 {
			t.Errorf("%.40q: got %v, want %s", text, err, want)
		}
	}
	for _, text := range []string{nested(MaxDepth), `["` + nested(MaxDepth) + `"]`, strings.Repeat("[", 0) + "[" + strings.Repeat("[],", 1000) + "[]]",
		`{"a":1,"A":1}`, `{"\ud800":1,"\ud801":1,"\ufffd":1}`, `[{"a":1},{"a":1}]`} {
		if err := Check([]byte(text)); err != nil {
			t.Errorf("%.40q: %v", text, err)
		}
	}
	if err := Sound([]byte(`{"a":1,"a":1}`)); err != nil {
		t.Errorf("what is sound may have a key twice: %v", err)
	}
}
