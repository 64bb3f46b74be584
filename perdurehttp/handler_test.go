package perdurehttp_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/perdurehttp"
)

func TestAStartAnswersByWhatItDid(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a *api) {
		w := a.post(t, http.StatusCreated, `{"func":"chat","input":{"text":"x"},"task_id":"t1","input_id":"i1"}`)
		if got := w.Header().Get("Location"); got != "tasks/t1" {
			t.Errorf("Location: got %q, want tasks/t1", got)
		}
		a.post(t, http.StatusAccepted, `{"func":"chat","input":{"text":"y"},"task_id":"t1","input_id":"i2","deliver":"enqueue"}`) // queued
		a.post(t, http.StatusOK, `{"func":"chat","input":{"text":"x"},"task_id":"t1","input_id":"i1"}`)                           // known
		a.post(t, http.StatusOK, `{"func":"chat","input":{"text":"z"},"task_id":"t1","if_exists":"attach"}`)
		a.open <- struct{}{}
		a.open <- struct{}{}
		synctest.Wait()
		a.post(t, http.StatusAccepted, `{"func":"chat","input":{"text":"z"},"task_id":"t1"}`) // resumed
	})
}

func TestOf50ConcurrentPostsOneCreates(t *testing.T) {
	for ifExists, others := range map[string]int{"": http.StatusConflict, `,"if_exists":"attach"`: http.StatusOK} {
		inBubble(t, nil, func(t *testing.T, a *api) {
			var created, rest atomic.Int64
			var wg sync.WaitGroup
			for range 50 {
				wg.Go(func() {
					w := a.do(t, http.MethodPost, "/v1/tasks", `{"func":"hold","input":{"text":"x"},"task_id":"t1"`+ifExists+`}`)
					switch w.Code {
					case http.StatusCreated:
						created.Add(1)
					case others:
						rest.Add(1)
					}
				})
			}
			wg.Wait()
			synctest.Wait()
			if created.Load() != 1 || rest.Load() != 49 || a.entries.Load() != 1 {
				t.Errorf("got %d created, %d others, %d entries, want 1, 49 of status %d, 1", created.Load(), rest.Load(), a.entries.Load(), others)
			}
		})
	}
}

func TestARepeatedPostIsTheSameRun(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a *api) {
		body := `{"func":"echo","input":{"text":"x"},"task_id":"t1","input_id":"i1"}`
		first := a.post(t, http.StatusOK, body, "Prefer: wait=5")
		again := a.post(t, http.StatusOK, body, "Prefer: wait=5")
		if first.Body.String() != again.Body.String() || a.entries.Load() != 1 {
			t.Errorf("got %s and %s after %d entries, want the same outcome of one", first.Body, again.Body, a.entries.Load())
		}
		p := a.wantProblem(t, perdurehttp.CodeInputMismatch, http.MethodPost, "/v1/tasks", strings.Replace(body, `"x"`, `"other"`, 1))
		if p.TaskID != "t1" || strings.Contains(p.Detail, "other") {
			t.Errorf("got %+v, want t1 named, and not the input", p)
		}
	})
}

func TestPreferWaitsForTheOutcome(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a *api) {
		w := a.post(t, http.StatusOK, `{"func":"echo","input":{"text":"x"},"task_id":"t1"}`, "Prefer: respond-async, wait=10")
		if o := decode[perdure.Outcome](t, w); o.Status != perdure.Completed || string(o.Output) != `{"text":"x"}` {
			t.Errorf("got %+v, want the outcome", o)
		}
		if got := w.Header().Get("Content-Location"); got != "tasks/t1/result?turn=1" {
			t.Errorf("Content-Location: got %q, want the result's", got)
		}
		begin := time.Now()
		a.post(t, http.StatusCreated, `{"func":"hold","input":{"text":"x"},"task_id":"t2"}`, "Prefer: wait=10")
		w = a.want(t, http.StatusAccepted, http.MethodGet, "/v1/tasks/t2/result", "", "Prefer: wait=3600")
		if took := time.Since(begin); took != 70*time.Second {
			t.Errorf("waited %v in all, want 10 s and then no more than 60 s", took)
		}
		if h := decode[perdure.Accepted](t, w); h.Turn != 1 || h.Status != perdure.InProgress || h.Incarnation == 0 {
			t.Errorf("got %+v, want the handle of the open turn", h)
		}
		if got := w.Header().Get("Preference-Applied"); got != "wait=60" {
			t.Errorf("Preference-Applied: got %q, want wait=60", got)
		}
	})
}

func TestAResultIsAnsweredByStatus(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a *api) {
		a.post(t, http.StatusCreated, `{"func":"hold","input":{},"task_id":"t1","input_id":"i1"}`)
		a.want(t, http.StatusAccepted, http.MethodGet, "/v1/tasks/t1/result?turn=1", "")
		a.want(t, http.StatusAccepted, http.MethodPost, "/v1/tasks/t1/terminate", `{"reason":"enough"}`)
		w := a.want(t, http.StatusOK, http.MethodGet, "/v1/tasks/t1/result?input_id=i1", "")
		if o := decode[perdure.Outcome](t, w); o.Status != perdure.Terminated || o.Reason != "enough" {
			t.Errorf("got %+v, want terminated with the reason", o)
		}
		for _, fn := range []string{"fail", "echo"} {
			a.post(t, http.StatusOK, fmt.Sprintf(`{"func":%q,"input":{},"task_id":"x%s"}`, fn, fn), "Prefer: wait=1")
		}
		a.want(t, http.StatusOK, http.MethodGet, "/v1/tasks/xfail/result", "")
		a.post(t, http.StatusConflict, `{"func":"loop","input":{},"task_id":"t2"}`, "Prefer: wait=60")
		for _, prefer := range []string{"wait=0", "wait=60"} {
			p := a.wantProblem(t, perdurehttp.CodeParked, http.MethodGet, "/v1/tasks/t2/result", "", "Prefer: "+prefer)
			if p.CurrentStatus != perdure.Parked || p.Reason == "" || p.TaskID != "t2" {
				t.Errorf("got %+v, want t2, parked, with a reason", p)
			}
		}
		a.wantProblem(t, perdurehttp.CodeNotFound, http.MethodGet, "/v1/tasks/t1/result?turn=9", "")
	})
}

func TestProblemsCarryWhatTheyAreAbout(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a *api) {
		a.post(t, http.StatusCreated, `{"func":"hold","input":{},"task_id":"t1","input_id":"i1"}`)
		synctest.Wait()
		p := a.wantProblem(t, perdurehttp.CodeConflict, http.MethodPost, "/v1/tasks", `{"func":"echo","input":{},"task_id":"t1"}`)
		if p.CurrentFunc != "hold" || p.TaskID != "t1" {
			t.Errorf("got %+v, want current_func hold", p)
		}
		p = a.wantProblem(t, perdurehttp.CodeConflict, http.MethodPost, "/v1/tasks", `{"func":"hold","input":{},"task_id":"t1"}`)
		if p.CurrentStatus != perdure.InProgress {
			t.Errorf("got %+v, want current_status in_progress", p)
		}
		p = a.wantProblem(t, perdurehttp.CodePrecondition, http.MethodPost, "/v1/tasks", `{"func":"hold","input":{},"task_id":"t1","if_last_input_id":"i0"}`)
		if p.ActualLastInputID != "i1" || p.Status != http.StatusPreconditionFailed {
			t.Errorf("got %+v, want 412 with i1", p)
		}
		p = a.wantProblem(t, perdurehttp.CodeUnknownFunc, http.MethodPost, "/v1/tasks", `{"func":"what","input":{},"task_id":"t9"}`)
		if p.Status != http.StatusNotFound || p.TaskID != "t9" {
			t.Errorf("got %+v, want 404 about t9", p)
		}
		a.wantProblem(t, perdurehttp.CodeConflict, http.MethodPost, "/v1/tasks/t1/resume", "")
		a.wantProblem(t, perdurehttp.CodeDeleted, http.MethodGet, "/v1/tasks/t1/result?incarnation=99", "")
		a.wantProblem(t, perdurehttp.CodeNotFound, http.MethodGet, "/v1/tasks/absent", "")
	})
}

func TestWhatIsNoRouteIsAProblem(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a *api) {
		for _, path := range []string{"/", "/v1", "/v2/tasks", "/v1/tasks/", "/v1//tasks", "/v1/x/../tasks", "/v1/tasks/a/b", "/v1/tasks/a/turns/1/2"} {
			a.wantProblem(t, perdurehttp.CodeNoRoute, http.MethodGet, path, "")
		}
		for path, allow := range map[string]string{"/v1/tasks": "POST, GET, HEAD, OPTIONS", "/v1/tasks/t1": "GET, DELETE, HEAD, OPTIONS",
			"/v1/tasks/t1/cancel": "POST, OPTIONS", "/healthz": "GET, HEAD, OPTIONS"} {
			w := a.do(t, http.MethodPut, path, "")
			problem(t, w, perdurehttp.CodeMethod)
			if got := w.Header().Get("Allow"); got != allow {
				t.Errorf("PUT %s: Allow is %q, want %q", path, got, allow)
			}
			if w := a.want(t, http.StatusNoContent, http.MethodOptions, path, ""); w.Header().Get("Allow") != allow || w.Body.Len() > 0 {
				t.Errorf("OPTIONS %s: got %v %s", path, w.Header(), w.Body)
			}
		}
		for _, id := range []string{"%2E%2E", "a%2Fb", "a%20b", strings.Repeat("x", 300)} {
			p := a.wantProblem(t, perdurehttp.CodeNotFound, http.MethodGet, "/v1/tasks/"+id, "")
			if p.TaskID != "" {
				t.Errorf("got %+v, want no ID that is none", p)
			}
		}
	})
}

func TestDeleteHonoursIfMatch(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a *api) {
		create := func() string {
			a.post(t, http.StatusOK, `{"func":"echo","input":{},"task_id":"t1","input_id":"i1"}`, "Prefer: wait=1")
			return a.want(t, http.StatusOK, http.MethodGet, "/v1/tasks/t1", "").Header().Get("ETag")
		}
		old := create()
		a.want(t, http.StatusNoContent, http.MethodDelete, "/v1/tasks/t1", "", "If-Match: *")
		a.want(t, http.StatusNoContent, http.MethodDelete, "/v1/tasks/t1", "") // gone already
		etag := create()
		if etag == old || !strings.HasPrefix(etag, `"`) {
			t.Errorf("got ETag %s after %s, want another one, in quotes", etag, old)
		}
		p := a.wantProblem(t, perdurehttp.CodePrecondition, http.MethodDelete, "/v1/tasks/t1", "", "If-Match: "+old)
		if p.ActualVersion == "" || p.TaskID != "t1" {
			t.Errorf("got %+v, want the version of t1", p)
		}
		for _, bad := range []string{`"x"`, `1-2`, `W/` + etag, etag + "," + old, `"1-2-3"`, `"-1-2"`} {
			a.wantProblem(t, perdurehttp.CodeInvalid, http.MethodDelete, "/v1/tasks/t1", "", "If-Match: "+bad)
		}
		a.wantProblem(t, perdurehttp.CodePrecondition, http.MethodDelete, "/v1/tasks/t1?version=99", "")
		a.want(t, http.StatusNoContent, http.MethodDelete, "/v1/tasks/t1", "", "If-Match: "+etag)
		a.wantProblem(t, perdurehttp.CodeNotFound, http.MethodGet, "/v1/tasks/t1", "")
	})
}

func TestStopsOfAnEndedTaskAreAcceptedAndDoNothing(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a *api) {
		a.post(t, http.StatusOK, `{"func":"echo","input":{},"task_id":"t1"}`, "Prefer: wait=1")
		for _, what := range []string{"cancel", "terminate"} {
			w := a.want(t, http.StatusAccepted, http.MethodPost, "/v1/tasks/t1/"+what, `{}`)
			if got, want := w.Body.String(), `{"task_id":"t1","status":"completed"}`+"\n"; got != want {
				t.Errorf("%s: got %s, want %s", what, got, want)
			}
		}
	})
}

func TestTheListIsPagedAndFiltered(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a *api) {
		for i := range 5 {
			a.post(t, http.StatusCreated, fmt.Sprintf(`{"func":"hold","input":{},"task_id":"t%d","tags":{"n":"%d","x:y":"z"}}`, i, i%2))
		}
		type page struct {
			Tasks      []perdure.Info `json:"tasks"`
			NextCursor string         `json:"next_cursor"`
		}
		var got []string
		for target := "/v1/tasks?limit=2"; target != ""; {
			p := decode[page](t, a.want(t, http.StatusOK, http.MethodGet, target, ""))
			if target = ""; p.NextCursor != "" {
				target = "/v1/tasks?limit=2&cursor=" + p.NextCursor
			}
			for _, info := range p.Tasks {
				got = append(got, info.ID)
			}
			a.post(t, http.StatusCreated, `{"func":"hold","input":{}}`) // must not move the pages
		}
		if strings.Join(got, " ") != "t4 t3 t2 t1 t0" {
			t.Errorf("got %v, want t4 to t0", got)
		}
		w := a.want(t, http.StatusOK, http.MethodGet, "/v1/tasks?func=hold&func=echo&status=pending&status=in_progress&tag=n:1&tag=x%5C:y:z&agent=tests", "")
		if p := decode[page](t, w); len(p.Tasks) != 2 || p.NextCursor != "" {
			t.Errorf("got %s, want t3 and t1, and no more", w.Body)
		}
		w = a.want(t, http.StatusOK, http.MethodGet, "/v1/tasks?session=none", "")
		if w.Body.String() != "{\"tasks\":[]}\n" {
			t.Errorf("got %s, want an empty list", w.Body)
		}
	})
}

func TestSystemRoutes(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a *api) {
		a.post(t, http.StatusOK, `{"func":"echo","input":{}}`, "Prefer: wait=1")
		synctest.Wait() // the outcome may be read before it is counted
		a.want(t, http.StatusOK, http.MethodGet, "/healthz", "")
		a.want(t, http.StatusOK, http.MethodGet, "/readyz", "")
		w := a.want(t, http.StatusOK, http.MethodGet, "/metrics", "")
		for _, line := range []string{"# TYPE perdure_entries_total counter\nperdure_entries_total 1\n",
			"perdure_turns_ended_total{outcome=\"completed\"} 1\n", "perdure_ready 1\n", "# HELP perdure_turns_running "} {
			if !strings.Contains(w.Body.String(), line) {
				t.Errorf("metrics lack %q:\n%s", line, w.Body)
			}
		}
		if w := a.want(t, http.StatusOK, http.MethodGet, "/v1/funcs", ""); !strings.Contains(w.Body.String(), `"func":"chat","multi_turn":true`) {
			t.Errorf("funcs: got %s, want chat among them", w.Body)
		}
		if w := a.want(t, http.StatusOK, http.MethodGet, "/v1/workers", ""); !strings.Contains(w.Body.String(), `"self":true`) {
			t.Errorf("workers: got %s, want this one", w.Body)
		}
	})
}
