package perdurehttp_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
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
		t.Errorf("%s differs, -want +got (go test -update writes it):\n%s", path, diff)
	}
}

var (
	uuidLike = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	timeLike = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`)
)

// normal returns JSON, indented, with times, UUIDs and what depends on the machine replaced.
func normal(t *testing.T, data []byte) []byte {
	t.Helper()
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("%q: %v", data, err)
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(replace("", v)); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func replace(key string, v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = replace(k, v[k])
		}
	case []any:
		for i := range v {
			v[i] = replace("", v[i])
		}
	case string:
		if slices.Contains([]string{"host", "program", "perdure", "version"}, key) {
			return "<" + key + ">"
		}
		return timeLike.ReplaceAllString(uuidLike.ReplaceAllString(v, "<uuid>"), "<time>")
	case float64:
		if key == "pid" {
			return 0
		}
	}
	return v
}

// TestWireShapes holds the answers of the API to golden files.
func TestWireShapes(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a *api) {
		start := `{"func":"chat","input":{"text":"<one>"},"task_id":"t1","input_id":"i1","session":"s1","title":"A title","description":"More","tags":{"team":"red"}}`
		shapes := map[string][]byte{"start-created": a.post(t, http.StatusCreated, start).Body.Bytes()}
		get := func(name, target string) { shapes[name] = a.do(t, http.MethodGet, target, "").Body.Bytes() }
		post := func(name, target, body string, headers ...header) {
			shapes[name] = a.do(t, http.MethodPost, target, body, headers...).Body.Bytes()
		}
		synctest.Wait()
		get("result-open", "/v1/tasks/t1/result")
		post("start-queued", "/v1/tasks", `{"func":"chat","input":{"text":"two"},"task_id":"t1","input_id":"i2"}`)
		synctest.Wait() // the first turn ends cancelled, for the second input
		post("start-known", "/v1/tasks", start)
		get("task-running", "/v1/tasks/t1")
		get("turn-ended", "/v1/tasks/t1/turns/1")
		get("workers", "/v1/workers")
		get("funcs", "/v1/funcs")
		a.open <- struct{}{}
		synctest.Wait()
		get("turns", "/v1/tasks/t1/turns")
		post("start-outcome", "/v1/tasks", `{"func":"echo","input":{"text":"x"},"task_id":"t2","input_id":"i1"}`, "Prefer: wait=1")
		get("task-ended", "/v1/tasks/t2")
		post("result-failed", "/v1/tasks", `{"func":"fail","input":{},"task_id":"t3","input_id":"i1"}`, "Prefer: wait=1")
		get("tasks", "/v1/tasks?limit=2")
		post("cancel", "/v1/tasks/t1/cancel", `{"reason":"enough"}`)
		get("problem-not-found", "/v1/tasks/absent")
		get("problem-invalid", "/v1/tasks?limit=x")
		get("problem-no-route", "/v1/nothing")
		post("problem-conflict", "/v1/tasks", `{"func":"fail","input":{},"task_id":"t3","input_id":"i2"}`)
		post("problem-func", "/v1/tasks", `{"func":"echo","input":{},"task_id":"t3","input_id":"i2"}`)
		post("problem-mismatch", "/v1/tasks", `{"func":"fail","input":{"text":"other"},"task_id":"t3","input_id":"i1"}`)
		post("problem-precondition", "/v1/tasks", `{"func":"fail","input":{},"task_id":"t3","input_id":"i2","if_last_input_id":"i0"}`)
		post("problem-parked", "/v1/tasks", `{"func":"loop","input":{},"task_id":"t4","input_id":"i1"}`, "Prefer: wait=60")
		for _, name := range slices.Sorted(maps.Keys(shapes)) {
			golden(t, fmt.Sprintf("wire/%s.json", name), normal(t, bytes.TrimSpace(shapes[name])))
		}
	})
}
