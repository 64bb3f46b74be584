// Package doctest keeps the documents true: their Go blocks compile, those that are tests run, the
// commands and flags that they name exist, and so do the files that they link to.
//
// The Go blocks of a document are read like this:
//
//   - A block that begins with "package main" is a program of its own.
//   - All others make up one package. A block of declarations is taken as it is; names are unique within a
//     document. A block of statements becomes the body of a function that has what [fragmentHead]
//     declares. Imports are added by package name, from [importable].
package doctest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strings"
)

// block is a fenced block of a document.
type block struct {
	doc  string
	line int // of its first line of text
	lang string
	text string
}

// blocks returns the fenced blocks of a document.
func blocks(doc, text string) []block {
	var all []block
	var open *block
	for i, line := range strings.Split(text, "\n") {
		lang, fence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case fence && open == nil:
			open = &block{doc: doc, line: i + 2, lang: lang}
		case fence:
			all = append(all, *open)
			open = nil
		case open != nil:
			open.text += line + "\n"
		}
	}
	return all
}

// importable are the packages that blocks may use without saying so.
var importable = importsByName(
	"context", "crypto/rand", "encoding/json", "errors", "fmt", "log", "log/slog", "net/http", "os", "os/signal",
	"strconv", "strings", "syscall", "testing", "time",
	"github.com/perdure/perdure", "github.com/perdure/perdure/perdurehttp", "github.com/perdure/perdure/perduretest",
	"github.com/perdure/perdure/store", "github.com/perdure/perdure/store/memstore",
	"github.com/perdure/perdure/store/sqlitestore", "github.com/perdure/perdure/store/storetest",
)

func importsByName(paths ...string) map[string]string {
	byName := map[string]string{}
	for _, p := range paths {
		byName[path.Base(p)] = p
	}
	return byName
}

// fragmentHead begins the function that statements become the body of.
const fragmentHead = `func fragment%d(ctx context.Context, eng *perdure.Engine, client perdure.Client) error {
	_, _, _ = ctx, eng, client
`

// isProgram reports whether a block is a program of its own.
func (b block) isProgram() bool { return strings.HasPrefix(b.text, "package main\n") }

// unit is a block as a piece of a Go file, without imports.
type unit struct {
	block
	code string
}

// toUnit makes a piece of a Go file of the nth block of a document.
func toUnit(b block, n int) (unit, error) {
	where := fmt.Sprintf("//line %s:%d\n", b.doc, b.line)
	if _, err := parser.ParseFile(token.NewFileSet(), "", "package p\n"+b.text, 0); err == nil {
		return unit{b, where + b.text}, nil
	}
	head := fmt.Sprintf(fragmentHead, n)
	file, err := parser.ParseFile(token.NewFileSet(), "", "package p\n"+head+b.text+"}", parser.SkipObjectResolution)
	if err != nil {
		return unit{}, fmt.Errorf("%s:%d: neither declarations nor statements: %w", b.doc, b.line, err)
	}
	body := file.Decls[0].(*ast.FuncDecl).Body.List[1:]
	return unit{b, head + where + b.text + tail(body) + "}\n"}, nil
}

// tail uses the variables that statements define, and returns.
func tail(body []ast.Stmt) string {
	if len(body) > 0 {
		if _, returns := body[len(body)-1].(*ast.ReturnStmt); returns {
			return ""
		}
	}
	var b strings.Builder
	for _, s := range body {
		if assign, ok := s.(*ast.AssignStmt); ok && assign.Tok == token.DEFINE {
			for _, left := range assign.Lhs {
				if name, ok := left.(*ast.Ident); ok && name.Name != "_" {
					fmt.Fprintf(&b, "\t_ = %s\n", name.Name)
				}
			}
		}
	}
	return b.String() + "\treturn nil\n"
}

var qualifier = regexp.MustCompile(`\b([a-z]+)\.[A-Z]`)

// goFile puts units together in one file of a package.
func goFile(name string, units []unit) string {
	var body strings.Builder
	for _, u := range units {
		body.WriteString(u.code)
	}
	var imports []string
	for _, m := range qualifier.FindAllStringSubmatch(body.String(), -1) {
		if p, ok := importable[m[1]]; ok {
			imports = append(imports, fmt.Sprintf("%q", p))
		}
	}
	slices.Sort(imports)
	return "package " + name + "\n\nimport (\n\t" + strings.Join(slices.Compact(imports), "\n\t") + "\n)\n\n" + body.String()
}

// command is a call of the perdure program in a document.
type command struct {
	block
	words []string
}

var (
	flagWord    = regexp.MustCompile(`^--?[a-z]`)
	commandName = regexp.MustCompile(`^[a-z]+$`)
)

// commands returns the calls of the perdure program in the shell blocks of a document.
func commands(all []block) []command {
	var found []command
	for _, b := range all {
		if b.lang != "sh" {
			continue
		}
		text := strings.ReplaceAll(b.text, "\\\n", " ")
		for _, part := range regexp.MustCompile(`\n|\||&&|;`).Split(unquoted(text), -1) {
			words := strings.Fields(strings.TrimPrefix(strings.TrimSpace(part), "$ "))
			at := slices.IndexFunc(words, func(w string) bool { return path.Base(w) == "perdure" })
			if at >= 0 && !slices.Contains(words[:at], "build") {
				found = append(found, command{b, words[at+1:]})
			}
		}
	}
	return found
}

// unquoted takes out of a shell text what stands in quotes or is a comment.
func unquoted(text string) string {
	text = regexp.MustCompile(`(?s)'[^']*'|"[^"]*"`).ReplaceAllString(text, "Q")
	return regexp.MustCompile(`(?m)(^|\s)#.*$`).ReplaceAllString(text, "")
}

// name returns the subcommand, empty if there is none.
func (c command) name() string {
	if len(c.words) > 0 && commandName.MatchString(c.words[0]) {
		return c.words[0]
	}
	return ""
}

// flags returns the flags that the call gives.
func (c command) flags() []string {
	var flags []string
	for _, w := range c.words {
		if flagWord.MatchString(w) {
			name, _, _ := strings.Cut(w, "=")
			flags = append(flags, name)
		}
	}
	return flags
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// links returns the targets of a document's links.
func links(text string) []string {
	var targets []string
	for _, m := range link.FindAllStringSubmatch(text, -1) {
		targets = append(targets, m[1])
	}
	return targets
}

// anchor returns the anchor that a heading has on GitHub.
func anchor(heading string) string {
	heading = strings.ToLower(strings.TrimSpace(strings.TrimLeft(heading, "# ")))
	heading = regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(heading, "")
	return strings.ReplaceAll(heading, " ", "-")
}
