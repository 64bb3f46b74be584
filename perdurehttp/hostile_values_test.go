package perdurehttp

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
)

// hostile makes requests that nobody should send, from the table of routes: what is added there is tried by itself.
type hostile struct {
	*rand.Rand
	routes []route
	ids    []string // of tasks that there may be
	made   int      // IDs that are new
	odds   int      // a part of a request that may well be hostile is so once in so many times
}

// attack is a request, and what it says of a start.
type attack struct {
	route  *route
	method string
	target string
	header []string // whole lines
	body   string
	fields map[string]string // of the body, as raw JSON
}

func (a *attack) String() string {
	return fmt.Sprintf("%s %.300q %.300q %.600q", a.method, a.target, a.header, a.body)
}

// texts are texts that something may stumble over.
var texts = []string{
	"", " ", "x", "\x00", "a\x00b", "\x7f", "\x1b[31m", "\xff", "na\xc3", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\u2028", "\u202e", "\ufeff", "\ufffd", "😀", "é",
	"null", "true", "NaN", "-1", "0", "00", "1e3", "1e400", "0x10", "9007199254740993", "9223372036854775807", "9223372036854775808", "-9223372036854775809",
	"18446744073709551616", "99999999999999999999999", "1.5", "+1", "'; DROP TABLE tasks; --", `"`, `\`, `a\:b:c`, ":", "a:b", "%00", "%zz", "%", "%2e%2e", "..", "../..", "a/b",
	"perdure.x", "current", "{}", "[]", "<script>", "a\r\nb", "\t", "*", "?", "#", ";", "&", "=", ",", "wait=1", "pending", "completed", "interrupt", "replace", "enqueue", "reject",
	"attach", "none", "committed", "turn", "1:z", "MTp6", `"1-1"`, `W/"1-1"`, "raw", "chat", "flaky",
}

// jsons are JSON texts, and some that are none, for members that want others.
var jsons = []string{
	"null", "true", "0", "-0", "-1", "1", "1.5", "1e400", "1E-400", "9007199254740993", "9223372036854775808", "123456789012345678901234567890", `""`, `"x"`, `"\u0000"`,
	`"a\u0000b"`, `"\ud800"`, `"\udc00\ud800"`, `"\ud83d\ude00"`, `"\uFFFF"`, "\"\xff\"", "\"na\xc3\"", "\"\x01\"", `"\x"`, "[]", "{}", "[1,2,[3]]", `{"a":1,"a":2}`, `{"text":"x"}`,
	`{"text":"x","TEXT":"y"}`, `{"text":"x","text":"y"}`, `{"text":1}`, `{"other":1}`, `{"\u0000":1}`, `{"\ud800":"v"}`, `{"":""}`, `{"perdure.x":"1"}`, `{"k":"v"}`, `{"k":"\u0000"}`,
	`{"k":"\ud800"}`, `{"k":null}`, `{"k":"v","k":"w"}`, "NaN", "Infinity", "{", "}", "[1,", `{"a":}`, "'x'", "01", "+1", "tru", "", " ", "\x00", "\ufeff{}", `"1s"`, `{"attempts":3}`,
	`{"attempts":2,"attempts":5}`, `{"attempts":2,"ATTEMPTS":5}`, `{"attempts":1e9,"initial":"1h"}`, `{"attempts":-1}`, `{"initial":"9999999h"}`, `{"factor":1e308,"attempts":9}`,
	`{"jitter":-1}`, `{"max":"-1s"}`, `{"attempts":3,"initial":"1ns"}`, `"<&>\u2028"`, `{"a":{"b":[{"c":1.0}]}}`, `1.000000000000000000000000000001`,
}

func (h *hostile) pick(from []string) string { return from[h.IntN(len(from))] }

func (h *hostile) one(in int) bool { return h.IntN(in) == 0 }

// text returns a text: one of the list, a long one, or bytes.
func (h *hostile) text() string {
	switch h.IntN(12) {
	case 0:
		return strings.Repeat(h.pick([]string{"x", "é", "😀", "a:", "\x00", "9"}), []int{64, 129, 257, 1025, 3000}[h.IntN(5)])
	case 1:
		b := make([]byte, h.IntN(12))
		for i := range b {
			b[i] = byte(h.IntN(256))
		}
		return string(b)
	case 2:
		return h.pick(texts) + h.pick(texts)
	}
	return h.pick(texts)
}

// value returns a JSON text: one of the list, a text as JSON, deep or long ones.
func (h *hostile) value() string {
	switch h.IntN(10) {
	case 0:
		n := []int{10, 900, 9_000, 9_990, 20_000}[h.IntN(5)]
		return strings.Repeat("[", n) + strings.Repeat("]", n)
	case 1:
		n := []int{10, 900, 9_990}[h.IntN(3)]
		return strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n)
	case 2:
		return "[" + strings.Repeat(h.pick(jsons)+",", h.IntN(300)) + "1]"
	case 3:
		many := map[string]string{}
		for i := range h.IntN(40) {
			many[fmt.Sprint("k", i)] = h.text()
		}
		b, _ := json.Marshal(many)
		return string(b)
	case 4, 5:
		b, _ := json.Marshal(h.text())
		return string(b)
	}
	return h.pick(jsons)
}

// fine returns a value that a member or parameter of that name is likely to take; "" if none is known.
func (h *hostile) fine(name string) string {
	switch name {
	case "func":
		return h.pick([]string{"raw", "raw", "raw", "chat", "flaky"})
	case "task_id":
		if h.made++; h.one(3) {
			return h.pick(h.ids)
		}
		id := fmt.Sprintf("%s-%d", h.ids[0], h.made)
		h.ids[1+h.IntN(len(h.ids)-1)] = id
		return id
	case "id":
		return h.pick(h.ids)
	case "input_id", "if_last_input_id", "request_id":
		return fmt.Sprint("i", h.IntN(5))
	case "turn", "n", "after", "limit", "incarnation", "version":
		return fmt.Sprint(1 + h.IntN(4))
	case "deliver":
		return h.pick([]string{"interrupt", "enqueue", "reject", "replace"})
	case "if_exists":
		return "attach"
	case "status":
		return h.pick([]string{"completed", "suspended", "failed"})
	case "tag":
		return "k:v"
	case "until":
		return h.pick([]string{"task", "turn"})
	case "view", "payload":
		return h.pick([]string{"live", "committed", "none"})
	case "session", "agent", "title", "description", "reason":
		return h.pick([]string{"s", "<b>é</b>", "😀"})
	}
	return ""
}

// attack makes a request.
func (h *hostile) attack() *attack {
	a := &attack{route: &h.routes[h.IntN(len(h.routes))], fields: map[string]string{}}
	h.odds = []int{4, 8, 60}[h.IntN(3)]
	if h.one(3) {
		a.route = &h.routes[0] // a start
	}
	if a.method = a.route.method; h.one(4 * h.odds) {
		a.method = h.pick([]string{"HEAD", "OPTIONS", "PUT", "PATCH", "TRACE", "FOO", "get", "DELETE", "POST", "GET"})
	}
	a.target = h.path(a.route.path) + h.query(a.route)
	h.headers(a)
	h.fill(a)
	return a
}

func (h *hostile) path(pattern string) string {
	for _, name := range []string{"id", "n"} {
		value := h.fine(name)
		if h.one(h.odds) {
			value = url.PathEscape(h.text())
		}
		pattern = strings.Replace(pattern, "{"+name+"}", value, 1)
	}
	if h.one(100) {
		pattern += h.pick([]string{"/", "//", "/..", "/x", "%00", "%zz", "/%2e%2e/"})
	}
	return pattern
}

func (h *hostile) query(rt *route) string {
	var all []string
	for _, p := range rt.params {
		if !h.one(3) {
			continue
		}
		times := 1
		if h.one(12) {
			times = []int{2, 99, 101, 1000}[h.IntN(4)]
		}
		for range times {
			value := h.fine(p.name)
			if value == "" || h.one(h.odds) {
				value = h.text()
			}
			all = append(all, p.name+"="+url.QueryEscape(value))
		}
	}
	if h.one(40) {
		all = append(all, url.QueryEscape(h.text())+"="+url.QueryEscape(h.text()))
	}
	if len(all) == 0 {
		return ""
	}
	return "?" + strings.Join(all, "&")
}

// waits are what is asked of Prefer: never to wait for long.
var waits = []string{"wait=0", "wait=1", "wait", "wait=x", "wait=-1", "wait=1e3", "wait=18446744073709551616", `wait="0"`, ",,;=", "respond-async"}

func (h *hostile) headers(a *attack) {
	line := func(name, value string) {
		a.header = append(a.header, name+": "+strings.NewReplacer("\r", "", "\n", "").Replace(value))
	}
	if h.one(8 * h.odds) {
		line("Host", h.text())
	} else {
		line("Host", "localhost")
	}
	if a.route.body != nil && !h.one(8*h.odds) {
		line("Content-Type", "application/json")
	}
	for _, c := range []struct {
		name   string
		values []string
	}{
		{"Accept", []string{eventStream, eventStream + ";q=0", "application/json", "*/*", "text/html", eventStream + ", application/json;q=0.5"}}, {"Prefer", waits},
		{"Content-Encoding", []string{"identity", "gzip"}}, {"Content-Type", []string{"application/json; charset=utf-8", "text/plain"}}, {"If-Match", []string{"*", `"1-1"`, `"1-2"`}},
		{"Last-Event-ID", []string{"0", "1", "99"}}, {requestHeader, []string{"r1", `"r2"`}}, {"Origin", []string{"http://localhost", "null"}}, {"Sec-Fetch-Site", []string{"none", "cross-site"}},
		{"Accept-Encoding", []string{"gzip"}}, {"Range", []string{"bytes=0-1"}}, {"X-Forwarded-For", nil}, {"Authorization", nil}, {"Cookie", nil}, {"Expect", []string{"100-continue"}},
	} {
		if !h.one(2*h.odds) || c.name == "Expect" && !h.one(10) {
			continue
		}
		value := h.text()
		if len(c.values) > 0 && !h.one(3) {
			value = h.pick(c.values)
		}
		if c.name == "Expect" {
			value = "100-continue"
		}
		times := 1
		if h.one(25) {
			times = []int{2, 100}[h.IntN(2)]
		}
		for range times {
			line(c.name, value)
		}
	}
}

// fill makes the body.
func (h *hostile) fill(a *attack) {
	switch {
	case a.route.body == nil:
		if h.one(20) {
			a.body = h.value()
		}
		return
	case h.one(6 * h.odds):
		a.body = h.value()
		return
	}
	var members []string
	for _, name := range fieldsOf(reflect.TypeOf(a.route.body)) {
		must := a.route.path == "/v1/tasks" && slices.Contains([]string{"func", "input", "task_id"}, name)
		if !must && !h.one(3) {
			continue
		}
		raw := h.value()
		if value := h.fine(name); value != "" && !h.one(h.odds) {
			b, _ := json.Marshal(value)
			if raw = string(b); name == "turn" || name == "incarnation" {
				raw = value
			}
		} else if value == "" && name == "tags" && !h.one(h.odds) {
			raw = h.pick([]string{`{"k":"v"}`, `{"k":"<é>","a\\:b":""}`})
		} else if name == "input" && a.fields["func"] == `"chat"` && !h.one(h.odds) {
			raw = `{"text":` + raw + `}`
		} else if name == "retry" && !h.one(h.odds) {
			raw = `{"attempts":2,"initial":"1ms"}`
		}
		a.fields[name] = raw
		members = append(members, fmt.Sprintf("%q:%s", name, raw))
	}
	if h.one(40) {
		name, _ := json.Marshal(h.text())
		members = append(members, string(name)+":"+h.value())
	}
	if h.one(40) && len(members) > 0 {
		members = append(members, h.pick(members))
	}
	a.body = "{" + strings.Join(members, ",") + "}"
	if h.one(60) {
		a.body += h.pick(texts)
	}
}

// malformed reports whether net/http refuses the request before it is ours: then a large body may cost the answer.
func (a *attack) malformed() bool {
	head := strings.Join(a.header, "")
	if _, err := url.ParseRequestURI(a.target); err != nil {
		return true
	}
	return strings.ContainsFunc(head, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) || a.header[0] != "Host: localhost"
}

// fieldsOf returns the names of a type's members on the wire.
func fieldsOf(t reflect.Type) (names []string) {
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous:
			names = append(names, fieldsOf(f.Type)...)
		case name != "" && name != "-":
			names = append(names, name)
		}
	}
	return names
}

// bytes returns the request as it is sent.
func (a *attack) bytes() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n%s\r\n", a.method, a.target, strings.Join(a.header, "\r\n"))
	if a.body != "" || a.method == http.MethodPost {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(a.body))
	}
	b.WriteString("\r\n" + a.body)
	return []byte(b.String())
}
