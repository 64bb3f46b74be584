package perdurehttp

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/perdure/perdure"
)

// tryTimeout bounds one try, beside what the server was asked to wait: a server that is silent for so
// long cannot be reached.
const tryTimeout = 30 * time.Second

// Delays between tries.
const (
	firstBackoff = 50 * time.Millisecond
	maxBackoff   = time.Second
)

// request is sent to the server, again and again if need be: all of the API's requests may be repeated.
type request struct {
	method, path string
	query        url.Values
	body         []byte
	wait         time.Duration // asked for with Prefer
	id           string        // by which a repeat is recognised, of requests without a body
}

// reply is a server's answer.
type reply struct {
	status int
	body   []byte
}

// do sends a request for the client's patience, and decodes the answer into v unless that is nil.
func (c *Client) do(ctx context.Context, req *request, v any) (*reply, error) {
	r, err := c.send(ctx, req, c.opts.Patience)
	if err != nil || v == nil {
		return r, err
	}
	return r, r.decode(v)
}

func (r *reply) decode(v any) error {
	if err := json.Unmarshal(r.body, v); err != nil {
		return fmt.Errorf("decode the server's answer: %w", err)
	}
	return nil
}

// send tries until the server answers, ctx ends, or it could not be reached for the given time (0: no
// limit).
func (c *Client) send(ctx context.Context, req *request, patience time.Duration) (*reply, error) {
	begin := time.Now()
	for pace := (pacer{}); ; {
		r, err := c.try(ctx, req)
		var u *unreachable
		if !errors.As(err, &u) {
			return r, err
		}
		if ctx.Err() != nil {
			return r, context.Cause(ctx)
		}
		if patience != 0 && time.Since(begin) >= patience {
			return r, err
		}
		if err := pace.pause(ctx, u.after); err != nil {
			return r, err
		}
	}
}

// unreachable says that the server could not be asked, or cannot answer now. errors.Is matches it with
// perdure.ErrUnavailable, and with what the server said, if it said something.
type unreachable struct {
	err   error
	after time.Duration // what the server asked to wait
}

func (e *unreachable) Error() string   { return "server unavailable: " + e.err.Error() }
func (e *unreachable) Unwrap() []error { return []error{perdure.ErrUnavailable, e.err} }

// try sends a request once. The reply is never nil. Errors: *unreachable; a *Problem; ctx's own.
func (c *Client) try(ctx context.Context, req *request) (*reply, error) {
	within, cancel := context.WithTimeout(ctx, tryTimeout+req.wait)
	defer cancel()
	hr, err := c.build(within, req)
	if err != nil {
		return &reply{}, err
	}
	res, err := c.http.Do(hr)
	if err != nil {
		return &reply{}, failure(ctx, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return &reply{}, failure(ctx, err)
	}
	r := &reply{status: res.StatusCode, body: body}
	if res.StatusCode/100 == 2 {
		return r, nil
	}
	return r, refusal(res, body)
}

func (c *Client) build(ctx context.Context, req *request) (*http.Request, error) {
	u := *c.base
	u.Path += req.path
	u.RawQuery = req.query.Encode()
	var body io.Reader
	if req.body != nil {
		body = bytes.NewReader(req.body)
	}
	hr, err := http.NewRequestWithContext(ctx, req.method, u.String(), body)
	if err != nil {
		return nil, err
	}
	if req.body != nil {
		hr.Header.Set("Content-Type", "application/json")
	}
	if req.wait > 0 {
		hr.Header.Set("Prefer", "wait="+strconv.Itoa(int(req.wait.Seconds())))
	}
	if req.id != "" {
		hr.Header.Set(requestHeader, req.id)
	}
	if c.opts.Token != "" {
		hr.Header.Set("Authorization", "Bearer "+c.opts.Token)
	}
	return hr, nil
}

// failure is why there is no answer. That a certificate is not accepted does not change by trying again.
func failure(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return err
	}
	return &unreachable{err: err}
}

// refusal is what an answer that is no success says. Gateways that cannot reach the server write
// something of their own.
func refusal(res *http.Response, body []byte) error {
	seconds, _ := strconv.ParseUint(res.Header.Get("Retry-After"), 10, 16)
	after := time.Duration(seconds) * time.Second
	media, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	var p Problem
	if media == "application/problem+json" && json.Unmarshal(body, &p) == nil && p.Code != "" {
		if p.Status == http.StatusServiceUnavailable {
			return &unreachable{err: p.received(), after: after}
		}
		return p.received()
	}
	err := fmt.Errorf("the server answered %s", res.Status)
	switch res.StatusCode {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return &unreachable{err: err, after: after}
	}
	return err
}

// pacer spaces tries: each pause is twice the one before, up to a second, less a random part.
type pacer struct{ last time.Duration }

// pause waits, at least as long as the server asked for but not beyond five seconds; it returns the cause
// of ctx's end if that comes first.
func (p *pacer) pause(ctx context.Context, asked time.Duration) error {
	p.last = min(max(2*p.last, firstBackoff), maxBackoff)
	d := max(p.last/2+rand.N(p.last/2), min(asked, 5*time.Second))
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
