package perdurehttp_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/perdurehttp"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/memstore"
)

func TestARepeatedParameterIsBounded(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a *api) {
		for _, value := range []string{"func=f%d", "tag=k%d:v", "status=pending&session=s%d"} {
			query := func(n int) (q string) {
				for i := range n {
					q += "&" + fmt.Sprintf(value, i)
				}
				return "/v1/tasks?" + strings.TrimSuffix(q[1:], "&")
			}
			if strings.Contains(value, "session") {
				a.wantProblem(t, perdurehttp.CodeInvalid, http.MethodGet, query(2), "") // one at most
				continue
			}
			a.want(t, http.StatusOK, http.MethodGet, query(100), "")
			p := a.wantProblem(t, perdurehttp.CodeInvalid, http.MethodGet, query(101), "")
			if !strings.Contains(p.Detail, "101 times: 100 is the most") {
				t.Errorf("got %q, want it to say how many there may be", p.Detail)
			}
		}
	})
}

func TestHeadWaitsForNothing(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a *api) {
		a.post(t, http.StatusCreated, `{"func":"hold","input":{},"task_id":"t1"}`)
		begin := time.Now()
		a.want(t, http.StatusOK, http.MethodHead, "/v1/tasks/t1", "")
		a.want(t, http.StatusAccepted, http.MethodHead, "/v1/tasks/t1/result", "", "Prefer: wait=60")
		w := a.want(t, http.StatusOK, http.MethodHead, "/v1/tasks/t1/events", "", "Accept: text/event-stream")
		if w.Header().Get("Content-Type") != "text/event-stream" || w.Body.Len() > 0 || time.Since(begin) > 0 {
			t.Errorf("the stream: got %v %q after %v", w.Header(), w.Body, time.Since(begin))
		}
	})
}

func TestABodyIsTakenAsItIs(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a *api) {
		body := `{"func":"echo","input":{}}`
		a.post(t, http.StatusCreated, body, "Content-Encoding: identity")
		for _, encoding := range []string{"gzip", "identity, br", "x"} {
			w := a.do(t, http.MethodPost, "/v1/tasks", body, "Content-Encoding: "+encoding)
			problem(t, w, perdurehttp.CodeMediaType)
			if w.Header().Get("Accept-Encoding") != "identity" {
				t.Errorf("%s: got %v, want it to say what is taken", encoding, w.Header())
			}
		}
		a.post(t, http.StatusCreated, `{"func":"hold","input":{},"task_id":"t1"}`)
		for _, r := range []struct{ method, target string }{{http.MethodDelete, "/v1/tasks/t1"}, {http.MethodGet, "/v1/tasks"}, {http.MethodGet, "/v1/tasks/t1"}} {
			a.wantProblem(t, perdurehttp.CodeInvalid, r.method, r.target, `{"incarnation":7}`)
		}
		a.want(t, http.StatusOK, http.MethodGet, "/v1/tasks/t1", "")
	})
}

// A request that takes no body, and says that one comes, is not carried out when that is cut off.
func TestWhatHasNotArrivedAsAWholeIsNotCarriedOut(t *testing.T) {
	for _, body := range []string{"Content-Length: 3\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n3\r\n"} {
		bubble.Test(t, func(t *testing.T) {
			conn := wire(t, &perdurehttp.HandlerOptions{BodyTimeout: 5 * time.Second})
			io.WriteString(conn, "DELETE /v1/tasks/t1 HTTP/1.1\r\nHost: localhost\r\n"+body)
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil || res.StatusCode != http.StatusBadRequest {
				t.Errorf("%q: got %+v, %v, want 400", body, res, err)
			}
		})
	}
}

// plain is a ResponseWriter as middlewares make them: it neither flushes nor unwraps. wrapping unwraps.
type plain struct{ w http.ResponseWriter }

func (p plain) Header() http.Header         { return p.w.Header() }
func (p plain) Write(b []byte) (int, error) { return p.w.Write(b) }
func (p plain) WriteHeader(status int)      { p.w.WriteHeader(status) }

type wrapping struct{ plain }

func (w wrapping) Unwrap() http.ResponseWriter { return w.w }

func TestAStreamThatCannotBeFlushedSaysSo(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a *api) {
		a.post(t, http.StatusOK, `{"func":"echo","input":{},"task_id":"t1"}`, "Prefer: wait=5")
		for _, c := range []struct {
			wrap func(http.ResponseWriter) http.ResponseWriter
			want int
		}{
			{func(w http.ResponseWriter) http.ResponseWriter { return plain{w} }, http.StatusInternalServerError},
			{func(w http.ResponseWriter) http.ResponseWriter { return wrapping{plain{plain{w}}} }, http.StatusInternalServerError},
			{func(w http.ResponseWriter) http.ResponseWriter { return wrapping{plain{wrapping{plain{w}}}} }, http.StatusOK},
		} {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1/v1/tasks/t1/events", nil)
			r.Header.Set("Accept", "text/event-stream")
			w := httptest.NewRecorder()
			a.h.ServeHTTP(c.wrap(w), r)
			if w.Code != c.want {
				t.Errorf("got %d %s, want %d", w.Code, w.Body, c.want)
			}
		}
	})
}

func TestTheEndOfAStreamIsOfTheTimeOfTheTasksEnd(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a *api) {
		a.post(t, http.StatusOK, `{"func":"echo","input":{},"task_id":"t1"}`, "Prefer: wait=5")
		<-time.After(time.Hour)
		ended := decode[perdure.Info](t, a.want(t, http.StatusOK, http.MethodGet, "/v1/tasks/t1", "")).EndedAt
		for _, query := range []string{"", "?until=turn", "?view=committed"} {
			page := decode[struct{ Events []perdure.Event }](t, a.want(t, http.StatusOK, http.MethodGet, "/v1/tasks/t1/events"+query, ""))
			end := page.Events[len(page.Events)-1]
			if end.Kind != perdure.EventEnd || !end.At.Equal(ended) || ended.IsZero() {
				t.Errorf("%s: got %+v, want an end at %v", query, end, ended)
			}
		}
	})
}

// aborting is a ResponseWriter whose first write cuts off the connection.
type aborting struct {
	plain
	done *bool
}

func (a aborting) Write(b []byte) (int, error) {
	if !*a.done {
		*a.done = true
		panic(http.ErrAbortHandler)
	}
	return len(b), nil
}

func TestAnAbortIsPassedOn(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a *api) {
		defer func() {
			if cause := recover(); cause != http.ErrAbortHandler {
				t.Errorf("got %v, want http.ErrAbortHandler", cause)
			}
		}()
		a.h.ServeHTTP(aborting{plain{httptest.NewRecorder()}, new(bool)}, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1/healthz", nil))
	})
}

// choosy is a store that takes no input with a secret.
type choosy struct {
	store.Store
	large bool
}

func (c choosy) Offer(context.Context, *store.OfferRequest) (*store.Offered, error) {
	return nil, &store.ContentError{Err: errors.New("trigger: no secret here"), Large: c.large}
}

func TestWhatTheStoreRefusesForItsContentIsTheRequestsFault(t *testing.T) {
	for large, code := range map[bool]perdurehttp.Code{false: perdurehttp.CodeInvalid, true: perdurehttp.CodeTooLarge} {
		f := perdure.NewFunc[note, note]("f", nil)
		eng, err := perdure.New(choosy{memstore.New(), large}, &perdure.Options{Logger: quiet, Funcs: []perdure.Binding{
			f.Bind(func(context.Context, *perdure.Turn[note, note]) (note, error) { return note{}, nil })}})
		if err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		a := &api{h: perdurehttp.NewHandler(eng, &perdurehttp.HandlerOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})}
		p := a.wantProblem(t, code, http.MethodPost, "/v1/tasks", `{"func":"f","input":{},"task_id":"t1"}`)
		if strings.Contains(p.Detail, "secret") || !strings.Contains(log.String(), "no secret here") || p.TaskID != "t1" {
			t.Errorf("got %+v, and the log %s: want the cause in the log alone", p, &log)
		}
	}
}

// halfClosed sends a request whose sender has closed its side, to who can tell no more of it, as net/http/1 does.
func halfClosed(t *testing.T, a *api, w http.ResponseWriter, target string, headers ...header) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1"+target, nil)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	a.h.ServeHTTP(w, r)
}

func TestOneWhoHasClosedItsSideIsAnswered(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a *api) {
		a.post(t, http.StatusCreated, `{"func":"hold","input":{},"task_id":"t1"}`)
		for target, want := range map[string]int{"/v1/tasks": 200, "/v1/tasks/t1": 200, "/v1/tasks/none": 404, "/v1/tasks/t1/turns": 200,
			"/v1/tasks/t1/turns/1": 200, "/v1/tasks/t1/turns?input_id=x": 404, "/v1/tasks/t1/result": 202, "/v1/tasks/t1/events": 200,
			"/v1/tasks/t1/events?until=turn": 200, "/v1/workers": 200, "/v1/funcs": 200} {
			w := httptest.NewRecorder()
			if halfClosed(t, a, w, target); w.Code != want {
				t.Errorf("%s: got %d %s, want %d", target, w.Code, w.Body, want)
			}
		}
		begin, w := time.Now(), httptest.NewRecorder()
		halfClosed(t, a, w, "/v1/tasks/t1/result", "Prefer: wait=60")
		if took := time.Since(begin); took != 15*time.Second || w.Code != http.StatusAccepted {
			t.Errorf("a wait: got %d after %v, want the open turn after 15 s", w.Code, took)
		}
		begin, w = time.Now(), httptest.NewRecorder()
		halfClosed(t, a, w, "/v1/tasks/t1/events", "Accept: text/event-stream")
		if took := time.Since(begin); took != 15*time.Second || strings.Count(w.Body.String(), "still here") < 10 {
			t.Errorf("a stream: got %q after %v, want it to go on for 15 s", w.Body, took)
		}
		begin = time.Now()
		halfClosed(t, a, wrapping{plain{&deaf{httptest.NewRecorder(), 2}}}, "/v1/tasks/t1/events", "Accept: text/event-stream")
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("a stream of one who has gone ended after %v, want it to end with the comment that is not taken", took)
		}
		a.open <- struct{}{}
		synctest.Wait()
		w = httptest.NewRecorder()
		if halfClosed(t, a, w, "/v1/tasks/t1/result", "Prefer: wait=60"); w.Code != http.StatusOK {
			t.Errorf("a wait that is over: got %d %s", w.Code, w.Body)
		}
	})
}

// deaf takes so many writes.
type deaf struct {
	*httptest.ResponseRecorder
	left int
}

func (d *deaf) Write(b []byte) (int, error) {
	if d.left--; d.left < 0 {
		return 0, io.ErrClosedPipe
	}
	return d.ResponseRecorder.Write(b)
}

func (d *deaf) Flush() {}

// onTCP serves a handler with a body limit of 1 KiB on a real connection, and returns one.
func onTCP(t *testing.T) *net.TCPConn {
	t.Helper()
	eng, err := perdure.New(memstore.New(), &perdure.Options{Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(perdurehttp.NewHandler(eng, &perdurehttp.HandlerOptions{Logger: quiet, MaxBody: 1 << 10}))
	t.Cleanup(srv.Close)
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Minute))
	return conn.(*net.TCPConn)
}

func answered(t *testing.T, conn net.Conn, want int) *http.Response {
	t.Helper()
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || res.StatusCode != want {
		t.Fatalf("got %+v, %v, want %d", res, err, want)
	}
	t.Cleanup(func() { res.Body.Close() })
	return res
}

// A client that sends its body to the end before it reads would see a reset, and no answer.
func TestWhoSendsTooMuchCanReadTheAnswer(t *testing.T) {
	for what, c := range map[string]struct {
		head string
		want int
	}{
		"too large":  {"POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n", http.StatusRequestEntityTooLarge},
		"media type": {"POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n", http.StatusUnsupportedMediaType},
		"no route":   {"POST /v2 HTTP/1.1\r\nHost: localhost\r\n", http.StatusNotFound},
		"method":     {"PUT /v1/tasks HTTP/1.1\r\nHost: localhost\r\n", http.StatusMethodNotAllowed},
		"other host": {"POST /v1/tasks HTTP/1.1\r\nHost: example.com\r\n", http.StatusForbidden},
		"takes none": {"DELETE /v1/tasks/t HTTP/1.1\r\nHost: localhost\r\n", http.StatusBadRequest},
	} {
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprint(what, chunked), func(t *testing.T) {
				const size = 20 << 20
				conn := onTCP(t)
				length := fmt.Sprintf("Content-Length: %d\r\n\r\n", size)
				if chunked {
					length = fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n", size)
				}
				body := bytes.Repeat([]byte(" "), size)
				if _, err := conn.Write(append([]byte(c.head+length), body...)); err != nil {
					t.Fatalf("sending: %v", err)
				}
				if chunked {
					io.WriteString(conn, "\r\n0\r\n\r\n")
				}
				answered(t, conn, c.want)
			})
		}
	}
}

func TestWhoAsksBeforeItSendsTooMuchNeedNotSendIt(t *testing.T) {
	conn := onTCP(t)
	io.WriteString(conn, "POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99999999\r\nExpect: 100-continue\r\n\r\n")
	answered(t, conn, http.StatusRequestEntityTooLarge)
}

func TestAHalfClosedConnectionIsAnswered(t *testing.T) {
	conn := onTCP(t)
	io.WriteString(conn, "GET /v1/tasks HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answered(t, conn, http.StatusOK)
}
