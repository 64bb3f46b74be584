package perdurehttp

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/store/memstore"
)

// served returns the document as the handler serves it.
func served(t *testing.T) (*Handler, *openAPI, []byte) {
	t.Helper()
	eng, err := perdure.New(memstore.New(), nil)
	if err != nil {
		t.Fatal(err)
	}
	h := NewHandler(eng, nil)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://localhost/v1/openapi.json", nil))
	var doc openAPI
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil || w.Code != http.StatusOK {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	return h, &doc, w.Body.Bytes()
}

func TestTheDocumentIsTheGoldenOne(t *testing.T) {
	_, doc, got := served(t)
	got = append(bytes.Replace(got, []byte(`"version": "`+doc.Info.Version+`"`), []byte(`"version": "<version>"`), 1), '\n')
	path := filepath.Join("testdata", "openapi.json")
	if f := flag.Lookup("update"); f != nil && f.Value.String() == "true" {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (go test -update writes it)", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("-want +got (go test -update writes it):\n%s", diff)
	}
}

// TestTheDocumentIsWhatTheMuxServes asks the mux, for each path of the document and each method, whether
// it is served, and holds that equal to the document; a path that is not in it is not served.
func TestTheDocumentIsWhatTheMuxServes(t *testing.T) {
	h, doc, _ := served(t)
	placeholder := regexp.MustCompile(`\{\w+\}`)
	for path, operations := range doc.Paths {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
			_, pattern := h.mux.Handler(httptest.NewRequest(method, placeholder.ReplaceAllString(path, "x"), nil))
			_, documented := operations[strings.ToLower(method)]
			if got := pattern == method+" "+path; got != documented {
				t.Errorf("%s %s: served %v (by %q), documented %v", method, path, got, pattern, documented)
			}
		}
	}
	for _, rt := range routes() {
		if _, ok := doc.Paths[rt.path][strings.ToLower(rt.method)]; !ok {
			t.Errorf("%s %s is served and not documented", rt.method, rt.path)
		}
	}
}

func TestEveryReferenceOfTheDocumentLeadsSomewhere(t *testing.T) {
	_, doc, text := served(t)
	for _, ref := range regexp.MustCompile(`"\$ref": "#/components/schemas/(\w+)"`).FindAllSubmatch(text, -1) {
		if doc.Components.Schemas[string(ref[1])] == nil {
			t.Errorf("nothing is called %s", ref[1])
		}
	}
	for path, operations := range doc.Paths {
		for method, op := range operations {
			if op.Body != nil && op.Body.Content["application/json"].Schema == nil {
				t.Errorf("%s %s: its body has no schema", method, path)
			}
			for status, r := range op.Responses {
				for media, c := range r.Content {
					if c.Schema == nil {
						t.Errorf("%s %s: %s of %s has no schema", method, path, media, status)
					}
				}
			}
		}
	}
}

// TestTheGoldenAnswersMatchTheirSchemas validates what the API answers by what the document says.
func TestTheGoldenAnswersMatchTheirSchemas(t *testing.T) {
	_, doc, _ := served(t)
	for prefix, shape := range map[string]string{"start-outcome": "Outcome", "start-": "Handle", "result-open": "Handle", "result-failed": "Outcome",
		"task-": "Task", "tasks": "TaskPage", "turn-": "Turn", "turns": "TurnPage", "workers": "Workers", "funcs": "Funcs", "cancel": "TaskStatus", "problem-": "Problem"} {
		files, err := filepath.Glob(filepath.Join("testdata", "wire", prefix+"*.json"))
		if err != nil || len(files) == 0 {
			t.Errorf("no golden file begins with %s", prefix)
		}
		for _, file := range files {
			if prefix == "start-" && strings.Contains(file, "outcome") {
				continue
			}
			validate(t, doc, shape, file)
		}
	}
}

func validate(t *testing.T, doc *openAPI, shape, file string) {
	t.Helper()
	text, err := json.Marshal(map[string]any{"$ref": "#/$defs/" + shape, "$defs": doc.Components.Schemas})
	if err != nil {
		t.Fatal(err)
	}
	var root jsonschema.Schema
	if err := json.Unmarshal(bytes.ReplaceAll(text, []byte("#/components/schemas/"), []byte("#/$defs/")), &root); err != nil {
		t.Fatal(err)
	}
	schema, err := root.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(v); err != nil {
		t.Errorf("%s is no %s: %v", file, shape, err)
	}
}
