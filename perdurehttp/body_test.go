package perdurehttp_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/perdure/perdure/perdurehttp"
)

func TestABodyIsRefusedWithItsFieldNamed(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a *api) {
		for body, want := range map[string]string{
			``:                             "empty",
			`  `:                           "empty",
			`null`:                         "null",
			`[]`:                           "an array",
			`"x"`:                          "a string",
			`1`:                            "a number",
			`{`:                            "not JSON",
			`{"func"`:                      "not JSON",
			`not json`:                     "not JSON",
			`{"func":"echo",}`:             "not JSON",
			`{"func":"echo"} x`:            "goes on",
			`{"func":"echo","input":{}}{}`: "goes on",
			`{"func":"echo","input":NaN}`:  `"input"`,
			`{"func":"echo","input":{"text":Infinity}}`: `"input"`,
			`{"func":"echo"}`:                                                "input is missing",
			`{"input":{}}`:                                                   "func",
			`{"func":"echo","input":{},"more":1}`:                            `"more"`,
			`{"Func":"echo","input":{}}`:                                     `"Func"`,
			`{"func":"echo","func":"echo","input":{}}`:                       `"func"`,
			`{"func":1,"input":{}}`:                                          `"func"`,
			`{"func":null,"input":{}}`:                                       `"func"`,
			`{"func":"echo","input":{},"task_id":7}`:                         `"task_id"`,
			`{"func":"echo","input":{},"task_id":"a b"}`:                     "task_id",
			`{"func":"echo","input":{},"input_id":".."}`:                     "input_id",
			`{"func":"echo","input":{},"tags":[]}`:                           `"tags"`,
			`{"func":"echo","input":{},"tags":{"a":null}}`:                   `"a" is null`,
			`{"func":"echo","input":{},"tags":{"\ud800":"1"}}`:               `"tags" has half`,
			`{"func":"echo","input":{},"title":"a\ud800b"}`:                  `"title" has half`,
			`{"func":"echo","input":{},"description":"\udc00\ud800"}`:        `"description" has half`,
			`{"func":"echo","input":{},"session":"\ud83d\ude00\udbff"}`:      `"session" has half`,
			`{"func":"echo","input":{},"tags":{"a":1}}`:                      `"tags`,
			`{"func":"echo","input":{},"tags":{"perdure.x":"1"}}`:            "perdure.x",
			`{"func":"echo","input":{},"retry":"3"}`:                         `"retry"`,
			`{"func":"echo","input":{},"retry":{"tries":3}}`:                 "tries",
			`{"func":"echo","input":{},"retry":{"initial":"long"}}`:          "initial",
			`{"func":"echo","input":{},"retry":{"attempts":-1}}`:             "Attempts",
			`{"func":"echo","input":{},"if_exists":"x"}`:                     "if_exists",
			`{"func":"echo","input":{},"deliver":"x"}`:                       "deliver",
			`{"func":"echo","input":{},"retry":{"attempts":2,"attempts":5}}`: "attempts",
			`{"func":"echo","input":{},"retry":{"attempts":2,"ATTEMPTS":5}}`: "ATTEMPTS",
			`{"func":"echo","input":{},"tags":{"a":"1","\u0061":"2"}}`:       `"a" twice`,
			`{"func":"echo","input":{"text":"x","TEXT":"y"}}`:                `"TEXT"`,
			`{"func":"echo","input":{"Text":"x"}}`:                           `"Text"`,
			`{"func":"echo","input":{"text":"x","text":"y"}}`:                `"text" twice`,
			`{"func":"echo","input":{"text":1}}`:                             `"text"`,
			`{"func":"echo","input":{"other":1}}`:                            `"other"`,
			"{\"func\":\"echo\",\"input\":{},\"title\":\"\xff\"}":            "UTF-8",
			`{"func":"echo","input":` + strings.Repeat("[", 11_000):          `"input"`,
			`{"` + strings.Repeat("x", 1000) + `":1,"func":"echo"}`:          "unknown",
		} {
			p := a.wantProblem(t, perdurehttp.CodeInvalid, http.MethodPost, "/v1/tasks", body, "Content-Type: application/json")
			if !strings.Contains(p.Detail, want) || len(p.Detail) > 300 {
				t.Errorf("%.60s: got %q, want it to name %s", body, p.Detail, want)
			}
		}
	})
}

func TestStopBodiesAreStrict(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a *api) {
		a.post(t, http.StatusCreated, `{"func":"hold","input":{},"task_id":"t1"}`)
		for _, tt := range []struct{ route, body, want string }{
			{"terminate", `{"turn":1}`, `"turn"`}, {"terminate", ``, "empty"}, {"terminate", `{"reason":1}`, `"reason"`},
			{"cancel", ``, "empty"}, {"cancel", `{"turn":"1"}`, `"turn"`}, {"cancel", `{"turn":1.5}`, `"turn"`}, {"cancel", `{"turn":-1}`, `"turn"`},
			{"cancel", `{"turn":1e400}`, `"turn"`}, {"cancel", `{"turn":1,"input_id":"i1"}`, `"input_id"`}, {"cancel", `{"incarnation":-1}`, `"incarnation"`},
			{"resume", `{"reason":"x"}`, `"reason"`}, {"resume", `[]`, "an array"},
		} {
			p := a.wantProblem(t, perdurehttp.CodeInvalid, http.MethodPost, "/v1/tasks/t1/"+tt.route, tt.body, "Content-Type: application/json")
			if !strings.Contains(p.Detail, tt.want) || p.TaskID != "t1" {
				t.Errorf("%s %s: got %+v, want %s named, of t1", tt.route, tt.body, p, tt.want)
			}
		}
		a.wantProblem(t, perdurehttp.CodeConflict, http.MethodPost, "/v1/tasks/t1/resume", "{}")
	})
}

func TestABodyOfAnotherTypeIsRefused(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a *api) {
		body := `{"func":"echo","input":{}}`
		for _, media := range []string{"text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1", ";", ""} {
			p := a.wantProblem(t, perdurehttp.CodeMediaType, http.MethodPost, "/v1/tasks", body, "Content-Type: "+media)
			if p.Status != http.StatusUnsupportedMediaType {
				t.Errorf("%q: got %d, want 415", media, p.Status)
			}
		}
		a.want(t, http.StatusCreated, http.MethodPost, "/v1/tasks", body, "Content-Type: Application/JSON; charset=UTF-8")
	})
}

func TestABodyOverTheLimitIsTooLarge(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a *api) {
		for _, mib := range []int{10, 20} {
			body := fmt.Sprintf(`{"func":"echo","task_id":"t1","input":{"text":"%s"}}`, strings.Repeat("x", mib<<20))
			p := a.wantProblem(t, perdurehttp.CodeTooLarge, http.MethodPost, "/v1/tasks", body)
			if p.Status != http.StatusRequestEntityTooLarge || !strings.Contains(p.Detail, "input") || len(p.Detail) > 200 {
				t.Errorf("%d MiB: got %+v, want 413 that names input", mib, p)
			}
		}
		body := fmt.Sprintf(`{"func":"echo","input":{"text":"%s"}}`, strings.Repeat("x", 10<<20-11))
		a.post(t, http.StatusCreated, body) // exactly at the limit
	})
}

func TestQueryParametersAreCheckedByName(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a *api) {
		a.post(t, http.StatusCreated, `{"func":"hold","input":{},"task_id":"t1"}`)
		for target, want := range map[string]string{
			"/v1/tasks?limit=0": `"limit"`, "/v1/tasks?limit=501": `"limit"`, "/v1/tasks?limit=x": `"limit"`, "/v1/tasks?limit=": `"limit"`,
			"/v1/tasks?limit=1&limit=2": `"limit"`, "/v1/tasks?limit=99999999999999999999": `"limit"`,
			"/v1/tasks?status=done": `"status"`, "/v1/tasks?status=queued": `"status"`, "/v1/tasks?tag=x": `"tag"`, "/v1/tasks?tag=:x": `"tag"`,
			"/v1/tasks?tag=a:1&tag=a:2": `"tag"`, "/v1/tasks?cursor=x": `"cursor"`, "/v1/tasks?cursor=MTotNQ": `"cursor"`,
			"/v1/tasks?page=2": `"page"`, "/v1/tasks?Limit=2": `"Limit"`, "/v1/tasks?a=%zz": "query", "/v1/tasks?a;b": "query", "/v1/tasks?func=%ff": `"func"`,
			"/v1/tasks/t1?x=1": `"x"`, "/v1/tasks/t1/result?turn=0": `"turn"`, "/v1/tasks/t1/result?turn=-1": `"turn"`,
			"/v1/tasks/t1/result?turn=1&input_id=a": `"turn"`, "/v1/tasks/t1/turns?after=-1": `"after"`, "/v1/funcs?x=1": `"x"`, "/healthz?x": `"x"`,
		} {
			if p := a.wantProblem(t, perdurehttp.CodeInvalid, http.MethodGet, target, ""); !strings.Contains(p.Detail, want) {
				t.Errorf("GET %s: got %q, want %s named", target, p.Detail, want)
			}
		}
		for _, prefer := range []string{"wait=x", "wait", "wait=-1", "wait=1.5", "wait=99999999999999999999"} {
			if p := a.wantProblem(t, perdurehttp.CodeInvalid, http.MethodGet, "/v1/tasks/t1/result", "", "Prefer: "+prefer); !strings.Contains(p.Detail, "Prefer") {
				t.Errorf("Prefer: %s: got %q, want the header named", prefer, p.Detail)
			}
		}
		a.wantProblem(t, perdurehttp.CodeInvalid, http.MethodPost, "/v1/tasks?wait=1", `{"func":"echo","input":{}}`)
	})
}
