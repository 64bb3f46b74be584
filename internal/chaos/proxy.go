package chaos

import (
	"io"
	"net"
	"sync"
	"time"
)

// Trouble is what a proxy does to what passes through it.
type Trouble int

// Troubles. The zero value is none.
const (
	None    Trouble = iota
	Cut             // connections are closed, new ones refused
	Silence         // nothing passes in either direction, and nobody is told
	Deaf            // what the client says passes, the answers do not: commits whose answers are lost
	Slow            // everything takes a while longer
)

// slowness is how much longer each piece takes through a slow proxy.
const slowness = 50 * time.Millisecond

// Proxy stands between one worker and the database.
type Proxy struct {
	listener net.Listener
	target   string

	mu      sync.Mutex
	trouble Trouble
	eased   chan struct{} // closed when the trouble changes
	conns   map[net.Conn]bool
}

// NewProxy starts a proxy in front of an address.
func NewProxy(target string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: l, target: target, eased: make(chan struct{}), conns: map[net.Conn]bool{}}
	go p.accept()
	return p, nil
}

// Address is where the proxy listens.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

// Set changes the trouble. What was held back by silence is lost with its connection, as is what answers waited for.
func (p *Proxy) Set(t Trouble) {
	p.mu.Lock()
	defer p.mu.Unlock()
	drop := t == Cut || p.trouble == Silence || p.trouble == Deaf
	p.trouble = t
	close(p.eased)
	p.eased = make(chan struct{})
	if drop {
		for c := range p.conns {
			c.Close()
		}
	}
}

// Close ends the proxy.
func (p *Proxy) Close() {
	p.listener.Close()
	p.Set(Cut)
}

func (p *Proxy) now() (Trouble, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.trouble, p.eased
}

func (p *Proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.trouble == Cut {
		c.Close()
		return false
	}
	p.conns[c] = true
	return true
}

func (p *Proxy) forget(c net.Conn) {
	c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		go p.serve(client)
	}
}

func (p *Proxy) serve(client net.Conn) {
	if !p.keep(client) {
		return
	}
	defer p.forget(client)
	server, err := net.Dial("tcp", p.target)
	if err != nil || !p.keep(server) {
		return
	}
	defer p.forget(server)
	ended := make(chan struct{}, 2)
	go func() { p.pass(server, client, false); ended <- struct{}{} }()
	go func() { p.pass(client, server, true); ended <- struct{}{} }()
	<-ended
}

// pass copies one direction.
func (p *Proxy) pass(to io.Writer, from io.Reader, answers bool) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		for held := true; held; {
			trouble, eased := p.now()
			held = trouble == Silence || trouble == Deaf && answers
			switch {
			case held:
				<-eased
			case trouble == Slow:
				<-time.After(slowness)
			}
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}
