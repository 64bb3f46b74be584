package perdurehttp

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/memstore"
	"github.com/perdure/perdure/store/sqlitestore"
)

var (
	requests = flag.Int("requests", 2000, "how many hostile requests to send to each store")
	seed     = flag.Uint64("seed", 1, "of the hostile requests")
)

// unsettled are values that are taken today although they do not come back as they were. The list is to be empty.
var unsettled = []struct {
	what string
	is   func(field, raw string) bool
}{
	{"a lone surrogate in a text becomes U+FFFD", func(field, raw string) bool { return field != "input" && loneSurrogate.MatchString(raw) }},
	{"a key given twice in tags or retry: the last wins", func(field, raw string) bool { return field != "input" && twice.MatchString(raw) }},
	{"what is nested deeper than a client can read", func(field, raw string) bool {
		return strings.Contains(raw, strings.Repeat("[", 9_000)) || strings.Count(raw, `{"a":`) > 9_000
	}},
	{"retry with a member in another case", func(field, raw string) bool { return field == "retry" && strings.Contains(raw, "ATTEMPTS") }},
}

var (
	loneSurrogate = regexp.MustCompile(`\\ud800"|\\udc00`)
	twice         = regexp.MustCompile(`"k":"v","k"|"attempts":2,"attempts"`)
)

// Whatever is sent, to whatever route: no error of the server's, none that takes long, and nothing is accepted that does
// not come back as it was.
func TestHostileRequests(t *testing.T) {
	for name, open := range map[string]func(*testing.T) store.Store{
		"memory": func(*testing.T) store.Store { return memstore.New() },
		"sqlite": func(t *testing.T) store.Store {
			st, err := sqlitestore.Open(t.Context(), filepath.Join(t.TempDir(), "perdure.db"), nil)
			if err != nil {
				t.Fatal(err)
			}
			return st
		},
	} {
		t.Run(name, func(t *testing.T) {
			st := open(t)
			defer st.Close()
			besiege(t, st)
		})
	}
}

// besiege serves a store and sends it requests from several connections, each with tasks of its own.
func besiege(t *testing.T, st store.Store) {
	const besiegers = 4
	eng, err := perdure.New(st, &perdure.Options{Funcs: besieged(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer // what the handler could not answer for
	srv := httptest.NewServer(NewHandler(eng, &HandlerOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))}))
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	ctx, stop := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- eng.Run(ctx) }()
	defer func() { stop(); <-stopped; srv.Close() }()
	for eng.Ready() != nil {
		<-time.After(time.Millisecond)
	}
	var all sync.WaitGroup
	var accepted atomic.Int64
	for i := range besiegers {
		all.Go(func() {
			b := &besieger{T: t, address: srv.Listener.Addr().String(), hostile: hostile{Rand: rand.New(rand.NewPCG(*seed, uint64(i))), routes: routes()}}
			for n := range 8 {
				b.ids = append(b.ids, fmt.Sprintf("b%d-%d", i, n))
			}
			for n := 0; n < *requests/besiegers && !t.Failed(); n++ {
				b.strike(b.attack())
			}
			accepted.Add(b.accepted)
		})
	}
	all.Wait()
	if accepted.Load() < int64(*requests)/50 {
		t.Errorf("%d starts of %d requests were accepted: too few to say anything", accepted.Load(), *requests)
	}
	if t.Failed() {
		t.Logf("seed %d; the handler's log: %.3000s", *seed, &log)
	}
	t.Logf("%d requests, %d inputs accepted and read back", *requests, accepted.Load())
}

// besieged are funcs whose turns end at once.
func besieged() []perdure.Binding {
	type note struct {
		Text string `json:"text"`
	}
	return []perdure.Binding{
		perdure.NewFunc[json.RawMessage, json.RawMessage]("raw", nil).Bind(func(ctx context.Context, turn *perdure.Turn[json.RawMessage, json.RawMessage]) (json.RawMessage, error) {
			return turn.Input(), turn.Emit(ctx, turn.Input())
		}),
		perdure.NewFunc[note, note]("chat", &perdure.FuncOptions[note]{MultiTurn: true, Steerable: true}).Bind(
			func(ctx context.Context, turn *perdure.Turn[note, note]) (note, error) {
				return turn.Input(), turn.Metadata().Set("seen", turn.Input())
			}),
		perdure.NewFunc[json.RawMessage, int]("flaky", nil).Bind(func(context.Context, *perdure.Turn[json.RawMessage, int]) (int, error) {
			return 0, errors.New("no luck")
		}),
	}
}

// besieger sends requests over one connection at a time.
type besieger struct {
	*testing.T
	hostile
	address  string
	conn     net.Conn
	in       *bufio.Reader
	accepted int64
}

// quickly is how long an answer may take that nobody asked to wait for.
const quickly = 2 * time.Second

// strike sends a request and looks at the answer. One that was slow is sent again, since a machine may be busy.
func (b *besieger) strike(a *attack) {
	var res *http.Response
	var body []byte
	took, limit := time.Hour, quickly
	for n := 0; n < 3 && took > limit; n++ {
		begin := time.Now()
		if res, body = b.send(a); res == nil {
			return
		}
		took, limit = time.Since(begin), quickly
		if seconds, ok := strings.CutPrefix(res.Header.Get("Preference-Applied"), "wait="); ok {
			n, _ := strconv.Atoi(seconds)
			limit += time.Duration(n) * time.Second
		}
	}
	if took > limit && took > limit+10*b.idle() {
		b.Errorf("%v: answered %d after %v, three times", a, res.StatusCode, took)
	}
	b.look(a, res, body)
	if a.route.serve != nil && a.method == http.MethodPost && a.route.path == "/v1/tasks" && res.StatusCode < 300 {
		b.readBack(a, body)
	}
}

// idle is how long an answer takes for which nothing is done.
func (b *besieger) idle() time.Duration {
	begin := time.Now()
	if res, err := http.Get("http://" + b.address + "/healthz"); err == nil {
		res.Body.Close()
	}
	return time.Since(begin)
}

// send returns nothing if there is no answer, which the test then knows.
func (b *besieger) send(a *attack) (*http.Response, []byte) {
	if b.conn == nil {
		conn, err := net.Dial("tcp", b.address)
		if err != nil {
			b.Error(err)
			return nil, nil
		}
		b.conn, b.in = conn, bufio.NewReader(conn)
	}
	b.conn.SetDeadline(time.Now().Add(time.Minute))
	_, werr := b.conn.Write(a.bytes())
	res, err := http.ReadResponse(b.in, &http.Request{Method: a.method})
	for err == nil && res.StatusCode == http.StatusContinue {
		res, err = http.ReadResponse(b.in, &http.Request{Method: a.method})
	}
	if err != nil {
		if !a.malformed() {
			b.Errorf("%v: no answer: %v, %v", a, werr, err)
		}
		b.hangUp()
		return nil, nil
	}
	if res.Header.Get("Content-Type") == eventStream && a.method != http.MethodHead {
		line, err := bufio.NewReader(res.Body).ReadString('\n')
		if err != nil || !strings.HasPrefix(line, "retry:") {
			b.Errorf("%v: a stream begins with %q, %v", a, line, err)
		}
		b.hangUp()
		return res, nil
	}
	body, err := io.ReadAll(res.Body)
	if err != nil && !a.malformed() {
		b.Errorf("%v: the answer breaks off: %v", a, err)
	}
	if res.Close || err != nil {
		b.hangUp()
	}
	return res, body
}

func (b *besieger) hangUp() {
	b.conn.Close()
	b.conn = nil
}

// look checks an answer's form: what is ours says so, and is what it says.
func (b *besieger) look(a *attack, res *http.Response, body []byte) {
	media := res.Header.Get("Content-Type")
	switch {
	case res.StatusCode == http.StatusServiceUnavailable && a.route.path == "/readyz": // a busy machine: it says why
	case res.StatusCode >= 500:
		b.Errorf("%v: answered %d %s", a, res.StatusCode, body)
	case a.method == http.MethodHead || res.StatusCode == http.StatusNoContent || media == eventStream || media == metricsMedia:
	case res.StatusCode >= 400 && media == "application/problem+json":
		var p Problem
		if err := json.Unmarshal(body, &p); err != nil || p.Status != res.StatusCode || len(p.Detail) > 1000 || !utf8.Valid(body) {
			b.Errorf("%v: answered %d %.2000s", a, res.StatusCode, body)
		} else if _, known := lookup(p.Code); !known {
			b.Errorf("%v: code %s is none", a, p.Code)
		}
	case res.StatusCode >= 400: // by net/http, of what is no HTTP
		if res.StatusCode != http.StatusBadRequest && res.StatusCode != http.StatusExpectationFailed && res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			b.Errorf("%v: answered %d %s without a problem", a, res.StatusCode, body)
		}
	case res.StatusCode >= 300, media != "application/json", !json.Valid(body) && !exempt("", string(body)), !utf8.Valid(body):
		b.Errorf("%v: answered %d, %s: %.300q", a, res.StatusCode, media, body)
	}
}

// exempt reports whether a value is of a kind that is not settled.
func exempt(field, raw string) bool {
	for _, u := range unsettled {
		if u.is(field, raw) {
			return true
		}
	}
	return false
}
