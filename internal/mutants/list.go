package main

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

//go:embed list/*.txt
var lists embed.FS

// mutation is one fault that is put into the tree by hand.
type mutation struct {
	name     string
	tests    *suite // which is asked first; nil if it is for the simulation alone
	sim      bool   // the simulation must find it, without any other test
	survives string // why no test can find it; empty: one must
	hunks    []hunk
}

// hunk is a text that must occur exactly once in a file, below the module's root, and what is put in its place.
type hunk struct{ file, old, new string }

// all reads the lists of mutations.
func all() ([]*mutation, error) {
	names, err := fs.Glob(lists, "list/*.txt")
	if err != nil {
		return nil, err
	}
	var ms []*mutation
	for _, name := range names {
		text, err := lists.ReadFile(name)
		if err != nil {
			return nil, err
		}
		more, err := parse(path.Base(name), string(text))
		if err != nil {
			return nil, err
		}
		ms = append(ms, more...)
	}
	return ms, nil
}

// parse reads a list. Its lines are:
//
//	# a comment
//	== the mutation's name: it says what is wrong then
//	in the/file.go
//	tests ./a/package TestPattern
//	sim
//	survives because of this
//	- a line, or a part of one, that is taken out
//	+ a line that comes in its place
//
// What follows "- " and "+ " is exact; lines of a kind that follow one another are one text. A hunk ends with its + lines,
// or with an empty line; it is of the file that was named last.
func parse(name, text string) ([]*mutation, error) {
	p := &parser{}
	for n, line := range strings.Split(text, "\n") {
		if err := p.line(line); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n+1, err)
		}
	}
	for _, m := range p.all {
		if err := m.check(); err != nil {
			return nil, fmt.Errorf("%s: %q: %w", name, m.name, err)
		}
	}
	return p.all, nil
}

// parser reads a list line by line.
type parser struct {
	all  []*mutation
	file string
	last byte // '-' or '+' while lines of that kind follow one another, else 0
}

func (p *parser) line(line string) error {
	kind, rest, _ := strings.Cut(line, " ")
	if kind == "==" {
		p.all, p.file, p.last = append(p.all, &mutation{name: rest}), "", 0
		return nil
	}
	if line == "" || strings.HasPrefix(line, "#") {
		p.last = 0
		return nil
	}
	if len(p.all) == 0 {
		return fmt.Errorf("%q comes before the first mutation", line)
	}
	m := p.all[len(p.all)-1]
	if kind == "-" || kind == "+" {
		return p.change(m, kind[0], rest)
	}
	p.last = 0
	if kind == "in" {
		p.file = rest
		return nil
	}
	return m.set(kind, rest)
}

// change takes one line of a hunk.
func (p *parser) change(m *mutation, kind byte, text string) error {
	if kind == '-' && p.last != '-' {
		m.hunks = append(m.hunks, hunk{file: p.file, old: text})
		p.last = '-'
		return nil
	}
	if p.last == 0 {
		return fmt.Errorf("a + without a - before it")
	}
	h := &m.hunks[len(m.hunks)-1]
	switch {
	case kind == '-':
		h.old += "\n" + text
	case p.last == '-':
		h.new = text
	default:
		h.new += "\n" + text
	}
	p.last = kind
	return nil
}

// set takes a line that says something about a mutation.
func (m *mutation) set(kind, rest string) error {
	switch kind {
	case "tests":
		pkg, run, _ := strings.Cut(rest, " ")
		m.tests = &suite{pkg: pkg, run: run}
	case "sim":
		m.sim = true
	case "survives":
		m.survives = rest
	default:
		return fmt.Errorf("unknown line %q", kind)
	}
	return nil
}

func (m *mutation) check() error {
	switch {
	case m.name == "" || len(m.hunks) == 0 || m.hunks[0].file == "":
		return fmt.Errorf("it wants a name, a file and a hunk")
	case m.sim && m.tests != nil:
		return fmt.Errorf("what the simulation must find by itself names no other tests")
	case !m.sim && m.tests == nil:
		return fmt.Errorf("it names no tests")
	}
	return nil
}

// files returns the names of the files that a mutation changes, the first one first.
func (m *mutation) files() (names []string) {
	for _, h := range m.hunks {
		if !slices.Contains(names, h.file) {
			names = append(names, h.file)
		}
	}
	return names
}

// apply returns the mutated text of a file.
func (m *mutation) apply(file, text string) (string, error) {
	for _, h := range m.hunks {
		if h.file != file {
			continue
		}
		if n := strings.Count(text, h.old); n != 1 {
			return "", fmt.Errorf("%s has %d times what is to be taken out: %q", file, n, h.old)
		}
		text = strings.Replace(text, h.old, h.new, 1)
	}
	return text, nil
}
