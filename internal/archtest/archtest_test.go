package archtest

import (
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

var update = flag.Bool("update", false, "rewrite the golden list of the exported surface")

func modulePackages(t *testing.T) []pkg {
	t.Helper()
	all, err := packages(root)
	if err != nil || len(all) < 10 {
		t.Fatalf("found %d packages: %v", len(all), err)
	}
	return all
}

// allowed says which of our own packages each may import: the directions of docs/architecture.md. A name
// that ends in /... covers what is below.
var allowed = map[string][]string{
	".":                     {"internal/engine", "internal/payload", "store"},
	"internal/engine":       {"internal/payload", "store"},
	"internal/payload":      {},
	"store":                 {},
	"store/rules":           {"store"},
	"store/memstore":        {"store", "store/rules"},
	"store/sqlitestore":     {"store", "store/rules"},
	"store/pgstore":         {"store", "store/rules"},
	"store/storetest":       {"internal/bubble", "store", "store/memstore", "store/rules"},
	"perdurehttp":           {".", "internal/payload", "store"},
	"perduretest":           {".", "internal/bubble", "store", "store/memstore"},
	"internal/clienttest":   {".", "internal/bubble", "internal/payload", "store", "store/memstore", "store/sqlitestore"},
	"internal/crashtest":    {".", "perdurehttp", "store", "store/sqlitestore"},
	"internal/bench":        {".", "internal/stores", "perdurehttp", "store", "store/pgstore", "store/sqlitestore"},
	"internal/move":         {"store"},
	"internal/mutants":      {},
	"internal/chaos":        {"."},
	"internal/chaos/worker": {".", "internal/chaos", "perdurehttp", "store/pgstore"},
	"internal/stores":       {"store", "store/pgstore", "store/sqlitestore"},
	"internal/bubble":       {},
	"internal/need":         {},
	"internal/pgtest":       {"internal/need"},
	"internal/archtest":     {},
}

func TestDependenciesPointDownwards(t *testing.T) {
	for _, p := range modulePackages(t) {
		may, ruled := allowed[p.path]
		if strings.HasPrefix(p.path, "cmd/") || strings.HasPrefix(p.path, "examples") || strings.HasPrefix(p.path, "internal/") && !ruled {
			continue
		}
		if !ruled {
			t.Errorf("package %s has no rule: add it to allowed", p.path)
		}
		for _, imported := range p.imports {
			if path, ok := own(imported); ok && !slices.Contains(may, path) {
				t.Errorf("%s must not import %s", p.path, path)
			}
		}
	}
}

func TestTheContractNeedsTheStandardLibraryOnly(t *testing.T) {
	for _, p := range modulePackages(t) {
		if p.path != "store" && p.path != "store/rules" && p.path != "store/memstore" {
			continue
		}
		for _, imported := range p.imports {
			if _, ours := own(imported); !ours && !standard(imported) {
				t.Errorf("%s must not import %s", p.path, imported)
			}
		}
	}
}

func TestTheEngineAndTheRootKnowNoTechnology(t *testing.T) {
	for _, p := range modulePackages(t) {
		if p.path != "." && p.path != "internal/engine" {
			continue
		}
		for _, imported := range p.imports {
			if imported == "net/http" || strings.HasPrefix(imported, "database/sql") || strings.Contains(imported, "sqlite") || strings.Contains(imported, "pgx") {
				t.Errorf("%s must not import %s", p.path, imported)
			}
		}
	}
}

func TestTheExportedSurfaceIsTheGoldenOne(t *testing.T) {
	for _, path := range []string{".", "store", "store/rules", "store/pgstore", "perdurehttp", "perduretest"} {
		lines, err := surface(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		name := strings.ReplaceAll(path, "/", "-")
		if path == "." {
			name = "perdure"
		}
		golden := filepath.Join("testdata", "api-"+name+".txt")
		got := strings.Join(lines, "\n") + "\n"
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("the exported surface of %s has changed; if that is meant: go test ./internal/archtest -update\n%s",
				path, difference(string(want), got))
		}
	}
}

// difference lists the lines that are only in one of the texts.
func difference(want, got string) string {
	var b strings.Builder
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for _, l := range w {
		if !slices.Contains(g, l) {
			b.WriteString("- " + l + "\n")
		}
	}
	for _, l := range g {
		if !slices.Contains(w, l) {
			b.WriteString("+ " + l + "\n")
		}
	}
	return b.String()
}

// files calls f for every Go file of the module.
func files(t *testing.T, f func(name string, file *ast.File, fset *token.FileSet)) {
	t.Helper()
	for _, p := range modulePackages(t) {
		names, err := filepath.Glob(filepath.Join(p.dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			fset := token.NewFileSet()
			file, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			f(name, file, fset)
		}
	}
}

func TestNoTestSleepsOrSkips(t *testing.T) {
	files(t, func(name string, file *ast.File, fset *token.FileSet) {
		if !strings.HasSuffix(name, "_test.go") {
			return
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, _ := call.X.(*ast.Ident)
			if x != nil && x.Name == "synctest" && call.Sel.Name == "Test" && !strings.Contains(name, "/bubble/") {
				t.Errorf("%s: synctest.Test: use bubble.Test, which the race detector survives", fset.Position(call.Pos()))
			}
			if x != nil && x.Name == "time" && call.Sel.Name == "Sleep" || strings.HasPrefix(call.Sel.Name, "Skip") && x != nil && x.Name == "t" {
				t.Errorf("%s: %s.%s", fset.Position(call.Pos()), x.Name, call.Sel.Name)
			}
			return true
		})
	})
}

func TestNoInitNoPanicNoLongFunction(t *testing.T) {
	const longest = 80
	files(t, func(name string, file *ast.File, fset *token.FileSet) {
		if strings.HasSuffix(name, "_test.go") {
			return
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			if f.Name.Name == "init" && f.Recv == nil {
				t.Errorf("%s: init", fset.Position(f.Pos()))
			}
			if n := fset.Position(f.End()).Line - fset.Position(f.Pos()).Line; n > longest {
				t.Errorf("%s: %s has %d lines, more than %d", fset.Position(f.Pos()), f.Name.Name, n, longest)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if call, ok := n.(*ast.CallExpr); ok {
					if x, ok := call.Fun.(*ast.Ident); ok && x.Name == "panic" && !isAbort(call) {
						t.Errorf("%s: panic", fset.Position(call.Pos()))
					}
				}
				return true
			})
		}
	})
}

// isAbort reports whether a panic is of http.ErrAbortHandler, which is how net/http is told to cut off a connection.
func isAbort(call *ast.CallExpr) bool {
	arg, ok := call.Args[0].(*ast.SelectorExpr)
	return ok && arg.Sel.Name == "ErrAbortHandler"
}

// goTool runs a command of the go tool in the module's root and fails the test if it complains.
func goTool(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestTheTreeIsFormattedVettedAndTidy(t *testing.T) {
	if out := goTool(t, "gofmt", "-l", "."); out != "" {
		t.Errorf("gofmt would change:\n%s", out)
	}
	goTool(t, "go", "vet", "./...")
	goTool(t, "go", "mod", "tidy", "-diff")
}

func TestItBuildsWithoutCgo(t *testing.T) {
	t.Setenv("CGO_ENABLED", "0")
	goTool(t, "go", "build", "./...")
}

func TestItBuildsForOtherSystems(t *testing.T) {
	t.Setenv("CGO_ENABLED", "0")
	for _, system := range []string{"darwin", "windows"} {
		t.Setenv("GOOS", system)
		goTool(t, "go", "build", "./...")
	}
}
