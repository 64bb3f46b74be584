package perdurehttp_test

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/internal/memnet"
	"github.com/perdure/perdure/perdurehttp"
	"github.com/perdure/perdure/store/memstore"
)

// wire is a connection to a handler of an engine on which nothing runs.
func wire(t *testing.T, opts *perdurehttp.HandlerOptions) net.Conn {
	t.Helper()
	eng, err := perdure.New(memstore.New(), nil)
	if err != nil {
		t.Fatal(err)
	}
	n := new(memnet.Network)
	serve(t, n, perdurehttp.NewHandler(eng, opts))
	conn, err := n.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// What a request is refused for without its body is told before that has come.
func TestARefusalDoesNotWaitForABodyThatItDoesNotNeed(t *testing.T) {
	for _, framing := range []string{"Content-Length: 3\r\n\r\n", "Content-Length: 3\r\n\r\n{", "Transfer-Encoding: chunked\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n3\r\n{"} {
		for request, want := range map[string]int{
			"POST /v1/none":                http.StatusNotFound,
			"POST /v1//tasks":              http.StatusNotFound,
			"PUT /v1/tasks":                http.StatusMethodNotAllowed,
			"POST /v1/tasks/a%20b/cancel":  http.StatusNotFound,
			"GET /v1/tasks/a%20b":          http.StatusNotFound,
			"DELETE /v1/tasks/a%20b":       http.StatusNotFound,
			"GET /v1/tasks?limit=x":        http.StatusBadRequest,
			"POST /v1/tasks/t1/cancel?a=b": http.StatusBadRequest,
			"POST /v1/tasks":               http.StatusUnsupportedMediaType,
		} {
			bubble.Test(t, func(t *testing.T) {
				conn := wire(t, &perdurehttp.HandlerOptions{Logger: quiet})
				begin := time.Now()
				io.WriteString(conn, request+" HTTP/1.1\r\nHost: localhost\r\n"+framing)
				res, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil || res.StatusCode != want || !res.Close {
					t.Fatalf("%s, %q: got %+v, %v, want %d and the end of the connection", request, framing, res, err, want)
				}
				if body, err := io.ReadAll(res.Body); err != nil || !bytes.Contains(body, []byte(`"code"`)) {
					t.Errorf("%s, %q: got %q, %v", request, framing, body, err)
				}
				if took := time.Since(begin); took > time.Second {
					t.Errorf("%s, %q: answered after %v", request, framing, took)
				}
				if _, err := conn.Read(make([]byte, 1)); err == nil || time.Since(begin) > 10*time.Second {
					t.Errorf("%s, %q: the connection lasted for %v", request, framing, time.Since(begin))
				}
			})
		}
	}
}

// A body that is needed, or whose end is, is waited for as long as bodies may take, and no longer.
func TestABodyThatNeverComesIsToldOfWhenItsTimeIsOver(t *testing.T) {
	for _, request := range []string{"POST /v1/tasks", "POST /v1/tasks/t1/cancel", "POST /v1/tasks/t1/resume", "DELETE /v1/tasks/t1", "GET /v1/tasks/t1"} {
		bubble.Test(t, func(t *testing.T) {
			conn := wire(t, &perdurehttp.HandlerOptions{Logger: quiet, BodyTimeout: 20 * time.Second})
			begin := time.Now()
			io.WriteString(conn, request+" HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil || res.StatusCode != http.StatusBadRequest || !res.Close {
				t.Fatalf("%s: got %+v, %v, want 400 and the end of the connection", request, res, err)
			}
			if took := time.Since(begin); took != 20*time.Second {
				t.Errorf("%s: answered after %v", request, took)
			}
		})
	}
}

// A refused request whose body does come costs no connection.
func TestTheBodyOfARefusedRequestIsRead(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		conn := wire(t, &perdurehttp.HandlerOptions{Logger: quiet})
		in := bufio.NewReader(conn)
		for range 2 {
			go io.WriteString(conn, "POST /v1/none HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500000\r\n\r\n"+strings.Repeat("x", 500_000))
			res, err := http.ReadResponse(in, nil)
			if err != nil || res.StatusCode != http.StatusNotFound || res.Close {
				t.Fatalf("got %+v, %v, want 404 and a connection that stays", res, err)
			}
			io.Copy(io.Discard, res.Body)
			synctest.Wait()
		}
	})
}

// A client that sends slowly to the end before it reads gets its answer all the same.
func TestWhoSendsSlowlyBeforeItReadsGetsItsRefusal(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		conn := wire(t, &perdurehttp.HandlerOptions{Logger: quiet})
		answer := make(chan *http.Response, 1)
		go func() { // as a socket's buffer would
			res, _ := http.ReadResponse(bufio.NewReader(conn), nil)
			answer <- res
		}()
		io.WriteString(conn, "POST /v1/none HTTP/1.1\r\nHost: localhost\r\nContent-Length: 40000\r\n\r\n")
		for n := range 40 {
			<-time.After(100 * time.Millisecond)
			if _, err := io.WriteString(conn, strings.Repeat("x", 1000)); err != nil {
				t.Fatalf("after %d of 40 parts: %v", n, err)
			}
		}
		if res := <-answer; res == nil || res.StatusCode != http.StatusNotFound {
			t.Errorf("got %+v, want 404", res)
		}
	})
}

func TestAChunkedBodyThatHasComeCostsNoConnection(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		conn := wire(t, &perdurehttp.HandlerOptions{Logger: quiet})
		go io.WriteString(conn, "POST /v1/tasks/t1/cancel HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || res.StatusCode != http.StatusNotFound || res.Close {
			t.Errorf("got %+v, %v, want a 404, and the connection", res, err)
		}
	})
}

func TestARefusalEndsNoHTTP2Connection(t *testing.T) {
	eng, err := perdure.New(memstore.New(), nil)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(perdurehttp.NewHandler(eng, &perdurehttp.HandlerOptions{Logger: quiet}))
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	connections := 0
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
		if !i.Reused {
			connections++
		}
	}})
	for _, path := range []string{"/v1/tasks/t1/cancel", "/v1/none", "/v1/tasks/t1/cancel"} {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+path, io.MultiReader(strings.NewReader("{}"))) // of unknown length
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		res, err := s.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if res.ProtoMajor != 2 || res.StatusCode != http.StatusNotFound {
			t.Errorf("got %s %s, want a 404 of HTTP/2", res.Proto, res.Status)
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
	if connections != 1 {
		t.Errorf("%d connections for 3 requests", connections)
	}
}

// bare is what middleware may make of a ResponseWriter: it cannot flush, and has no deadlines.
type bare struct{ http.ResponseWriter }

func TestARefusalThroughABareWriterWaitsForNoBody(t *testing.T) {
	eng, err := perdure.New(memstore.New(), nil)
	if err != nil {
		t.Fatal(err)
	}
	h := perdurehttp.NewHandler(eng, &perdurehttp.HandlerOptions{Logger: quiet})
	for _, framing := range []string{"Content-Length: 3\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n"} {
		bubble.Test(t, func(t *testing.T) {
			n := new(memnet.Network)
			serve(t, n, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(bare{w}, r) }))
			conn, err := n.Dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			begin := time.Now()
			io.WriteString(conn, "POST /v1/none HTTP/1.1\r\nHost: localhost\r\n"+framing)
			conn.SetReadDeadline(begin.Add(time.Minute))
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil || res.StatusCode != http.StatusNotFound || time.Since(begin) > time.Second {
				t.Errorf("%q: got %+v, %v after %v, want a 404 at once", framing, res, err, time.Since(begin))
			}
		})
	}
}
