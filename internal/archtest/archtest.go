// Package archtest keeps the project's dependency directions, its public surface, and the style rules
// that a program can check.
package archtest

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/printer"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

const module = "github.com/perdure/perdure"

// pkg is one package of the module: its import path below the module, and what its non-test files import.
type pkg struct {
	path    string // "." is the root
	dir     string
	imports []string
}

// packages finds all packages below root.
func packages(root string) ([]pkg, error) {
	var all []pkg
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if name := d.Name(); path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "docs") {
			return filepath.SkipDir
		}
		p, err := build.ImportDir(path, 0)
		if _, none := err.(*build.NoGoError); none {
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		all = append(all, pkg{path: filepath.ToSlash(rel), dir: path, imports: p.Imports})
		return err
	})
	return all, err
}

// own returns the path below the module of one of our packages; ok is false for others.
func own(imported string) (path string, ok bool) {
	if imported == module {
		return ".", true
	}
	return strings.CutPrefix(imported, module+"/")
}

// standard reports whether a package is of the standard library.
func standard(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return !strings.Contains(first, ".")
}

// surface lists the exported declarations of a package, one a line, sorted.
func surface(dir string) ([]string, error) {
	fset := token.NewFileSet()
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		for _, decl := range file.Decls {
			lines = append(lines, exported(fset, decl)...)
		}
	}
	slices.Sort(lines)
	return lines, nil
}

func exported(fset *token.FileSet, decl ast.Decl) []string {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if !d.Name.IsExported() || d.Recv != nil && !exportedReceiver(d.Recv) {
			return nil
		}
		d.Body, d.Doc = nil, nil
		return []string{line(fset, d)}
	case *ast.GenDecl:
		var lines []string
		for _, spec := range d.Specs {
			lines = append(lines, exportedSpec(fset, d.Tok, spec)...)
		}
		return lines
	}
	return nil
}

func exportedReceiver(recv *ast.FieldList) bool {
	t := recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return false
		}
	}
}

func exportedSpec(fset *token.FileSet, tok token.Token, spec ast.Spec) []string {
	switch s := spec.(type) {
	case *ast.TypeSpec:
		if !s.Name.IsExported() {
			return nil
		}
		return typeLines(fset, s)
	case *ast.ValueSpec:
		var lines []string
		for _, name := range s.Names {
			if name.IsExported() {
				lines = append(lines, tok.String()+" "+name.Name)
			}
		}
		return lines
	}
	return nil
}

// typeLines lists a type, and its exported fields or methods as lines of their own.
func typeLines(fset *token.FileSet, s *ast.TypeSpec) []string {
	var fields *ast.FieldList
	kind := ""
	switch t := s.Type.(type) {
	case *ast.StructType:
		fields, kind = t.Fields, "struct"
	case *ast.InterfaceType:
		fields, kind = t.Methods, "interface"
	default:
		s.Doc, s.Comment = nil, nil
		return []string{"type " + line(fset, s)}
	}
	lines := []string{"type " + s.Name.Name + " " + kind}
	for _, f := range fields.List {
		for _, name := range f.Names {
			if name.IsExported() {
				lines = append(lines, fmt.Sprintf("type %s %s, %s %s", s.Name.Name, kind, name.Name, line(fset, f.Type)))
			}
		}
		if len(f.Names) == 0 {
			lines = append(lines, fmt.Sprintf("type %s %s, %s", s.Name.Name, kind, line(fset, f.Type)))
		}
	}
	return lines
}

func line(fset *token.FileSet, node any) string {
	var b bytes.Buffer
	if err := printer.Fprint(&b, fset, node); err != nil {
		return err.Error()
	}
	return strings.Join(strings.Fields(b.String()), " ")
}
