package perdurehttp_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/perdurehttp"
	"github.com/perdure/perdure/store/memstore"
)

func TestOtherOriginsAreRefused(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a *api) {
		for _, h := range []header{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site", "Origin: http://evil.example",
			"Origin: null", "Origin: http://127.0.0.1:9999"} {
			for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete, http.MethodOptions} {
				a.wantProblem(t, perdurehttp.CodeForbidden, method, "/v1/tasks", "{}", h)
			}
		}
		for _, h := range []header{"Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: none", "Origin: http://127.0.0.1:8088"} {
			a.want(t, http.StatusOK, http.MethodGet, "/v1/tasks", "", h)
			a.post(t, http.StatusCreated, `{"func":"echo","input":{}}`, h)
		}
	})
}

func TestAnUnknownHostIsRefused(t *testing.T) {
	inBubble(t, &perdurehttp.HandlerOptions{Hosts: []string{"Tasks.Example"}}, func(t *testing.T, a *api) {
		for _, host := range []string{"evil.example", "evil.example:8088", "localhost.evil.example", "127.0.0.1.evil.example", "xlocalhost"} {
			a.wantProblem(t, perdurehttp.CodeForbidden, http.MethodGet, "/v1/tasks", "", "Host: "+host)
		}
		for _, host := range []string{"localhost", "localhost:8088", "app.localhost", "127.0.0.1", "[::1]:8088", "[::1]", "192.0.2.7:80", "tasks.example:443", "TASKS.example"} {
			a.want(t, http.StatusOK, http.MethodGet, "/v1/tasks", "", "Host: "+host)
		}
	})
	inBubble(t, &perdurehttp.HandlerOptions{Hosts: []string{"*"}}, func(t *testing.T, a *api) {
		a.want(t, http.StatusOK, http.MethodGet, "/v1/tasks", "", "Host: any.example")
	})
}

func TestRequestsBeyondTheLimitsAreUnavailable(t *testing.T) {
	inBubble(t, &perdurehttp.HandlerOptions{MaxWaiting: 1, MaxInFlight: 1}, func(t *testing.T, a *api) {
		a.post(t, http.StatusCreated, `{"func":"hold","input":{},"task_id":"t1"}`)
		done := make(chan struct{})
		go func() {
			defer close(done)
			a.want(t, http.StatusOK, http.MethodGet, "/v1/tasks/t1/result", "", "Prefer: wait=30")
		}()
		synctest.Wait()
		w := a.do(t, http.MethodGet, "/v1/tasks/t1/result", "", "Prefer: wait=30")
		problem(t, w, perdurehttp.CodeUnavailable)
		if w.Header().Get("Retry-After") == "" {
			t.Error("503 without Retry-After")
		}
		a.want(t, http.StatusOK, http.MethodGet, "/v1/tasks/t1", "") // others are served
		a.open <- struct{}{}
		<-done
		a.want(t, http.StatusOK, http.MethodGet, "/v1/tasks/t1/result", "", "Prefer: wait=30")
	})
}

func TestAPanicIsAnInternalErrorThatSaysNothing(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a *api) {
		p := a.wantProblem(t, perdurehttp.CodeInternal, http.MethodPost, "/v1/tasks", `{"func":"panicky","input":{}}`)
		if strings.Contains(p.Detail, "secret") {
			t.Errorf("got %+v, want nothing of the panic", p)
		}
		a.post(t, http.StatusCreated, `{"func":"echo","input":{}}`) // the slot was given back
	})
}

func TestAFailingStoreSaysNothing(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		st := memstore.New()
		eng, err := perdure.New(st, nil)
		if err != nil {
			t.Fatal(err)
		}
		a := &api{h: perdurehttp.NewHandler(eng, &perdurehttp.HandlerOptions{Logger: quiet})}
		p := a.wantProblem(t, perdurehttp.CodeUnavailable, http.MethodGet, "/readyz", "") // it does not run
		if len(p.Reasons) != 1 {
			t.Errorf("got %+v, want a reason", p)
		}
		st.Close()
		if p := a.wantProblem(t, perdurehttp.CodeClosed, http.MethodGet, "/v1/tasks", ""); p.Detail != "" {
			t.Errorf("got %+v, want no detail", p)
		}
	})
}

func TestAShutdownEndsWaitsAndRefusesStarts(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a *api) {
		a.post(t, http.StatusCreated, `{"func":"stubborn","input":{},"task_id":"t1"}`)
		begin, done := time.Now(), make(chan struct{})
		go func() {
			defer close(done)
			a.want(t, http.StatusAccepted, http.MethodGet, "/v1/tasks/t1/result", "", "Prefer: wait=60")
			a.want(t, http.StatusAccepted, http.MethodGet, "/v1/tasks/t1/result", "", "Prefer: wait=60") // and does not wait again
		}()
		synctest.Wait()
		a.stop()
		<-done
		if took := time.Since(begin); took != 0 {
			t.Errorf("the wait ended after %v, want at once", took)
		}
		w := a.do(t, http.MethodPost, "/v1/tasks", `{"func":"echo","input":{}}`)
		problem(t, w, perdurehttp.CodeShuttingDown)
		if w.Header().Get("Retry-After") == "" {
			t.Error("503 without Retry-After")
		}
		a.wantProblem(t, perdurehttp.CodeShuttingDown, http.MethodGet, "/readyz", "")
		a.want(t, http.StatusOK, http.MethodGet, "/healthz", "")
		a.want(t, http.StatusOK, http.MethodGet, "/v1/tasks/t1", "")
	})
}
