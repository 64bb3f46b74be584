package perdurehttp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/perdure/perdure"
)

// ClientOptions are the options of a Client. The zero value of each field is its default.
type ClientOptions struct {
	// HTTPClient sends the requests. The default follows no redirects and keeps idle connections. One
	// with a Timeout must leave Outcome its waits of half a minute.
	HTTPClient *http.Client
	// Token is sent as a bearer token. Servers without tokens ignore it.
	Token string
	// Patience is how long a call tries to reach a server that cannot be reached, or is unavailable, or
	// shuts down, before it fails with ErrUnavailable: default 15 s. Negative: one try.
	Patience time.Duration
	// WaitPatience is the same for Outcome, and for Events since the connection broke: default, until the
	// context ends.
	WaitPatience time.Duration
}

// Client reaches an engine through its HTTP API. It is a perdure.Client: the same calls, the same errors.
// Beside those, a call fails with ErrUnavailable when the server could not be reached for the client's
// patience; for a start that means that the input may have been accepted: start again with the same task
// and input ID. Its methods may be called concurrently.
type Client struct {
	base *url.URL
	http *http.Client
	opts ClientOptions
}

var _ perdure.Client = (*Client)(nil)

const (
	defaultPatience = 15 * time.Second
	taskPageSize    = 200
	turnPageSize    = 100
	currentTurn     = "current"
)

// NewClient returns a client of the API at a base URL such as http://127.0.0.1:8088; opts may be nil. It
// connects to nothing.
func NewClient(baseURL string, opts *ClientOptions) (*Client, error) {
	base, err := url.Parse(strings.TrimSuffix(baseURL, "/"))
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" || base.RawQuery != "" || base.Fragment != "" {
		return nil, fmt.Errorf("new client: %w: %s is not the URL of an HTTP server", perdure.ErrInvalid, quote(baseURL))
	}
	c := &Client{base: base}
	if opts != nil {
		c.opts = *opts
	}
	if strings.ContainsFunc(c.opts.Token, unicode.IsControl) {
		return nil, fmt.Errorf("new client: %w: the token has a control character", perdure.ErrInvalid)
	}
	c.opts.Patience = or(c.opts.Patience, defaultPatience)
	c.http = c.opts.HTTPClient
	if c.http == nil {
		c.http = &http.Client{
			Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 64,
				IdleConnTimeout: 90 * time.Second, TLSHandshakeTimeout: 10 * time.Second, ForceAttemptHTTP2: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	return c, nil
}

// Start implements perdure.Client.
func (c *Client) Start(ctx context.Context, start *perdure.StartRequest) (*perdure.Accepted, error) {
	if start.Tx != nil {
		return nil, fmt.Errorf("%w: it does not go over HTTP", perdure.ErrTx)
	}
	req := *start
	for _, id := range []*string{&req.TaskID, &req.InputID} {
		if *id == "" {
			*id = newID() // before the first try: a repeat is recognised (O6)
		}
	}
	if len(bytes.TrimSpace(req.Input)) == 0 {
		return nil, fmt.Errorf("%w: input is missing", perdure.ErrInvalid)
	}
	texts := []string{req.Func, req.TaskID, req.InputID, req.IfLastInputID, string(req.IfExists), string(req.Deliver),
		req.Title, req.Description, req.Session}
	for k, v := range req.Tags {
		texts = append(texts, k, v)
	}
	body, err := encode(&req, texts...)
	if err != nil {
		return nil, err
	}
	var a perdure.Accepted
	_, err = c.do(ctx, &request{method: http.MethodPost, path: "/v1/tasks", body: body}, &a)
	if err != nil {
		return nil, about(err, "start task "+req.TaskID+" with input "+req.InputID)
	}
	return &a, nil
}

// encode encodes a body. JSON would replace what is no UTF-8 in the given texts without a word.
func encode(body any, texts ...string) ([]byte, error) {
	for _, text := range texts {
		if !utf8.ValidString(text) {
			return nil, fmt.Errorf("%w: a text is not UTF-8", perdure.ErrInvalid)
		}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(body); err != nil {
		return nil, fmt.Errorf("%w: input is not JSON", perdure.ErrInvalid)
	}
	return b.Bytes(), nil
}

// Task implements perdure.Client.
func (c *Client) Task(ctx context.Context, id string) (*perdure.Info, error) {
	return get[perdure.Info](ctx, c, id, "", nil)
}

// Turn implements perdure.Client.
func (c *Client) Turn(ctx context.Context, q perdure.TurnQuery) (*perdure.TurnInfo, error) {
	query := url.Values{}
	setNumber(query, "incarnation", q.Incarnation)
	if q.NoPayload {
		query.Set("payload", noPayload)
	}
	if q.Turn == 0 && q.InputID != "" {
		if err := turnThere(q); err != nil {
			return nil, err
		}
		query.Set("input_id", q.InputID)
		page, err := get[turnPage](ctx, c, q.TaskID, "/turns", query)
		if err != nil {
			return nil, err
		}
		if len(page.Turns) != 1 {
			return nil, fmt.Errorf("turn of task %s: the server answered %d turns", q.TaskID, len(page.Turns))
		}
		return page.Turns[0], nil
	}
	n := currentTurn
	if q.Turn != 0 {
		n = strconv.FormatInt(q.Turn, 10)
	}
	return get[perdure.TurnInfo](ctx, c, q.TaskID, "/turns/"+n, query)
}

// get reads something of a task.
func get[T any](ctx context.Context, c *Client, id, below string, query url.Values) (*T, error) {
	path, err := taskPath(id)
	if err != nil {
		return nil, err
	}
	v := new(T)
	if _, err := c.do(ctx, &request{method: http.MethodGet, path: path + below, query: query}, v); err != nil {
		return nil, about(err, "task "+id)
	}
	return v, nil
}

// about says what a failed call was about, unless the server has said so.
func about(err error, what string) error {
	if _, ok := errors.AsType[*Problem](err); ok {
		return err
	}
	return fmt.Errorf("%s: %w", what, err)
}

// Turns implements perdure.Client.
func (c *Client) Turns(ctx context.Context, id string, opts *perdure.TurnsOptions) iter.Seq2[*perdure.TurnInfo, error] {
	var o perdure.TurnsOptions
	if opts != nil {
		o = *opts
	}
	return func(yield func(*perdure.TurnInfo, error) bool) {
		query := url.Values{}
		for next, left := max(o.After, 0), o.Limit; ; {
			limit := turnPageSize
			if o.Limit > 0 {
				limit = min(limit, left)
			}
			query.Set("limit", strconv.Itoa(limit))
			setNumber(query, "after", next)
			page, err := get[turnPage](ctx, c, id, "/turns", query)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, turn := range page.Turns {
				if !yield(turn, nil) {
					return
				}
			}
			left -= len(page.Turns)
			if next = page.NextAfter; next == 0 || o.Limit > 0 && left <= 0 {
				return
			}
		}
	}
}

// Tasks implements perdure.Client.
func (c *Client) Tasks(ctx context.Context, opts *perdure.ListOptions) iter.Seq2[*perdure.Info, error] {
	if opts == nil {
		opts = &perdure.ListOptions{}
	}
	some := canList(opts)
	query, most := listQuery(opts), opts.Limit
	return func(yield func(*perdure.Info, error) bool) {
		if !some {
			return
		}
		query := maps.Clone(query)
		for left := most; ; left -= taskPageSize {
			limit := taskPageSize
			if most > 0 {
				limit = min(limit, left)
			}
			if limit <= 0 {
				return
			}
			query.Set("limit", strconv.Itoa(limit))
			var page taskPage
			if _, err := c.do(ctx, &request{method: http.MethodGet, path: "/v1/tasks", query: query}, &page); err != nil {
				yield(nil, about(err, "list tasks"))
				return
			}
			for _, info := range page.Tasks {
				if !yield(info, nil) {
					return
				}
			}
			if page.NextCursor == "" {
				return
			}
			query.Set("cursor", page.NextCursor)
		}
	}
}

// Cancel implements perdure.Client.
func (c *Client) Cancel(ctx context.Context, id string, opts *perdure.CancelOptions) (perdure.Status, error) {
	var body cancelBody
	if opts != nil {
		body = cancelBody{Turn: opts.Turn, InputID: opts.InputID, signalBody: signalBody{opts.Reason, opts.Incarnation, opts.RequestID}}
	}
	body.name()
	if body.Turn != 0 {
		body.InputID = ""
	}
	if err := turnThere(perdure.TurnQuery{TaskID: id, InputID: body.InputID}); err != nil {
		return "", err
	}
	return c.ask(ctx, id, "/cancel", body, body.Reason)
}

// Terminate implements perdure.Client.
func (c *Client) Terminate(ctx context.Context, id string, opts *perdure.TerminateOptions) (perdure.Status, error) {
	var body terminateBody
	if opts != nil {
		body = terminateBody{signalBody{opts.Reason, opts.Incarnation, opts.RequestID}}
	}
	body.name()
	return c.ask(ctx, id, "/terminate", body, body.Reason)
}

// name gives an operation the ID by which a repeat is recognised, before the first try, unless the caller has (O6).
func (b *signalBody) name() {
	if b.RequestID == "" {
		b.RequestID = newID()
	}
}

func newID() string { return uuid.Must(uuid.NewV7()).String() }

// Resume implements perdure.Client.
func (c *Client) Resume(ctx context.Context, id string, opts *perdure.ResumeOptions) (perdure.Status, error) {
	var body signalBody
	if opts != nil {
		body = signalBody{Incarnation: opts.Incarnation, RequestID: opts.RequestID}
	}
	body.name()
	return c.ask(ctx, id, "/resume", body, "")
}

func (c *Client) ask(ctx context.Context, id, what string, body any, reason string) (perdure.Status, error) {
	path, err := taskPath(id)
	if err != nil {
		return "", err
	}
	data, err := encode(body, reason)
	if err != nil {
		return "", err
	}
	var answer taskStatus
	if _, err := c.do(ctx, &request{method: http.MethodPost, path: path + what, body: data}, &answer); err != nil {
		return "", about(err, what[1:]+" task "+id)
	}
	return answer.Status, nil
}

// Delete implements perdure.Client.
func (c *Client) Delete(ctx context.Context, id string, opts *perdure.DeleteOptions) error {
	path, err := taskPath(id)
	if err != nil {
		return nil // it cannot be there
	}
	query, request := url.Values{}, &request{method: http.MethodDelete, path: path, id: newID()}
	if opts != nil {
		setNumber(query, "version", opts.Version)
		setNumber(query, "incarnation", opts.Incarnation)
		request.id = or(opts.RequestID, request.id)
	}
	if !identifier.MatchString(request.id) { // it would not go into a header
		return fmt.Errorf("delete task %s: %w: request_id %s is not an ID", id, perdure.ErrInvalid, quote(request.id))
	}
	request.query = query
	if _, err := c.do(ctx, request, nil); err != nil {
		return about(err, "delete task "+id)
	}
	return nil
}

// Funcs returns the funcs that are bound to the server's engine, by name.
func (c *Client) Funcs(ctx context.Context) ([]perdure.FuncInfo, error) {
	var list funcList
	if _, err := c.do(ctx, &request{method: http.MethodGet, path: "/v1/funcs"}, &list); err != nil {
		return nil, about(err, "list funcs")
	}
	return list.Funcs, nil
}

// Workers returns the workers that are alive on the server's store; Self marks the server's own.
func (c *Client) Workers(ctx context.Context) ([]perdure.WorkerInfo, error) {
	var list workerList
	if _, err := c.do(ctx, &request{method: http.MethodGet, path: "/v1/workers"}, &list); err != nil {
		return nil, about(err, "list workers")
	}
	return list.Workers, nil
}

// Ready asks once whether the server's engine takes work, and returns why it does not:
// ErrShuttingDown or ErrUnavailable, with the reason as text.
func (c *Client) Ready(ctx context.Context) error {
	_, err := c.try(ctx, &request{method: http.MethodGet, path: "/readyz"})
	return err
}
