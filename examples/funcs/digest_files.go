package funcs

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Limits of a digest.
const (
	maxFiles       = 2000
	maxFileBytes   = 1 << 20
	maxSentence    = 300        // characters
	maxIDBytes     = 200        // of a path as part of a metadata key
	metadataBudget = 800 * 1024 // bytes, of the 1 MiB that a task may keep
)

// source is a text that can be read.
type source struct {
	path string
	read func() (string, error)
}

// id names the source in a metadata key, which may not be as long as a path.
func (s source) id() string {
	if len(s.path) <= maxIDBytes {
		return s.path
	}
	sum := sha256.Sum256([]byte(s.path))
	return hex.EncodeToString(sum[:])
}

// find returns the files at and under the paths, each once, in order.
func find(paths []string) ([]source, error) {
	var files []string
	for _, path := range paths {
		under, err := list(path)
		if err != nil {
			return nil, err
		}
		files = append(files, under...)
	}
	slices.Sort(files)
	files = slices.Compact(files)
	switch {
	case len(files) == 0:
		return nil, refuse("no Markdown, text or Go files under %s", strings.Join(paths, ", "))
	case len(files) > maxFiles:
		return nil, refuse("%d files: at most %d; name fewer paths", len(files), maxFiles)
	}
	sources := make([]source, 0, len(files))
	for _, file := range files {
		sources = append(sources, source{path: file, read: func() (string, error) { return readText(file) }})
	}
	return sources, nil
}

// list returns a file, whatever its name, or the files of a folder that look like text.
func list(path string) ([]string, error) {
	path = filepath.Clean(path)
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, refuse("path %q does not exist on the machine that runs the func", path)
	case err != nil:
		return nil, refuse("path %q: %w", path, plain(err))
	case info.Mode().IsRegular():
		return []string{path}, nil
	case !info.IsDir():
		return nil, refuse("path %q is neither a file nor a folder", path)
	}
	return walk(path)
}

func walk(root string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil && path == root:
			return refuse("path %q: %w", path, plain(err))
		case err != nil:
			return nil // a folder that may not be entered hides what is in it
		case d.IsDir() && path != root && unwanted(d.Name()):
			return fs.SkipDir
		case d.Type().IsRegular() && looksLikeText(d.Name()):
			files = append(files, path)
		}
		return nil
	})
	return files, err
}

// unwanted folders are hidden, or hold the work of others.
func unwanted(name string) bool {
	return strings.HasPrefix(name, ".") || name == "vendor" || name == "node_modules"
}

func looksLikeText(name string) bool {
	if strings.HasPrefix(name, ".") {
		return false
	}
	switch strings.ToLower(filepath.Ext(name)) {
	case ".md", ".markdown", ".txt", ".text", ".go":
		return true
	}
	return name == "README" || name == "LICENSE" || name == "CHANGELOG"
}

// plain takes the path out of an error that will name it anyway.
func plain(err error) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err
	}
	return err
}

// readText returns the prose of a file: what is left of Markdown without its marks, of Go its doc comments.
func readText(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", plain(err)
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	switch {
	case err != nil:
		return "", plain(err)
	case len(content) > maxFileBytes:
		return "", fmt.Errorf("larger than %d KiB", maxFileBytes/1024)
	case !utf8.Valid(content) || bytes.IndexByte(content, 0) >= 0:
		return "", errors.New("not UTF-8 text")
	}
	switch strings.ToLower(filepath.Ext(path)) {
	case ".go":
		return docComments(content), nil
	case ".md", ".markdown":
		return prose(string(content)), nil
	}
	return string(content), nil
}

// docComments returns a Go file's comments outside of function bodies, each a paragraph. A file
// that does not parse gives those before the error.
func docComments(content []byte) string {
	file, _ := parser.ParseFile(token.NewFileSet(), "", content, parser.ParseComments|parser.SkipObjectResolution)
	if file == nil {
		return ""
	}
	var b strings.Builder
	for _, group := range file.Comments {
		if !slices.ContainsFunc(file.Decls, func(d ast.Decl) bool { return inBody(d, group) }) {
			b.WriteString(group.Text() + "\n")
		}
	}
	return b.String()
}

func inBody(d ast.Decl, comment *ast.CommentGroup) bool {
	f, ok := d.(*ast.FuncDecl)
	return ok && f.Body != nil && f.Body.Pos() < comment.Pos() && comment.End() <= f.Body.End()
}

// Marks of Markdown.
var (
	fences  = regexp.MustCompile("(?ms)^[ \t]*(```|~~~).*?^[ \t]*(```|~~~)[ \t]*$")
	links   = regexp.MustCompile(`!?\[([^\]]*)\]\([^)]*\)`)
	tags    = regexp.MustCompile(`<[^<>\n]*>`)
	leaders = regexp.MustCompile(`(?m)^[ \t]*(#{1,6}[ \t].*|\|.*|[-=*_]{3,}[ \t]*)$`) // headings, tables, rules
	bullets = regexp.MustCompile(`(?m)^[ \t]*([-*+>]|\d+[.)])[ \t]+`)
)

// prose takes the marks out of Markdown. An item of a list becomes a paragraph.
func prose(text string) string {
	text = strings.ReplaceAll(text, "\r\n", "\n")
	text = fences.ReplaceAllString(text, "")
	text = links.ReplaceAllString(text, "$1")
	text = tags.ReplaceAllString(text, "")
	text = leaders.ReplaceAllString(text, "")
	text = bullets.ReplaceAllString(text, "\n")
	return strings.NewReplacer("**", "", "__", "", "`", "").Replace(text)
}

// fit drops sentences, then terms, until the digest takes no more than budget bytes of metadata.
func (d *FileDigest) fit(budget int) {
	for len(d.Sentences)+len(d.Terms) > 0 {
		if stored, err := json.Marshal(d); err == nil && len(stored)+len(filePrefix)+maxIDBytes <= budget {
			return
		}
		if len(d.Sentences) > 0 {
			d.Sentences = d.Sentences[:len(d.Sentences)-1]
		} else {
			d.Terms = d.Terms[:len(d.Terms)-1]
		}
	}
}

// commonTerms merges the terms of all files: those of most files first, and among equals by their rank.
func commonTerms(files []FileDigest) []string {
	score := map[string]int{}
	for _, d := range files {
		for i, term := range d.Terms {
			score[term] += termsPerFile - i
		}
	}
	terms := make([]string, 0, len(score))
	for term := range score {
		terms = append(terms, term)
	}
	slices.SortFunc(terms, func(a, b string) int {
		return cmp.Or(cmp.Compare(score[b], score[a]), strings.Compare(a, b))
	})
	return terms[:min(len(terms), termsInReport)]
}
