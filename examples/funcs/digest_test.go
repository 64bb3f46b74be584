package funcs_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/examples/funcs"
	"github.com/perdure/perdure/perduretest"
)

// tree writes files into a new folder and returns its path.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const (
	markdown = "# Leases\n\nThe **lease** says which [worker](http://x) may write to a task.\n\n```\ncode that is no prose at all\n```\n\n" +
		"- A worker renews its lease with one heartbeat.\n- When a worker dies its lease lapses.\n\n| table | of | no | interest |\n"
	golang = "// Package clock tells the time to those who ask for it.\npackage clock\n\n// Now returns the time of the clock on the wall.\n" +
		"func Now() int {\n\t// a remark inside the body of the function\n\treturn 12\n}\n"
)

// results returns the digests by file name.
func results(out *funcs.DigestOutput) map[string]funcs.FileDigest {
	files := map[string]funcs.FileDigest{}
	for _, d := range out.Files {
		files[filepath.Base(d.Path)] = d
	}
	return files
}

func TestDigestReadsWhatIsText(t *testing.T) {
	root := tree(t, map[string]string{
		"a.md": markdown, "sub/clock.go": golang, "notes.txt": "Plain text has nothing to take out of it.",
		".hidden/b.md": markdown, "vendor/c.md": markdown, "node_modules/d.md": markdown, "e.png": "x", ".f.md": markdown,
		"binary.txt": "\x00\x01\x02", "huge.txt": strings.Repeat("much too long a text ", 60_000), "empty.md": "",
	})
	play(t, func(t *testing.T, h *perduretest.Harness) {
		r, err := funcs.Digest.Run(t.Context(), h.Client(), funcs.DigestInput{Paths: []string{root, filepath.Join(root, "a.md")}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		files := results(&r.Output)
		names := slices.Sorted(maps.Keys(files))
		if want := []string{"a.md", "binary.txt", "clock.go", "empty.md", "huge.txt", "notes.txt"}; !slices.Equal(names, want) {
			t.Errorf("got files %q, want %q", names, want)
		}
		if got, want := files["a.md"].Sentences, []string{"The lease says which worker may write to a task.",
			"A worker renews its lease with one heartbeat.", "When a worker dies its lease lapses."}; !slices.Equal(got, want) {
			t.Errorf("Markdown: got %q, want %q", got, want)
		}
		if got, want := files["clock.go"].Sentences, []string{"Package clock tells the time to those who ask for it.",
			"Now returns the time of the clock on the wall."}; !slices.Equal(got, want) {
			t.Errorf("Go: got %q, want %q", got, want)
		}
		if files["binary.txt"].Problem != "not UTF-8 text" || files["huge.txt"].Problem != "larger than 1024 KiB" {
			t.Errorf("got problems %q and %q", files["binary.txt"].Problem, files["huge.txt"].Problem)
		}
		if !strings.Contains(r.Output.Report, "Key terms: ") || !strings.Contains(r.Output.Report, "  - Now returns the time") {
			t.Errorf("got report:\n%s", r.Output.Report)
		}
	})
}

func TestDigestReadsNoFileTwice(t *testing.T) {
	files := map[string]string{}
	for i := range 6 {
		files[fmt.Sprintf("%d.txt", i)] = fmt.Sprintf("The file with the number %d has one sentence.", i)
	}
	root := tree(t, files)
	play(t, func(t *testing.T, h *perduretest.Harness) {
		h.CrashAt(perduretest.After, perduretest.Checkpoint, 4) // the entry's, then three files
		r, err := funcs.Digest.Run(t.Context(), h.Client(), funcs.DigestInput{Paths: []string{root}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		out := r.Output
		if out.Read != 3 || out.Skipped != 3 || len(out.Files) != 6 {
			t.Errorf("got %d read and %d skipped of %d files, want 3, 3, 6", out.Read, out.Skipped, len(out.Files))
		}
		if want := []perdure.EntryMode{perdure.Fresh, perdure.Recovered}; !slices.Equal(out.Entries, want) {
			t.Errorf("got entries %v, want %v", out.Entries, want)
		}
		if out.Files[2].Entry != perdure.Fresh || out.Files[3].Entry != perdure.Recovered {
			t.Errorf("got entries %s and %s of files 3 and 4, want fresh and recovered", out.Files[2].Entry, out.Files[3].Entry)
		}
	})
}

func TestDigestOfManyFilesStaysWithinTheMetadataLimit(t *testing.T) {
	long := strings.Repeat("A sentence that tells of sizes, limits, bounds and of the budget that holds them together. ", 10)
	files := map[string]string{}
	for i := range 1500 {
		files[fmt.Sprintf("folder-%d/%d.txt", i%7, i)] = long
	}
	root := tree(t, files)
	play(t, func(t *testing.T, h *perduretest.Harness) {
		r, err := funcs.Digest.Run(t.Context(), h.Client(), funcs.DigestInput{Paths: []string{root}, Sentences: 50}, nil)
		if err != nil || r.Output.Read != 1500 {
			t.Errorf("got %d files read, %v, want 1500", r.Output.Read, err)
		}
	})
}

func TestDigestOfAText(t *testing.T) {
	play(t, func(t *testing.T, h *perduretest.Harness) {
		in := funcs.DigestInput{Text: "The lease is short. The worker renews the lease. The weather is a different matter.", Sentences: 1}
		r, err := funcs.Digest.Run(t.Context(), h.Client(), in, nil)
		if err != nil || len(r.Output.Files) != 1 || len(r.Output.Files[0].Sentences) != 1 {
			t.Errorf("got %+v, %v, want one sentence of one file", r.Output, err)
		}
	})
}
