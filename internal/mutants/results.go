package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// results keeps what suites have said of mutations, so that a run goes on where another one was stopped. What a suite has
// said holds as long as what it is built from does not change.
type results struct {
	clean sync.Map // by suite: func() error, whether it passes over the tree as it is
	root  string
	dir   string

	mu      sync.Mutex
	sources map[string]string // by package: the hash of what its tests are built from
}

func openResults(root string) (*results, error) {
	r := &results{root: root, dir: filepath.Join(root, "bin", "mutants"), sources: map[string]string{}}
	return r, os.MkdirAll(r.dir, 0o755)
}

// path is where it is kept what a suite has said of a mutation.
func (r *results) path(m *mutation, s suite) (string, error) {
	sources, err := r.source(s.pkg)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %q %q", sources, m.hunks, s))
	return filepath.Join(r.dir, fmt.Sprintf("%x", sum[:16])), nil
}

// source sums up what the tests of a package are built from, as far as it is in the tree.
func (r *results) source(pkg string) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if known := r.sources[pkg]; known != "" {
		return known, nil
	}
	list := exec.Command("go", "list", "-deps", "-test", "-f", "{{with .Module}}{{if .Main}}{{$.Dir}}{{end}}{{end}}", pkg)
	list.Dir = r.root
	out, err := list.Output()
	if err != nil {
		return "", fmt.Errorf("go list %s: %w", pkg, err)
	}
	dirs := strings.Fields(string(out))
	slices.Sort(dirs)
	sum := sha256.New()
	for _, dir := range slices.Compact(dirs) {
		if err := addSources(sum, dir); err != nil {
			return "", err
		}
	}
	r.sources[pkg] = fmt.Sprintf("%x", sum.Sum(nil))
	return r.sources[pkg], nil
}

// addSources writes the sources in a directory, and the migrations below it.
func addSources(w io.Writer, dir string) error {
	for _, pattern := range []string{"*.go", "go.mod", filepath.Join("*", "*.sql")} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return err
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			fmt.Fprintf(w, "%s %d\n%s", name, len(text), text)
		}
	}
	return nil
}

// known returns which test of a suite has found a mutation before, "" for none; ok is false if it was not asked.
func (r *results) known(path string) (killer string, ok bool, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	return string(text), err == nil, err
}

// keep keeps what a suite has said.
func (r *results) keep(path, killer string) error {
	f, err := os.CreateTemp(r.dir, "new")
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, killer)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
