// Package memnet is a network in memory, for tests: what blocks on it blocks durably, so that servers and
// clients can be tested in virtual time.
package memnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"syscall"
)

// Network is one address that at most one listener at a time serves.
type Network struct {
	mu       sync.Mutex
	listener *Listener
}

// Listener accepts the connections that are dialled while it is open.
type Listener struct {
	network *Network
	conns   chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

// Listen begins to serve the network's address.
func (n *Network) Listen() *Listener {
	l := &Listener{network: n, conns: make(chan net.Conn), closed: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listener = l
	return l
}

// Dial connects to the listener; without one it is refused, as TCP does.
func (n *Network) Dial(ctx context.Context) (net.Conn, error) {
	n.mu.Lock()
	l := n.listener
	n.mu.Unlock()
	if l == nil {
		return nil, refused()
	}
	here, there := net.Pipe()
	select {
	case l.conns <- there:
		return here, nil
	case <-l.closed:
		return nil, refused()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func refused() error {
	return &net.OpError{Op: "dial", Net: "mem", Err: fmt.Errorf("connect: %w", syscall.ECONNREFUSED)}
}

// Transport returns an HTTP transport whose every connection goes to this network.
func (n *Network) Transport() *http.Transport {
	return &http.Transport{
		DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return n.Dial(ctx) },
		MaxIdleConnsPerHost: 64,
	}
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. Connections that were accepted stay.
func (l *Listener) Close() error {
	err := errors.New("closed twice")
	l.once.Do(func() {
		err = nil
		close(l.closed)
		l.network.mu.Lock()
		defer l.network.mu.Unlock()
		if l.network.listener == l {
			l.network.listener = nil
		}
	})
	return err
}

// Addr implements net.Listener.
func (l *Listener) Addr() net.Addr { return addr{} }

type addr struct{}

func (addr) Network() string { return "mem" }
func (addr) String() string  { return "127.0.0.1:80" }
