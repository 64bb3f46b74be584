package engine

import (
	"bytes"
	"encoding/json"
	"testing"
)

func FuzzCanonicalJSONIsTheSameOnBothWays(f *testing.F) {
	for _, s := range []string{`{"a":1,"b":[true,null,"x"]}`, `{"b":1,"a":2}`, `{"a":1,"a":2}`, `[]`, `{}`, `"<"`, `1E5`, `-0`,
		`{"a":{"b":{}}}`, `[1,2.50,"\\u0041"]`, ` 1`, `"ä"`, `{"":0}`, `""`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if !json.Valid(data) {
			return
		}
		got, err := canonicalJSON(data)
		want, wantErr := canonicalize(data)
		if (err == nil) != (wantErr == nil) || !bytes.Equal(got, want) {
			t.Errorf("%q: got %q, %v, want %q, %v", data, got, err, want, wantErr)
		}
	})
}

func TestEqualInputsHaveOneCanonicalForm(t *testing.T) {
	forms := []string{`{"a":[1,{"x":"<","y":2}],"b":"ä"}`, ` {"b" : "\u00e4", "a": [1, {"y":2, "x":"\u003c"}]}`}
	first, err := canonicalJSON([]byte(forms[0]))
	if err != nil {
		t.Fatal(err)
	}
	second, err := canonicalJSON([]byte(forms[1]))
	if err != nil || !bytes.Equal(first, second) {
		t.Errorf("S2: got %s and %s, %v", first, second, err)
	}
}
