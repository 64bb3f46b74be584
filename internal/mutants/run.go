package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// suite is what one run of go test is given.
type suite struct {
	pkg  string
	run  string // pattern; empty: all tests
	args []string
}

// simulation is that on memory, by seeds, and by breaking every second occurrence of every write.
var simulation = suite{"./internal/sim", "TestSimulationOnMemory|TestEveryWriteOfEveryScenarioMayBreakOnMemory", nil}

// fast are the suites that are asked in turn when the tests that a mutation names do not find it.
var fast = []suite{{pkg: "./store/memstore"}, {pkg: "./internal/engine"}, {pkg: "."}, simulation}

// own are the directories whose mutations only their own package's tests can find.
var own = []string{"store/sqlitestore", "store/pgstore", "perdurehttp"}

// suites returns what is asked about a mutation, the quickest first.
func (m *mutation) suites() []suite {
	if m.sim {
		return []suite{simulation}
	}
	more := fast
	if i := slices.IndexFunc(own, func(dir string) bool { return strings.HasPrefix(m.hunks[0].file, dir+"/") }); i >= 0 {
		more = []suite{{pkg: "./" + own[i]}}
	}
	all := []suite{*m.tests}
	for _, s := range more {
		if s.pkg != m.tests.pkg || m.tests.run != "" {
			all = append(all, s)
		}
	}
	return all
}

// A test that takes longer than this hangs. That finds a mutation if it is one of the tests that the mutation names: others
// may be slow for reasons of their own.
const hang = "10m"

// errList says that a mutation is not one: it does not apply, or what it makes does not build.
var errList = errors.New("the list is wrong")

// try puts a mutation into the tree, as go test sees it, and returns which test has found it; "" when none has.
func (m *mutation) try(kept *results) (killer string, err error) {
	dir, err := os.MkdirTemp("", "mutant")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	overlay, err := m.overlay(kept.root, dir)
	if err != nil {
		return "", err
	}
	for _, s := range m.suites() {
		if killer, err = kept.ask(m, s, overlay); killer != "" || err != nil {
			return killer, err
		}
	}
	return "", nil
}

// ask runs a suite over a mutation, unless it is known what that says.
func (r *results) ask(m *mutation, s suite, overlay string) (killer string, err error) {
	path, err := r.path(m, s)
	if err != nil {
		return "", err
	}
	killer, ok, err := r.known(path)
	if ok || err != nil {
		return killer, err
	}
	if killer, err = s.ask(r.root, overlay); err != nil {
		return "", err
	}
	if strings.Contains(killer, timedOut) && !m.names(s) {
		return "", fmt.Errorf("%s took longer than %s: name the test that hangs, or try again on a quiet machine", s.pkg, hang)
	}
	if killer != "" {
		if err := r.passes(s); err != nil {
			return "", err
		}
	}
	return killer, r.keep(path, killer)
}

// names reports whether a suite is the one that the mutation names.
func (m *mutation) names(s suite) bool {
	return m.tests != nil && s.pkg == m.tests.pkg && s.run == m.tests.run
}

// passes asks, once, whether a suite passes when nothing is mutated: else what it finds says nothing.
func (r *results) passes(s suite) error {
	once, _ := r.clean.LoadOrStore(s.pkg+" "+s.run, sync.OnceValue(func() error {
		killer, err := s.ask(r.root, "")
		if err == nil && killer != "" {
			err = fmt.Errorf("the tests fail without a mutation: %s", killer)
		}
		return err
	}))
	return once.(func() error)()
}

// overlay writes the mutated files, and the overlay that puts them in the place of the tree's, to dir.
func (m *mutation) overlay(root, dir string) (string, error) {
	replace := map[string]string{}
	for n, name := range m.files() {
		path := filepath.Join(root, filepath.FromSlash(name))
		text, err := os.ReadFile(path)
		if err != nil {
			return "", errors.Join(errList, err)
		}
		mutated, err := m.apply(name, string(text))
		if err != nil {
			return "", errors.Join(errList, err)
		}
		replace[path] = filepath.Join(dir, fmt.Sprint(n, filepath.Ext(name)))
		if err := os.WriteFile(replace[path], []byte(mutated), 0o644); err != nil {
			return "", err
		}
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": replace})
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, "overlay.json")
	return name, os.WriteFile(name, overlay, 0o644)
}

// ask runs the suite over what an overlay, if there is one, makes of the tree, and returns which of its tests has failed; "" when none has.
func (s suite) ask(root, overlay string) (killer string, err error) {
	args := []string{"test", "-vet=off", "-failfast", "-count=1", "-timeout", hang}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	if s.run != "" {
		args = append(args, "-run", s.run)
	}
	cmd := exec.Command("go", append(append(args, s.pkg), s.args...)...)
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil && strings.Contains(string(out), "no tests to run"):
		return "", errors.Join(errList, errors.New(s.pkg+" has no test "+s.run))
	case err == nil:
		return "", nil
	case !errors.As(err, &exit):
		return "", err
	case unbuilt.Match(out):
		return "", errors.Join(errList, errors.New(string(out)))
	}
	return s.pkg + ": " + failure(string(out)), nil
}

// timedOut is what go test says of a test that has taken too long.
const timedOut = "panic: test timed out"

var (
	unbuilt = regexp.MustCompile(`(?m)^FAIL\t.*\[(build|setup) failed\]$`)
	failed  = regexp.MustCompile(`--- FAIL: (\S+) .*\n(?:\s+\S+_test\.go:\d+: (.*))?`)
	fatal   = regexp.MustCompile(`(?m)^(?:panic|fatal error): .*`)
)

// failure names the first test that has failed, the innermost of it, and what that has said first.
func failure(out string) string {
	if found := fatal.FindString(out); found != "" {
		return found
	}
	name, said := "", ""
	for _, found := range failed.FindAllStringSubmatch(out, -1) {
		if name != "" && !strings.HasPrefix(found[1], name+"/") {
			break
		}
		name, said = found[1], found[2]
	}
	return strings.TrimSpace(cmp.Or(name, "failed without a word") + " " + said)
}
