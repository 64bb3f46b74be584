package main

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/perdure/perdure"
)

// evil is what no terminal may get from a task: escape sequences of seven and of eight bits, a bell, a return, NUL,
// DEL, a change of direction, what has no width, a separator of lines, an invisible tag.
const evil = "\x1b[31m\x1b]0;x\a\u009b31m\r\x00\x7f\u202e\u200b\u2066\ufeff\u2028\u00ad\U000E0041"

// noneActs checks that a terminal only gets text.
func noneActs(t *testing.T, what, got string) {
	t.Helper()
	if i := strings.IndexFunc(got, acts); i >= 0 || !utf8.ValidString(got) {
		t.Errorf("%s: a terminal gets %q", what, got)
	}
}

func TestWhatPeopleReadIsEscapedAndStaysTheSameJSON(t *testing.T) {
	var all strings.Builder
	for r := rune(0); r <= utf8.MaxRune; r++ {
		if utf8.ValidRune(r) {
			all.WriteRune(r)
		}
	}
	var data, out bytes.Buffer
	enc := json.NewEncoder(&data)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(all.String()); err != nil {
		t.Fatal(err)
	}
	s := &screen{w: &out, people: true}
	for piece := data.Bytes(); len(piece) > 0; { // characters are cut in two
		n := min(len(piece), 7)
		if _, err := s.Write(piece[:n]); err != nil {
			t.Fatal(err)
		}
		piece = piece[n:]
	}
	noneActs(t, "JSON", out.String())
	var got string
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || got != all.String() {
		t.Errorf("the JSON says something else: %v", err)
	}
	noneActs(t, "a text", escape(all.String()+"\xff\x9b"))
	if got, want := escape("one\r\n\ttwo é 世 👍"), "one\n\ttwo é 世 👍"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := plain(evil + "a\nb\tc"); strings.ContainsAny(got, "\n\t") || !strings.HasPrefix(got, `\u001b[31m`) {
		t.Errorf("in a line: %q", got)
	}
}

func TestProgramsGetEveryByte(t *testing.T) {
	var out bytes.Buffer
	s := &screen{w: &out}
	if _, err := s.Write([]byte(evil + "\xff")); err != nil || out.String() != evil+"\xff" {
		t.Errorf("got %q, %v", out.String(), err)
	}
}

func TestOutputsAreLaidOutForPeople(t *testing.T) {
	long := strings.Repeat("word ", 20)
	for data, want := range map[string]string{
		`{"steps":2}`:             `{"steps":2}`,
		`"a \"b\"\nc\n"`:          "a \"b\"\nc",
		`12345678901234567890.10`: "12345678901234567890.10",
		`null`:                    "null",
		`{"b":"` + long + `","a":[1,2],"text":"one\ntwo","path":"C:\\x"}`: "b: " + strings.TrimSpace(long) + "\na: [1,2]\ntext:\n  one\n  two\npath: C:\\x",
		`[{"name":"` + long + `x","n":1},"q\"q",[]]`:                      "- name: " + long + "x\n  n: 1\n- q\"q\n- []",
		`{"a":{"b":{"c":"\u00e9\n\n!"}}}`:                                 "a:\n  b:\n    c:\n      é\n      \n      !",
	} {
		if got := strings.TrimSuffix(readable(json.RawMessage(data)), "\n"); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", data, got, want)
		}
	}
	deep := strings.Repeat(`[`, 9000) + `"x\n"` + strings.Repeat(`]`, 9000)
	if got := readable(json.RawMessage(deep)); len(got) > 3*len(deep) {
		t.Errorf("9,000 arrays in one another take %d bytes", len(got))
	}
	var v any
	if want := []any{"x"}; json.Unmarshal([]byte(readable(json.RawMessage(`["x"]`))), &v) != nil || !reflect.DeepEqual(v, any(want)) {
		t.Errorf("what is short is no JSON: %v", v)
	}
}

func TestAnOutputIsReadableOnATerminalAndJSONElsewhere(t *testing.T) {
	o := &perdure.Outcome{TaskID: "x", Turn: 1, Status: perdure.Completed, Output: json.RawMessage("{\"text\":\"one\\ntwo\u202e\"}")}
	for _, c := range []struct {
		people, asJSON bool
		want           string
	}{
		{true, false, "text:\n  one\n  two\\u202e\n"},
		{true, true, "{\n  \"text\": \"one\\ntwo\\u202e\"\n}\n"},
		{false, false, "{\n  \"text\": \"one\\ntwo\u202e\"\n}\n"},
	} {
		var out bytes.Buffer
		a := &app{out: &screen{w: &out, people: c.people}, errOut: &screen{w: &out, people: true}}
		if err := a.printOutcome(o, c.asJSON); err != nil || out.String() != c.want {
			t.Errorf("people %v, --json %v: got %q, %v, want %q", c.people, c.asJSON, out.String(), err, c.want)
		}
	}
}
