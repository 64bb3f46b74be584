package perdurehttp

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// guard refuses requests that a page of another origin may have made a browser send.
func (h *Handler) guard(r *http.Request) error {
	if !h.hostAllowed(r.Host) {
		return newProblem(CodeForbidden, "host %s is not served here", quote(r.Host))
	}
	if err := h.origins.Check(r); err != nil || !sameOrigin(r) {
		return newProblem(CodeForbidden, "requests of other origins are not served")
	}
	return nil
}

// hostAllowed refuses names that somebody else's DNS may have pointed here. Addresses are safe: a page
// that was loaded from one is of that origin.
func (h *Handler) hostAllowed(hostport string) bool {
	if hostport == "" || h.hosts["*"] {
		return true // HTTP/1.0 without a Host: no browser
	}
	host := hostport
	if name, _, err := net.SplitHostPort(hostport); err == nil {
		host = name
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || h.hosts[host]
}

// sameOrigin refuses reads by other origins too, which http.CrossOriginProtection lets through.
func sameOrigin(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
	default:
		return false
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host == r.Host
}

// admit takes a slot for a request; leave gives it back.
func (h *Handler) admit(rt *route, c *call) (leave func(), err error) {
	slots, what := h.working, "in flight"
	switch {
	case rt.always:
		return func() {}, nil
	case c.sse:
		slots, what = h.streams, "streams"
	case c.wait > 0:
		slots, what = h.waiting, "waiting"
	}
	select {
	case slots <- struct{}{}:
		return func() { <-slots }, nil
	default:
		return nil, newProblem(CodeUnavailable, "%d requests are %s already", cap(slots), what)
	}
}
