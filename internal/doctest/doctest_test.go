package doctest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/perdurehttp"
	"github.com/perdure/perdure/store/memstore"
)

const root = "../.."

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// documents are the Markdown files for readers; what a program writes is not among them.
func documents(t *testing.T) []string {
	t.Helper()
	names := []string{"README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"}
	err := filepath.WalkDir(filepath.Join(root, "docs"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".md") && d.Name() != "proof.md" {
			path, err = filepath.Rel(root, path)
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func run(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// userModule makes a module that uses this one, as a user's would.
func userModule(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	abs, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	const module = "module github.com/perdure/perdure\n"
	mod := read(t, "go.mod")
	if !strings.Contains(mod, module) {
		t.Fatalf("go.mod does not begin as expected:\n%s", mod)
	}
	mod = strings.Replace(mod, module, "module example.com/documents\n", 1) +
		fmt.Sprintf("\nrequire github.com/perdure/perdure v0.0.0\n\nreplace github.com/perdure/perdure => %s\n", abs)
	write(t, filepath.Join(dir, "go.mod"), mod)
	write(t, filepath.Join(dir, "go.sum"), read(t, "go.sum"))
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// packageOf writes the Go blocks of a document as packages below dir.
func packageOf(dir, doc, text string, write func(path, text string)) error {
	name := regexp.MustCompile(`[^a-z]`).ReplaceAllString(strings.ToLower(strings.TrimSuffix(doc, ".md")), "")
	var units []unit
	for i, b := range blocks(doc, text) {
		switch {
		case b.lang != "go":
		case b.isProgram():
			write(filepath.Join(dir, fmt.Sprintf("%s%d", name, i), "main.go"), b.text)
		default:
			u, err := toUnit(b, i)
			if err != nil {
				return err
			}
			units = append(units, u)
		}
	}
	if len(units) > 0 {
		write(filepath.Join(dir, name, name+"_test.go"), goFile(name, units))
	}
	return nil
}

func TestGoBlocksCompileAndTheirTestsPass(t *testing.T) {
	dir := userModule(t)
	for _, doc := range documents(t) {
		if err := packageOf(dir, doc, read(t, doc), func(path, text string) { write(t, path, text) }); err != nil {
			t.Error(err)
		}
	}
	for _, args := range [][]string{{"go", "vet", "./..."}, {"go", "test", "./..."}} {
		if out, err := run(t, dir, args...); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

func TestABlockThatDoesNotCompileIsFound(t *testing.T) {
	for what, text := range map[string]string{
		"declarations": "```go\nfunc f() int { return perdure.NoSuchThing }\n```\n",
		"statements":   "```go\nh, err := client.NoSuchCall(ctx)\n```\n",
		"a program":    "```go\npackage main\n\nfunc main() { undefined() }\n```\n",
		"no Go":        "```go\nthis is no Go\n```\n",
	} {
		dir := userModule(t)
		err := packageOf(dir, "x.md", text, func(path, text string) { write(t, path, text) })
		var out string
		if err == nil {
			out, err = run(t, dir, "go", "vet", "./...")
		}
		if err == nil {
			t.Errorf("%s: got no error, want one", what)
		}
		if what == "statements" && !strings.Contains(out, "x.md:2") {
			t.Errorf("the message does not name the place in the document:\n%s", out)
		}
	}
}

// program returns the text of the order example without the comment that heads it.
func program(t *testing.T) string {
	t.Helper()
	text := read(t, "examples/order/main.go")
	return text[strings.Index(text, "package main\n"):]
}

func TestTheProgramOfTheReadmeIsTheExample(t *testing.T) {
	for _, b := range blocks("README.md", read(t, "README.md")) {
		if b.isProgram() {
			if b.text != program(t) {
				t.Errorf("README.md:%d is not examples/order/main.go", b.line)
			}
			return
		}
	}
	t.Error("README.md has no program")
}

func TestTheProgramOfThePackageDocumentationIsTheExample(t *testing.T) {
	var comment strings.Builder
	for _, line := range strings.SplitAfter(read(t, "doc.go"), "\n") {
		if rest, ok := strings.CutPrefix(line, "//"); ok {
			comment.WriteString(strings.TrimPrefix(rest, "\t"))
		}
	}
	if !strings.Contains(comment.String(), program(t)) {
		t.Error("doc.go does not have the text of examples/order/main.go")
	}
}

func TestCommandsAndFlagsExist(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "perdure")
	if out, err := run(t, root, "go", "build", "-o", binary, "./cmd/perdure"); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	help := map[string]string{}
	checked := 0
	for _, doc := range documents(t) {
		for _, c := range commands(blocks(doc, read(t, doc))) {
			name := c.name()
			if _, known := help[name]; !known {
				args := slices.DeleteFunc([]string{binary, name, "--help"}, func(s string) bool { return s == "" })
				out, err := run(t, root, args...)
				if err != nil || name != "" && !strings.Contains(out, "perdure "+name) {
					t.Errorf("%s:%d: perdure %s --help: %v", c.doc, c.line, name, err)
				}
				help[name] = out
			}
			checked++
			for _, flag := range c.flags() {
				if !regexp.MustCompile(`(?m)^.*` + regexp.QuoteMeta(flag) + `\b`).MatchString(usage(help[name])) {
					t.Errorf("%s:%d: perdure %s has no flag %s", c.doc, c.line, name, flag)
				}
			}
		}
	}
	if checked < 20 {
		t.Errorf("found %d commands in all documents", checked)
	}
}

// usage is the part of a help text that lists flags.
func usage(help string) string {
	if i := strings.Index(help, "\nFlags:"); i >= 0 {
		return help[i:]
	}
	return ""
}

func TestMakeTargetsAndPackagesExist(t *testing.T) {
	makefile := read(t, "Makefile")
	for _, doc := range documents(t) {
		text := read(t, doc)
		for _, m := range regexp.MustCompile("`make ([a-z]+)|(?m)^make ([a-z]+)").FindAllStringSubmatch(text, -1) {
			if target := m[1] + m[2]; !strings.Contains(makefile, "\n"+target+":") {
				t.Errorf("%s: there is no target %s", doc, target)
			}
		}
		for _, m := range regexp.MustCompile(`go (?:run|test|build) (?:-\S+ )*\./([a-z/]+)`).FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
				t.Errorf("%s: %v", doc, err)
			}
		}
	}
}

func TestLinksLeadSomewhere(t *testing.T) {
	for _, doc := range documents(t) {
		for _, target := range links(read(t, doc)) {
			file, fragment, _ := strings.Cut(target, "#")
			if strings.Contains(target, "://") {
				continue
			}
			path := doc
			if file != "" {
				path = filepath.Join(filepath.Dir(doc), file)
			}
			if _, err := os.Stat(filepath.Join(root, path)); err != nil {
				t.Errorf("%s: link to %s: %v", doc, target, err)
				continue
			}
			if fragment != "" && !slices.Contains(anchors(read(t, path)), fragment) {
				t.Errorf("%s: link to %s: there is no such heading", doc, target)
			}
		}
	}
}

func anchors(text string) []string {
	var all []string
	for _, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, "#") {
			all = append(all, anchor(line))
		}
	}
	return all
}

// api returns what the server says of itself.
func api(t *testing.T, path string) []byte {
	t.Helper()
	eng, err := perdure.New(memstore.New(), nil)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	perdurehttp.NewHandler(eng, nil).ServeHTTP(w, httptest.NewRequest("GET", "http://127.0.0.1"+path, nil))
	return w.Body.Bytes()
}

func TestEveryRouteIsDocumented(t *testing.T) {
	var doc struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal(api(t, "/v1/openapi.json"), &doc); err != nil {
		t.Fatal(err)
	}
	text := read(t, "docs/http.md")
	if len(doc.Paths) < 10 {
		t.Fatalf("the server describes %d paths", len(doc.Paths))
	}
	for path, methods := range doc.Paths {
		for method := range methods {
			if route := strings.ToUpper(method) + " " + path; method != "parameters" && !strings.Contains(text, "`"+route+"`") {
				t.Errorf("docs/http.md does not have `%s`", route)
			}
		}
	}
}

func TestEveryProblemIsDocumented(t *testing.T) {
	text := read(t, "docs/http.md")
	table := regexp.MustCompile(`\{Code\w+, http\.Status`).FindAllString(read(t, "perdurehttp/problem.go"), -1)
	codes := regexp.MustCompile(`(?m)^\tCode(\w+)\s+Code = "(\w+)"`).FindAllStringSubmatch(read(t, "perdurehttp/problem.go"), -1)
	if len(codes) < 10 || len(table) != len(codes) {
		t.Fatalf("found %d codes and %d rows of their table", len(codes), len(table))
	}
	for _, m := range codes {
		if !strings.Contains(text, "| `"+m[2]+"` |") {
			t.Errorf("docs/http.md does not have the code %s", m[2])
		}
	}
}

func TestEveryFigureIsDocumented(t *testing.T) {
	text := read(t, "docs/operating.md")
	for line := range bytes.Lines(api(t, "/metrics")) {
		if name, ok := bytes.CutPrefix(line, []byte("# TYPE ")); ok {
			name, _, _ := bytes.Cut(name, []byte(" "))
			if !strings.Contains(text, "`"+string(name)) {
				t.Errorf("docs/operating.md does not have %s", name)
			}
		}
	}
}
