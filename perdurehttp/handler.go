package perdurehttp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/perdure/perdure"
)

// HandlerOptions are the options of a Handler. The zero value of each field is its default.
type HandlerOptions struct {
	// Logger gets what the handler has to say: failures of the store, panics. Default: slog.Default().
	Logger *slog.Logger
	// Hosts are the names, without port, under which the API may be asked for, beside addresses,
	// localhost and names under localhost; "*" allows every name.
	Hosts []string
	// MaxBody bounds a request's body, in bytes: default the engine's limit of an input, and 256 KiB.
	MaxBody int64
	// BodyTimeout bounds how long a body may take to arrive: default 1 min.
	BodyTimeout time.Duration
	// MaxInFlight bounds the requests that are worked on at once, MaxWaiting those that wait with
	// Prefer: wait; what is beyond is refused as unavailable. Defaults 256 and 10,000.
	MaxInFlight, MaxWaiting int
	// MaxStreams bounds the streams that are read as Server-Sent Events: default 10,000.
	MaxStreams int
	// ProbesOnly leaves out the API: only /healthz, /readyz and /metrics are served.
	ProbesOnly bool
	// Heartbeat is how often a stream on which nothing happens gets a comment: default 15 s.
	Heartbeat time.Duration
}

const (
	bodySlack          = 256 << 10
	defaultBodyTimeout = time.Minute
	defaultMaxInFlight = 256
	defaultMaxWaiting  = 10_000
	defaultMaxStreams  = 10_000
	defaultHeartbeat   = 15 * time.Second
)

// Handler serves the HTTP API of an engine. It is an http.Handler and may be mounted below a prefix with
// http.StripPrefix. Its server should set ReadHeaderTimeout, and no WriteTimeout below a minute.
type Handler struct {
	eng     *perdure.Engine
	client  perdure.Client
	opts    HandlerOptions
	log     *slog.Logger
	maxBody int64
	hosts   map[string]bool
	mux     *http.ServeMux
	origins http.CrossOriginProtection
	working chan struct{} // a slot for each request in flight
	waiting chan struct{} // a slot for each request that waits
	streams chan struct{} // a slot for each stream
	closed  context.Context
	close   context.CancelFunc
	openAPI func() ([]byte, error)
}

// NewHandler returns a handler on an engine; opts may be nil. It serves before, while and after the
// engine runs, and starts nothing.
func NewHandler(eng *perdure.Engine, opts *HandlerOptions) *Handler {
	h := &Handler{eng: eng, client: eng.Client(), hosts: map[string]bool{}, mux: http.NewServeMux()}
	if opts != nil {
		h.opts = *opts
	}
	h.log = or(h.opts.Logger, slog.Default())
	h.opts.BodyTimeout = or(h.opts.BodyTimeout, defaultBodyTimeout)
	h.maxBody = or(h.opts.MaxBody, int64(eng.Limits().Input)+bodySlack)
	h.working = make(chan struct{}, or(h.opts.MaxInFlight, defaultMaxInFlight))
	h.waiting = make(chan struct{}, or(h.opts.MaxWaiting, defaultMaxWaiting))
	h.streams = make(chan struct{}, or(h.opts.MaxStreams, defaultMaxStreams))
	h.opts.Heartbeat = or(h.opts.Heartbeat, defaultHeartbeat)
	h.closed, h.close = context.WithCancel(context.Background())
	for _, host := range h.opts.Hosts {
		h.hosts[strings.ToLower(host)] = true
	}
	h.openAPI = sync.OnceValues(func() ([]byte, error) { return document(routes()) })
	h.register(routes())
	return h
}

// CloseStreams ends the streams that are being read, and those that are begun later: their readers go on at
// another server, or at the next one here. It is meant for http.Server.RegisterOnShutdown.
func (h *Handler) CloseStreams() { h.close() }

// apiPrefix begins the paths of the API; the others are for those who run the server.
const apiPrefix = "/v1/"

// register makes the mux serve the routes, and answer other methods and paths with problems.
func (h *Handler) register(routes []route) {
	methods := map[string][]string{}
	for _, rt := range routes {
		if h.opts.ProbesOnly && strings.HasPrefix(rt.path, apiPrefix) {
			continue
		}
		h.mux.HandleFunc(rt.method+" "+rt.path, func(w http.ResponseWriter, r *http.Request) { h.serve(&rt, w, r) })
		methods[rt.path] = append(methods[rt.path], rt.method)
	}
	for path, allowed := range methods {
		if slices.Contains(allowed, http.MethodGet) {
			allowed = append(allowed, http.MethodHead) // which the mux gives to GET
		}
		allow := strings.Join(append(allowed, http.MethodOptions), ", ")
		h.mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Allow", allow)
			if r.Method == http.MethodOptions {
				w.WriteHeader(http.StatusNoContent)
				return
			}
			h.fail(w, r, newProblem(CodeMethod, "%s takes %s", path, allow))
		})
	}
	h.mux.HandleFunc("/", h.noRoute)
}

func (h *Handler) noRoute(w http.ResponseWriter, r *http.Request) {
	h.fail(w, r, newProblem(CodeNoRoute, "there is no such route; see /v1/openapi.json"))
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer h.recovered(w, r)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	if r.ContentLength != 0 { // bounds what the server discards, too
		r = r.WithContext(r.Context()) // a copy: the server looks at the body that it has made
		r.Body = &watched{ReadCloser: r.Body}
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(h.opts.BodyTimeout)) // not every ResponseWriter can
	}
	if err := h.guard(r); err != nil {
		h.fail(w, r, err)
		return
	}
	if p := r.URL.EscapedPath(); path.Clean(p) != p {
		h.noRoute(w, r)
		return
	}
	h.mux.ServeHTTP(w, r)
}

// recovered answers a panic of a route.
func (h *Handler) recovered(w http.ResponseWriter, r *http.Request) {
	cause := recover()
	if cause == nil {
		return
	}
	if cause == http.ErrAbortHandler {
		panic(http.ErrAbortHandler) // whoever wants the connection cut off has it cut off
	}
	h.log.Error("request panicked", "method", r.Method, "panic", fmt.Sprint(cause), "stack", string(debug.Stack()))
	h.write(w, http.StatusInternalServerError, problemOf(fmt.Errorf("panic"), ""))
}

// call is a request to a route, its parameters checked.
type call struct {
	w     http.ResponseWriter
	r     *http.Request
	id    string // the task of the path, if the route has one
	query url.Values
	wait  time.Duration // of Prefer, on a route that waits
	sse   bool          // Server-Sent Events are wanted, on a route that streams
}

// unary is the context of what is answered at once: a change that has arrived is made whatever the caller does, so that a
// proxy that gives up leaves nothing half done, and one who has only closed its own side gets its answer. The engine
// bounds it.
func (c *call) unary() context.Context { return context.WithoutCancel(c.r.Context()) }

// Of who has closed its side: how long it may still hear what is waited for, and how often a stream sees whether it does.
const (
	closedGrace = 15 * time.Second
	closedBeat  = time.Second
)

// lasting is the context of what waits: it ends with the caller, of whom HTTP/1 cannot tell whether it has gone or only
// closed its own side; then it goes on for a while.
func (c *call) lasting() (context.Context, context.CancelFunc) {
	if c.r.ProtoMajor != 1 {
		return context.WithCancel(c.r.Context())
	}
	ctx, cancel := context.WithCancel(c.unary())
	stop := context.AfterFunc(c.r.Context(), func() {
		late := time.NewTimer(closedGrace)
		defer late.Stop()
		select {
		case <-late.C:
			cancel()
		case <-ctx.Done():
		}
	})
	return ctx, func() { stop(); cancel() }
}

// serve checks a request against its route, and runs it.
func (h *Handler) serve(rt *route, w http.ResponseWriter, r *http.Request) {
	c := &call{w: w, r: r, id: r.PathValue("id")}
	err := c.check(rt)
	if err == nil {
		var leave func()
		if leave, err = h.admit(rt, c); err == nil {
			defer leave()
			err = rt.serve(h, c)
		}
	}
	if err != nil {
		h.fail(w, r, err)
	}
}

// check refuses what the request's head is refused for, and then a body where none is taken.
func (c *call) check(rt *route) (err error) {
	if c.id != "" && !identifier.MatchString(c.id) {
		c.r.SetPathValue("id", "") // nothing of it belongs into an answer
		return fmt.Errorf("task %s: %w", quote(c.id), perdure.ErrNotFound)
	}
	if c.query, err = parseQuery(c.r.URL.RawQuery, rt.params); err != nil {
		return err
	}
	if rt.waits {
		if c.wait, err = parsePrefer(c.r.Header.Values("Prefer")); err != nil {
			return err
		}
	}
	c.sse = rt.streams && wantsStream(c.r.Header.Values("Accept"))
	if c.r.Method == http.MethodHead {
		c.wait = 0 // nobody would see what is waited for
	}
	if rt.body == nil {
		return nothingSent(c.w, c.r)
	}
	return nil
}

// fail writes an error as a problem.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	p := problemOf(err, r.PathValue("id"))
	if k, _ := lookup(p.Code); k.quiet || p.secret {
		attrs := []any{"route", r.Pattern, "task", p.TaskID, "code", p.Code, "error", p.cause}
		if panicked, ok := errors.AsType[*perdure.PanicError](p.cause); ok {
			attrs = append(attrs, "stack", panicked.Stack())
		}
		h.log.Error("request failed", attrs...)
	}
	if p.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	if p.Status < http.StatusInternalServerError {
		h.refuse(w, r, p)
		return
	}
	h.write(w, p.Status, p)
}

// write writes an answer; problems have a media type of their own.
func (h *Handler) write(w http.ResponseWriter, status int, v any) {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		h.log.Error("answer not encoded", "error", err)
		k, _ := lookup(CodeInternal)
		status, v = k.status, k.problem("")
		body.Reset()
		_ = enc.Encode(v) // strings only
	}
	media := "application/json"
	if _, ok := v.(*Problem); ok {
		media = "application/problem+json"
	}
	h.send(w, status, media, body.Bytes())
}

func (h *Handler) send(w http.ResponseWriter, status int, media string, body []byte) {
	w.Header().Set("Content-Type", media)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // fails when the caller has gone
}

// or returns v, or the default if v is zero.
func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}
