package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const root = "../.."

func TestEveryMutationAppliesOnceAndHasANameOfItsOwn(t *testing.T) {
	ms, err := all()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, m := range ms {
		if names[m.name] {
			t.Errorf("there are two mutations %q", m.name)
		}
		names[m.name] = true
		for _, file := range m.files() {
			text, err := os.ReadFile(filepath.Join(root, file))
			if err != nil {
				t.Errorf("%q: %v", m.name, err)
				continue
			}
			if mutated, err := m.apply(file, string(text)); err != nil {
				t.Errorf("%q: %v", m.name, err)
			} else if mutated == string(text) {
				t.Errorf("%q changes nothing in %s", m.name, file)
			}
		}
	}
	t.Logf("%d mutations", len(ms))
}

func TestAListIsRead(t *testing.T) {
	const list = `# About the list.

== a name
in a/b.go
tests ./a TestB|TestC
- 	one
- 	two
+ 	three
- four
in a/c.go
- five
+ six
+ 

== another
in c.go
sim
survives because of this
- x
+ y
`
	got, err := parse("a.txt", list)
	if err != nil {
		t.Fatal(err)
	}
	want := []*mutation{
		{name: "a name", tests: &suite{pkg: "./a", run: "TestB|TestC"}, hunks: []hunk{
			{"a/b.go", "\tone\n\ttwo", "\tthree"}, {"a/b.go", "four", ""}, {"a/c.go", "five", "six\n"},
		}},
		{name: "another", sim: true, survives: "because of this", hunks: []hunk{{"c.go", "x", "y"}}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v and %+v, want %+v and %+v", got[0], got[1], want[0], want[1])
	}
}

func TestAListThatIsWrongIsRefused(t *testing.T) {
	for _, test := range []struct{ list, want string }{
		{"in a.go", "a.txt:1: \"in a.go\" comes before the first mutation"},
		{"== a\nin a.go\n- b\n\n+ c", "a.txt:5: a + without a - before it"},
		{"== a\nof a.go", "a.txt:2: unknown line \"of\""},
		{"== a\ntests .\n- b", "a file"},
		{"== a\nin a.go\ntests .", "a hunk"},
		{"== a\nin a.go\n- b", "names no tests"},
		{"== a\nin a.go\nsim\ntests .\n- b", "names no other tests"},
	} {
		if _, err := parse("a.txt", test.list); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: got %v, want %q", test.list, err, test.want)
		}
	}
}

func TestTextsThatAreNotThereOnceAreRefused(t *testing.T) {
	for _, text := range []string{"b", "a a"} {
		if _, err := (&mutation{hunks: []hunk{{"x.go", "a", "c"}}}).apply("x.go", text); err == nil {
			t.Errorf("%q: got no error", text)
		}
	}
}

func TestTheInnermostOfTheFirstFailuresIsNamed(t *testing.T) {
	const out = "--- FAIL: TestA (0.1s)\n    --- FAIL: TestA/b (0.1s)\n        --- FAIL: TestA/b/c (0.1s)\n" +
		"            a_test.go:1: first\n            a_test.go:2: second\n--- FAIL: TestD (0.1s)\n"
	for _, test := range []struct{ out, want string }{
		{out, "TestA/b/c first"},
		{"--- FAIL: TestA (0.1s)\npanic: test timed out after 4m0s\n\ngoroutine 1", "panic: test timed out after 4m0s"},
		{"", "failed without a word"},
	} {
		if got := failure(test.out); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}

// A suite that takes too long has found a mutation only if that names it.
func TestOnlyTestsThatAMutationNamesFindItByHanging(t *testing.T) {
	named := suite{pkg: "./a", run: "TestIt"}
	for _, c := range []struct {
		m    mutation
		s    suite
		want bool
	}{
		{mutation{tests: &named}, named, true},
		{mutation{tests: &named}, suite{pkg: "./a"}, false},
		{mutation{tests: &named}, suite{pkg: "./b", run: "TestIt"}, false},
		{mutation{sim: true}, simulation, false},
	} {
		if got := c.m.names(c.s); got != c.want {
			t.Errorf("%+v names %+v: got %t", c.m, c.s, got)
		}
	}
}
