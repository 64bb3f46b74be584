package perdurehttp_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func TestTheClientWaitsAsLongAsTheServerAsks(t *testing.T) {
	for _, test := range []struct {
		asked       string
		least, most time.Duration
	}{
		{"", 0, time.Second},
		{"0", 0, time.Second},
		{"3", 3 * time.Second, 3 * time.Second},
		{"3600", 5 * time.Second, 5 * time.Second}, // but not for ever
		{"Fri, 31 Dec 1999 23:59:59 GMT", 0, time.Second},
	} {
		for _, problem := range []bool{true, false} {
			inBubble(t, nil, func(t *testing.T, a *api) {
				var refused, again time.Time
				c := through(t, a.h, nil, func(r *http.Request, next transport) (*http.Response, error) {
					if !refused.IsZero() {
						again = time.Now()
						return next(r)
					}
					refused = time.Now()
					w := httptest.NewRecorder()
					w.Header().Set("Retry-After", test.asked)
					if problem {
						w.Header().Set("Content-Type", "application/problem+json")
					}
					w.WriteHeader(http.StatusServiceUnavailable)
					w.WriteString(`{"status":503,"code":"unavailable"}`)
					return w.Result(), nil
				})
				if _, err := c.Start(t.Context(), start("echo", "t1", "i1")); err != nil {
					t.Fatal(err)
				}
				if d := again.Sub(refused); d < test.least || d > test.most {
					t.Errorf("Retry-After %q, from the server: %v: asked again after %v, want %v to %v", test.asked, problem, d, test.least, test.most)
				}
			})
		}
	}
}
