package perdurehttp

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure"
)

func FuzzQuery(f *testing.F) {
	for _, q := range []string{"", "limit=10&status=pending", "tag=a:b&tag=a%5C:b:c", "cursor=" + formatCursor(42), "limit=%zz", "a;b", "tag=:"} {
		f.Add(q)
	}
	params := taskRoutes()[1].params
	f.Fuzz(func(t *testing.T, raw string) {
		values, err := parseQuery(raw, params)
		if err != nil {
			wantInvalid(t, err)
			return
		}
		opts, err := listOptions(&call{query: values})
		if err != nil {
			wantInvalid(t, err)
			return
		}
		if opts.Limit < 1 || opts.Limit > maxLimit || opts.Before < 0 {
			t.Errorf("%q: got %+v, want a limit of 1 to %d and a position", raw, opts, maxLimit)
		}
	})
}

func FuzzCursor(f *testing.F) {
	f.Add(formatCursor(1))
	f.Add("MTotNQ")
	f.Fuzz(func(t *testing.T, cursor string) {
		before, err := parseCursor(cursor)
		if err != nil {
			wantInvalid(t, err)
			return
		}
		if again, err := parseCursor(formatCursor(before)); before != 0 && (again != before || err != nil) {
			t.Errorf("%q: got %d, then %d, %v", cursor, before, again, err)
		}
	})
}

func FuzzTag(f *testing.F) {
	f.Add("key", "value")
	f.Add(`a:b\`, `:\`)
	f.Fuzz(func(t *testing.T, key, value string) {
		if k, v, ok := cutTag(formatTag(key, value)); k != key || v != value || !ok {
			t.Errorf("got %q, %q, %v, want %q, %q", k, v, ok, key, value)
		}
	})
}

func FuzzPrefer(f *testing.F) {
	for _, p := range []string{"wait=10", "respond-async, wait=5", `Wait="7"; x=y`, "wait", "wait=-1", ",,="} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, header string) {
		wait, err := parsePrefer([]string{header})
		if err != nil {
			wantInvalid(t, err)
		}
		if wait < 0 || wait > maxWait {
			t.Errorf("%q: got %v, want 0 to %v", header, wait, maxWait)
		}
	})
}

func TestAnEmptyIfMatchIsRefused(t *testing.T) {
	_, _, err := ifMatch(http.Header{"If-Match": {""}})
	wantInvalid(t, err)
	if i, v, err := ifMatch(http.Header{}); i != 0 || v != 0 || err != nil {
		t.Errorf("without the header: got %d, %d, %v", i, v, err)
	}
}

func FuzzIfMatch(f *testing.F) {
	for _, h := range []string{"*", `"1-2"`, `W/"1-2"`, `"1-2", "3-4"`, `"+1-2"`} {
		f.Add(h)
	}
	f.Fuzz(func(t *testing.T, header string) {
		i, v, err := parseIfMatch(header)
		if err != nil {
			wantInvalid(t, err)
		} else if v != 0 && formatETag(i, v) != header {
			t.Errorf("%q: got %d and %d, whose tag is %s", header, i, v, formatETag(i, v))
		}
	})
}

func FuzzBody(f *testing.F) {
	for _, b := range []string{`{"func":"f","input":{"a":1}}`, `{"tags":{"a":"b"},"retry":{"attempts":3,"initial":"1s"}}`, `[]`, `{"input":NaN}`,
		`{"func":"f"}x`, `{"func":"f","func":"g"}`, "{\"title\":\"\xff\"}", ``} {
		f.Add([]byte(b))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var req perdure.StartRequest
		if err := decodeObject(data, startMembers(&req)); err != nil {
			wantInvalid(t, err)
			return
		}
		if req.Input == nil {
			return
		}
		again, err := encode(&req)
		if err != nil {
			t.Fatalf("%q was taken but does not encode: %v", data, err)
		}
		var same perdure.StartRequest
		if err := decodeObject(again, startMembers(&same)); err != nil {
			t.Errorf("%q was taken, but as %q is not: %v", data, again, err)
		}
	})
}

func wantInvalid(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, perdure.ErrInvalid) {
		t.Errorf("got %v, want ErrInvalid", err)
	}
}

func TestPreferences(t *testing.T) {
	for header, want := range map[string]time.Duration{"": 0, "respond-async": 0, "wait=10": 10 * time.Second, `WAIT = "7"`: 7 * time.Second,
		"a=b;c, wait=5; d": 5 * time.Second, "wait=0": 0, "wait=61": maxWait, "wait=3, wait=4": 3 * time.Second} {
		if got, err := parsePrefer([]string{header}); got != want || err != nil {
			t.Errorf("Prefer: %s: got %v, %v, want %v", header, got, err, want)
		}
	}
}

func TestWhatAcceptHeadersWant(t *testing.T) {
	for header, want := range map[string]bool{"": false, "*/*": false, "text/html": false, eventStream: true, "Text/Event-Stream; charset=utf-8": true,
		eventStream + ";q=0": false, eventStream + ";q=0.000": false, eventStream + "; q=0.1": true, eventStream + ";q=x": false, eventStream + ";q=-1": false, eventStream + ";q=NaN": false,
		"application/json, " + eventStream: true, eventStream + ";q=0.5, application/json": false, eventStream + ";q=0.5, application/json;q=0.5": true,
		"application/json;q=0, " + eventStream + ";q=0.2": true, eventStream + ";q=0, " + eventStream: true} {
		if got := wantsStream(strings.SplitAfter(header, ",")); got != want {
			t.Errorf("Accept: %s: got %v, want %v", header, got, want)
		}
	}
}

func TestEveryErrorOfTheTableComesBack(t *testing.T) {
	for _, err := range []error{perdure.ErrNotFound, perdure.ErrDeleted, perdure.ErrInputMismatch, perdure.ErrDigestKey, perdure.ErrQueueFull,
		perdure.ErrUnknownFunc, perdure.ErrStoreInUse, perdure.ErrClosed, perdure.ErrShuttingDown, perdure.ErrUnavailable, perdure.ErrTooLarge,
		perdure.ErrInvalid, perdure.ErrParked} {
		p := problemOf(fmt.Errorf("some task: %w", err), "t1")
		p.cause = nil // it does not travel
		if got := p.received(); !errors.Is(got, err) || p.TaskID != "t1" {
			t.Errorf("%v: as %s came back as %v", err, p.Code, errors.Unwrap(got))
		}
	}
}

func TestCodesAreOneRowEach(t *testing.T) {
	seen := map[Code]bool{}
	for _, k := range kinds {
		if seen[k.code] || k.title == "" || k.status < 400 {
			t.Errorf("row %+v: its code is there twice, or it lacks something", k)
		}
		seen[k.code] = true
	}
}

func TestARouteTakesOnlyParametersOfItsTable(t *testing.T) {
	for _, rt := range routes() {
		if _, err := parseQuery(url.Values{"nobody": {"1"}}.Encode(), rt.params); err == nil {
			t.Errorf("%s %s takes any parameter", rt.method, rt.path)
		}
	}
}

// FuzzEventStream reads what a server, or something in its place, may send.
func FuzzEventStream(f *testing.F) {
	f.Add([]byte("retry: 500\n\nid: 1\nevent: message\ndata: {\"number\":1,\"kind\":\"message\",\"data\":{}}\n\nevent: end\ndata: {\"kind\":\"end\"}\n\n"))
	f.Add([]byte("data: {\"number\":9223372036854775807,\"kind\":\"gap\",\"first\":3}\n\ndata: {\"number\":-1}\n\n: c\r\rdata:\n\n"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		last, ends := int64(0), 0
		fl := &follower{yield: func(e perdure.Event, _ error) bool {
			if e.Number != 0 && e.Number <= last || ends > 0 {
				t.Errorf("got number %d after %d, %d ends before", e.Number, last, ends)
			}
			last = max(last, e.Number)
			if e.Kind == perdure.EventEnd {
				ends++
			}
			return true
		}}
		if err := fl.read(bytes.NewReader(stream)); (ends == 1) != errors.Is(err, errRead) {
			t.Errorf("got %v with %d ends", err, ends)
		}
	})
}
