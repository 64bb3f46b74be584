package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestADigestIsReadOnce(t *testing.T) {
	dir := t.TempDir()
	text := "The lease says who may write to a task. The worker renews its lease.\n\nReaders need no lease at all."
	if err := os.WriteFile(filepath.Join(dir, "a.txt"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		var out bytes.Buffer
		if err := run(t.Context(), &out, []string{"-db", filepath.Join(dir, "digest.db"), filepath.Join(dir, "a.txt")}); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), "- The lease says who may write to a task.") ||
			!strings.Contains(out.String(), "1 files read now, 0 before") {
			t.Errorf("got:\n%s", &out)
		}
	}
}

func TestWithoutPathsItFails(t *testing.T) {
	err := run(t.Context(), &bytes.Buffer{}, []string{"-db", filepath.Join(t.TempDir(), "digest.db")})
	if err == nil || !strings.Contains(err.Error(), "give paths or text") {
		t.Errorf("got %v, want what is missing", err)
	}
}
