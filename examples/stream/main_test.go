package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
)

func TestItPrintsTheArticleAndAgainWhenRunAgain(t *testing.T) {
	db := filepath.Join(t.TempDir(), "article.db")
	var first, second bytes.Buffer
	for _, out := range []*bytes.Buffer{&first, &second} {
		if err := run(t.Context(), out, []string{db, "boats"}); err != nil {
			t.Fatal(err)
		}
	}
	if text := first.String(); text != second.String() || !strings.HasSuffix(text, "\n(completed)\n") || len(strings.Fields(text)) != 201 {
		t.Errorf("got %d words:\n%s\nand then\n%s", len(strings.Fields(text)), text, second.String())
	}
}
