package perdurehttp_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/perdurehttp"
)

func TestARequestWhoseCallerHasGoneIsCarriedOutAtOnce(t *testing.T) {
	const running = `{"func":"chat","input":{"text":"hold"},"task_id":"t1","input_id":"i1"}`
	for _, c := range []struct {
		name, before, method, target, body string
		holds                              func(info *perdure.Info, err error) bool
	}{
		{"start", "", http.MethodPost, "/v1/tasks", running,
			func(info *perdure.Info, err error) bool { return err == nil && info.Lease != nil }},
		{"steer", running, http.MethodPost, "/v1/tasks", `{"func":"chat","input":{"text":"x"},"task_id":"t1","input_id":"i2"}`,
			func(info *perdure.Info, err error) bool { return err == nil && info.Turn.Number == 2 }},
		{"cancel", running, http.MethodPost, "/v1/tasks/t1/cancel", `{}`,
			func(info *perdure.Info, err error) bool { return err == nil && info.Lease == nil }},
		{"terminate", running, http.MethodPost, "/v1/tasks/t1/terminate", `{}`,
			func(info *perdure.Info, err error) bool { return err == nil && info.Status == perdure.Terminated }},
		{"delete", running, http.MethodDelete, "/v1/tasks/t1", "",
			func(_ *perdure.Info, err error) bool { return err != nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, a *api) {
				if c.before != "" {
					a.post(t, http.StatusCreated, c.before)
					synctest.Wait()
				}
				gone, cancel := context.WithCancel(t.Context())
				cancel()
				r := httptest.NewRequestWithContext(gone, c.method, "http://127.0.0.1"+c.target, strings.NewReader(c.body))
				r.Header.Set("Content-Type", "application/json")
				a.h.ServeHTTP(httptest.NewRecorder(), r)
				synctest.Wait()
				info, err := a.eng.Client().Task(t.Context(), "t1")
				if !c.holds(info, err) {
					t.Errorf("got %+v, %v", info, err)
				}
				for _, counter := range a.eng.Counters() {
					if counter.Name == "callers_gone" && counter.Value != 0 {
						t.Errorf("%d operations are still under way", counter.Value)
					}
				}
			})
		})
	}
}

func TestARequestIDIsTakenFromTheHeaderOrTheBody(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a *api) {
		for i, send := range []func() *httptest.ResponseRecorder{
			func() *httptest.ResponseRecorder {
				return a.do(t, http.MethodPost, "/v1/tasks/t1/cancel", `{"request_id":"r1"}`)
			},
			func() *httptest.ResponseRecorder {
				return a.do(t, http.MethodPost, "/v1/tasks/t1/cancel", `{}`, "Idempotency-Key: r1")
			},
			func() *httptest.ResponseRecorder {
				return a.do(t, http.MethodPost, "/v1/tasks/t1/cancel", `{"request_id":"r1"}`, "Idempotency-Key: r1")
			},
		} {
			a.post(t, http.StatusCreated, `{"func":"hold","input":{},"task_id":"t1"}`)
			if w := send(); w.Code != http.StatusAccepted && w.Code != http.StatusOK {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
			synctest.Wait()
			info, err := a.eng.Client().Task(t.Context(), "t1")
			if err != nil || (info.Status == perdure.Cancelled) != (i == 0) {
				t.Errorf("request %d: got %+v, %v, want the first to cancel, and the others to be repeats of it", i, info, err)
			}
			a.want(t, http.StatusNoContent, http.MethodDelete, "/v1/tasks/t1", "")
		}
		a.post(t, http.StatusCreated, `{"func":"hold","input":{},"task_id":"t1"}`)
		p := a.wantProblem(t, perdurehttp.CodeConflict, http.MethodPost, "/v1/tasks/t1/terminate", `{}`, "Idempotency-Key: r1")
		if p.RequestID != "r1" {
			t.Errorf("got %+v, want it to name the request", p)
		}
		a.wantProblem(t, perdurehttp.CodeInvalid, http.MethodPost, "/v1/tasks/t1/cancel", `{"request_id":"r2"}`, "Idempotency-Key: r3")
		a.wantProblem(t, perdurehttp.CodeInvalid, http.MethodPost, "/v1/tasks/t1/cancel", `{"request_id":7}`)
		a.wantProblem(t, perdurehttp.CodeInvalid, http.MethodPost, "/v1/tasks", `{"func":"hold","input":{}}`, "Idempotency-Key: r4")
		a.wantProblem(t, perdurehttp.CodeInvalid, http.MethodDelete, "/v1/tasks/t1", "", "Idempotency-Key: "+strings.Repeat("x", 200))
	})
}

// What does not go into a header is no server that cannot be reached.
func TestATokenThatIsNoHeaderIsRefusedAtOnce(t *testing.T) {
	for _, token := range []string{"a\nb", "\x00", "a\x7f"} {
		_, err := perdurehttp.NewClient("http://127.0.0.1:1", &perdurehttp.ClientOptions{Token: token})
		if !errors.Is(err, perdure.ErrInvalid) || strings.Contains(err.Error(), token) {
			t.Errorf("token %q: got %v, want ErrInvalid without the token", token, err)
		}
	}
}
