package perdurehttp_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/internal/memnet"
	"github.com/perdure/perdure/perdurehttp"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/memstore"
)

// counting is a func that emits the numbers from 1 to the length of its text, one a second, with a checkpoint
// after every fifth.
var counting = perdure.NewFunc[note, note]("counting", &perdure.FuncOptions[note]{MultiTurn: true})

func countOn(pause time.Duration) perdure.Binding {
	return counting.Bind(func(ctx context.Context, turn *perdure.Turn[note, note]) (note, error) {
		n := 0
		if _, err := turn.Metadata().Get("n", &n); err != nil {
			return note{}, err
		}
		for n < len(turn.Input().Text) {
			select {
			case <-time.After(pause):
			case <-turn.Interrupt().Done():
				return note{}, context.Cause(turn.Interrupt())
			}
			n++
			if err := turn.Emit(ctx, n); err != nil {
				return note{}, err
			}
			if n%5 == 0 {
				if err := errors.Join(turn.Metadata().Set("n", n), turn.Checkpoint(ctx)); err != nil {
					return note{}, err
				}
			}
		}
		return note{}, turn.Metadata().Delete("n")
	})
}

// node is an engine on a store, served on a network.
type node struct {
	t      *testing.T
	client *perdurehttp.Client
	net    *memnet.Network
	stop   func()
}

func newNode(t *testing.T, st store.Store, n *memnet.Network, opts *perdurehttp.HandlerOptions, pause time.Duration) *node {
	t.Helper()
	eng, err := perdure.New(st, &perdure.Options{Logger: quiet, Lease: time.Second, Drain: time.Second, Funcs: []perdure.Binding{countOn(pause)}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); eng.Run(ctx) }()
	stopHTTP := serve(t, n, perdurehttp.NewHandler(eng, opts))
	stop := func() { cancel(); <-done; stopHTTP() }
	t.Cleanup(stop)
	synctest.Wait()
	return &node{t: t, client: dial(t, n, nil), net: n, stop: stop}
}

func (n *node) start(id string, length int) *perdure.Handle[note] {
	n.t.Helper()
	h, err := counting.Start(n.t.Context(), n.client, note{strings.Repeat("x", length)}, &perdure.StartOptions{TaskID: id})
	if err != nil {
		n.t.Fatal(err)
	}
	return h
}

// get asks for a stream as a browser does.
func (n *node) get(target string, headers ...header) *http.Response {
	n.t.Helper()
	r, err := http.NewRequestWithContext(n.t.Context(), http.MethodGet, "http://127.0.0.1"+target, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	transport := n.net.Transport()
	n.t.Cleanup(transport.CloseIdleConnections)
	res, err := transport.RoundTrip(r)
	if err != nil {
		n.t.Fatal(err)
	}
	return res
}

func inNode(t *testing.T, opts *perdurehttp.HandlerOptions, test func(t *testing.T, n *node)) {
	bubble.Test(t, func(t *testing.T) {
		if opts == nil {
			opts = &perdurehttp.HandlerOptions{}
		}
		opts.Logger = quiet
		test(t, newNode(t, memstore.New(), new(memnet.Network), opts, time.Second))
	})
}

func TestAStreamOnTheWire(t *testing.T) {
	inNode(t, nil, func(t *testing.T, n *node) {
		n.start("t1", 2)
		res := n.get("/v1/tasks/t1/events?until=turn")
		for name, want := range map[string]string{"Content-Type": "text/event-stream", "X-Accel-Buffering": "no", "Cache-Control": "no-store", "Perdure-Incarnation": "1"} {
			if got := res.Header.Get(name); got != want || res.StatusCode != 200 {
				t.Errorf("%d, %s: got %q, want %q", res.StatusCode, name, got, want)
			}
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		const at = "2000-01-01T00:00:0"
		got := string(body)
		for _, want := range []string{"retry: 500\n\n",
			"id: 1\nevent: message\ndata: {\"number\":1,\"turn\":1,\"attempt\":1,\"kind\":\"message\",\"at\":\"" + at,
			"\",\"data\":1}\n\nid: 2\nevent: message\n", "id: 3\nevent: turn\n", "\"status\":\"completed\"}\n\nevent: end\ndata: {",
		} {
			if !strings.Contains(got, want) {
				t.Errorf("%q is missing in:\n%s", want, got)
			}
		}
		if !strings.HasSuffix(got, "\n\n") || strings.Count(got, "event: end") != 1 {
			t.Errorf("got an end that is none:\n%s", got)
		}
	})
}

func TestWhoComesBackGoesOnAfterItsLastEventAndOnceItHasEverythingStaysAway(t *testing.T) {
	inNode(t, nil, func(t *testing.T, n *node) {
		n.start("t1", 3)
		body, _ := io.ReadAll(n.get("/v1/tasks/t1/events?until=turn&turn=1&after=1", "Last-Event-ID: 2").Body)
		if got := string(body); !strings.HasPrefix(got, "retry: 500\n\nid: 3\n") {
			t.Errorf("Last-Event-ID 2 with after=1: got\n%s", got)
		}
		if res := n.get("/v1/tasks/t1/events?until=turn&turn=1", "Last-Event-ID: 4"); res.StatusCode != http.StatusNoContent {
			t.Errorf("with everything: got %d, want 204", res.StatusCode)
		}
		if res := n.get("/v1/tasks/t1/events?until=turn&turn=1&after=4"); res.StatusCode != http.StatusOK {
			t.Errorf("with everything, but no reconnect: got %d, want 200 and the end", res.StatusCode)
		}
	})
}

func TestAStreamOnWhichNothingHappensIsKeptAlive(t *testing.T) {
	inNode(t, nil, func(t *testing.T, n *node) {
		n.start("t1", 1)
		res := n.get("/v1/tasks/t1/events?after=99")
		lines := bufio.NewScanner(res.Body)
		began := time.Now()
		comments := 0
		for comments < 4 && lines.Scan() {
			if strings.HasPrefix(lines.Text(), ":") {
				comments++
			}
		}
		if took := time.Since(began); took != time.Minute {
			t.Errorf("got %d comments in %v, want 4 in a minute", comments, took)
		}
		res.Body.Close()
	})
}

func TestAStreamIsAskedForCorrectly(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a *api) {
		a.post(t, http.StatusCreated, `{"func":"echo","task_id":"t1","input":{"text":"x"}}`)
		for target, names := range map[string]string{
			"?after=-1": `"after"`, "?after=x": `"after"`, "?after=99999999999999999999": `"after"`, "?after=1.5": `"after"`, "?after=": `"after"`,
			"?until=never": `"until"`, "?turn=1": `"turn"`, "?until=turn&turn=0": `"turn"`, "?view=all": `"view"`, "?limit=0": `"limit"`,
			"?limit=501": `"limit"`, "?from=1": `"from"`, "?incarnation=x": `"incarnation"`,
		} {
			for _, accept := range []string{"application/json", "text/event-stream"} {
				p := a.wantProblem(t, perdurehttp.CodeInvalid, http.MethodGet, "/v1/tasks/t1/events"+target, "", "Accept: "+accept)
				if !strings.Contains(p.Detail, names) {
					t.Errorf("%s: got %q, want it to name %s", target, p.Detail, names)
				}
			}
		}
		for _, last := range []string{"x", "-1", "99999999999999999999"} {
			p := a.wantProblem(t, perdurehttp.CodeInvalid, http.MethodGet, "/v1/tasks/t1/events", "", "Last-Event-ID: "+last)
			if !strings.Contains(p.Detail, "Last-Event-ID") {
				t.Errorf("Last-Event-ID %s: got %q", last, p.Detail)
			}
		}
		for _, target := range []string{"/v1/tasks/nope/events", "/v1/tasks/t1/events?until=turn&turn=7"} {
			a.wantProblem(t, perdurehttp.CodeNotFound, http.MethodGet, target, "", "Accept: text/event-stream")
			a.wantProblem(t, perdurehttp.CodeNotFound, http.MethodGet, target, "")
		}
	})
}

func TestAPageOfEventsIsWhatIsThereNow(t *testing.T) {
	type page struct {
		Events    []perdure.Event `json:"events"`
		NextAfter int64           `json:"next_after"`
		Ended     bool            `json:"ended"`
	}
	inNode(t, nil, func(t *testing.T, n *node) {
		n.start("t1", 3)
		<-time.After(10 * time.Second)
		read := func(query string) page {
			res := n.get("/v1/tasks/t1/events"+query, "Accept: application/json, */*;q=0.1")
			defer res.Body.Close()
			var p page
			if err := json.NewDecoder(res.Body).Decode(&p); err != nil || res.Header.Get("Content-Type") != "application/json" {
				t.Fatalf("%s: %v, %s", query, err, res.Header.Get("Content-Type"))
			}
			return p
		}
		if p := read("?limit=2"); len(p.Events) != 2 || p.NextAfter != 2 || p.Ended {
			t.Errorf("first page: got %+v", p)
		}
		if p := read("?limit=2&after=2"); len(p.Events) != 2 || p.NextAfter != 4 || p.Events[1].Status != perdure.Completed || p.Ended {
			t.Errorf("second page: got %+v", p)
		}
		if p := read("?after=4"); len(p.Events) != 0 || p.NextAfter != 4 || p.Ended {
			t.Errorf("third page: got %+v", p)
		}
		if p := read("?until=turn&view=committed"); len(p.Events) != 5 || !p.Ended {
			t.Errorf("to the turn's end: got %+v", p)
		}
	})
}

func TestTooManyStreamsAreRefusedAndOthersServed(t *testing.T) {
	inNode(t, &perdurehttp.HandlerOptions{MaxStreams: 2, MaxInFlight: 2}, func(t *testing.T, n *node) {
		n.start("t1", 100)
		for range 2 {
			defer n.get("/v1/tasks/t1/events").Body.Close()
		}
		res := n.get("/v1/tasks/t1/events")
		if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
			t.Errorf("the third stream: got %d", res.StatusCode)
		}
		if _, err := n.client.Task(t.Context(), "t1"); err != nil {
			t.Errorf("another request: %v", err)
		}
	})
}

// cuts breaks connections after some random number of reads.
type cuts struct {
	inner http.RoundTripper
	rand  *rand.Rand
	most  int
	made  int
}

func (c *cuts) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := c.inner.RoundTrip(r)
	if err == nil && r.Header.Get("Accept") == "text/event-stream" {
		c.made++
		res.Body = &cut{res.Body, c.rand.IntN(c.most)}
	}
	return res, err
}

// cut is a body that breaks off after a number of bytes.
type cut struct {
	io.ReadCloser
	left int
}

func (c *cut) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errReset
	}
	n, err := c.ReadCloser.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

func TestAThousandReconnectsAtRandomNumbersChangeNothing(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n := newNode(t, memstore.New(), new(memnet.Network), &perdurehttp.HandlerOptions{Logger: quiet}, 100*time.Millisecond)
		const length = 3000
		h := n.start("t1", length)
		transport := n.net.Transport()
		t.Cleanup(transport.CloseIdleConnections)
		c := &cuts{inner: transport, rand: rand.New(rand.NewPCG(1, 2)), most: 700}
		reader, err := perdurehttp.NewClient("http://127.0.0.1", &perdurehttp.ClientOptions{HTTPClient: &http.Client{Transport: c}})
		if err != nil {
			t.Fatal(err)
		}
		want := int64(1)
		for e, err := range reader.Events(t.Context(), "t1", &perdure.EventOptions{Turn: h.Turn()}) {
			switch {
			case err != nil:
				t.Fatal(err)
			case e.Kind == perdure.EventEnd:
				if want != length+2 {
					t.Errorf("ended after number %d, want %d", want-1, length+1)
				}
				want = 0
			case e.Number != want || e.Kind == perdure.EventMessage && string(e.Data) != fmt.Sprint(want):
				t.Fatalf("got %+v, want number %d", e, want)
			default:
				want++
			}
		}
		if want != 0 || c.made < 1000 {
			t.Errorf("%d connections, want 1,000 and an end", c.made)
		}
		t.Logf("proof: a stream of %d events read over %d connections that broke at random: no gap, no duplicate", length, c.made)
	})
}

func TestAReaderRejoinsOverServersThatDieAndRestart(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		st, network := memstore.New(), new(memnet.Network)
		opts := &perdurehttp.HandlerOptions{Logger: quiet}
		n := newNode(t, st, network, opts, time.Second)
		h := n.start("t1", 40)
		var raw, committed perdure.Fold
		reader := dial(t, network, nil)
		read := make(chan error, 2)
		follow := func(f *perdure.Fold, view bool) {
			ended := false
			for e, err := range reader.Events(t.Context(), "t1", &perdure.EventOptions{Turn: h.Turn(), Committed: view}) {
				if err != nil {
					read <- err
					return
				}
				f.Add(e)
				ended = e.Kind == perdure.EventEnd
			}
			if !ended {
				read <- errors.New("no end")
				return
			}
			read <- nil
		}
		go follow(&raw, false)
		go follow(&committed, true)
		for range 3 {
			<-time.After(7 * time.Second)
			n.stop()
			<-time.After(2 * time.Second)
			n = newNode(t, st, network, opts, time.Second)
		}
		for range 2 {
			if err := <-read; err != nil {
				t.Fatal(err)
			}
		}
		for name, f := range map[string]*perdure.Fold{"live": &raw, "committed": &committed} {
			if len(f.Messages()) != 40 {
				t.Fatalf("%s: got %d messages, want 40", name, len(f.Messages()))
			}
			for i, m := range f.Messages() {
				if string(m.Data) != fmt.Sprint(i+1) {
					t.Errorf("%s: message %d is %s", name, i, m.Data)
				}
			}
		}
	})
}

func TestAServerThatFallsSilentIsLeftForAnotherConnection(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n := new(memnet.Network)
		connections := 0
		serve(t, n, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			connections++
			fmt.Fprintf(w, "id: %d\nevent: message\ndata: {\"number\":%d,\"kind\":\"message\",\"data\":1}\n\n", connections, connections)
			if connections == 3 {
				fmt.Fprint(w, "event: end\ndata: {\"kind\":\"end\",\"status\":\"completed\"}\n\n")
				return
			}
			http.NewResponseController(w).Flush()
			<-r.Context().Done() // and nothing more
		}))
		began, count := time.Now(), 0
		for _, err := range dial(t, n, nil).Events(t.Context(), "t1", nil) {
			if err != nil {
				t.Fatal(err)
			}
			count++
		}
		if took := time.Since(began); count != 4 || took < 90*time.Second || took > 95*time.Second {
			t.Errorf("got %d events after %v, want 4 after twice 45 s of silence", count, took)
		}
	})
}

func TestAReaderThatComesBackReadsTheSameTask(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n := new(memnet.Network)
		var asked []string
		serve(t, n, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked = append(asked, r.URL.Query().Get("incarnation"))
			w.Header().Set("Content-Type", "text/event-stream")
			w.Header().Set("Perdure-Incarnation", "7")
			if len(asked) == 2 {
				fmt.Fprint(w, "event: end\ndata: {\"kind\":\"end\",\"status\":\"completed\"}\n\n")
			}
		}))
		for _, err := range dial(t, n, nil).Events(t.Context(), "t1", nil) {
			if err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(asked, []string{"", "7"}) {
			t.Errorf("got requests for the incarnations %q, want that of the first answer again", asked)
		}
	})
}

func TestAReaderThatStopsForAMinuteSlowsNobodyAndMissesNothing(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const length, pause = 12_000, 10 * time.Millisecond
		n := newNode(t, memstore.New(), new(memnet.Network), &perdurehttp.HandlerOptions{Logger: quiet}, pause)
		h := n.start("t1", length)
		began := time.Now()
		slow := dial(t, n.net, &perdurehttp.ClientOptions{WaitPatience: 10 * time.Second})
		var wg sync.WaitGroup
		for reader, client := range map[string]perdure.Client{"quick": n.client, "slow": slow} {
			wg.Go(func() {
				last := int64(0)
				for e, err := range client.Events(t.Context(), "t1", &perdure.EventOptions{Turn: h.Turn()}) {
					if err != nil {
						t.Errorf("%s reader: %v", reader, err)
						break
					}
					if late := time.Since(e.At); reader == "quick" && late > 100*time.Millisecond {
						t.Errorf("event %d was %v late", e.Number, late)
					}
					if last++; e.Kind != perdure.EventEnd && e.Number != last {
						t.Errorf("%s reader: got %d after %d", reader, e.Number, last-1)
						break
					}
					if reader == "slow" && last == 100 {
						<-time.After(time.Minute)
					}
				}
				if last != length+2 {
					t.Errorf("%s reader: got %d events, want %d and two ends", reader, last, length)
				}
			})
		}
		wg.Wait()
		if took := time.Since(began); took > length*pause+time.Second {
			t.Errorf("the turn took %v", took)
		}
	})
}

func TestReadersThatLeaveAreGone(t *testing.T) {
	inNode(t, nil, func(t *testing.T, n *node) {
		n.start("t1", 100)
		<-time.After(10 * time.Second)
		before := runtime.NumGoroutine()
		transport := n.net.Transport()
		reader, err := perdurehttp.NewClient("http://127.0.0.1", &perdurehttp.ClientOptions{HTTPClient: &http.Client{Transport: transport}})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				for e, err := range reader.Events(t.Context(), "t1", nil) {
					if err != nil || e.Number == int64(5+i%10) {
						break
					}
				}
			})
		}
		wg.Wait()
		transport.CloseIdleConnections()
		<-time.After(time.Second) // one more event, which finds nobody
		synctest.Wait()
		if now := runtime.NumGoroutine(); now > before {
			t.Errorf("%d goroutines, %d before the readers came", now, before)
		}
	})
}
