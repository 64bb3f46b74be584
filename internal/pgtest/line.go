package pgtest

import (
	"net"
	"sync"
	"testing"
	"time"
)

// Line is a proxy through which everything takes longer by a delay, as over a long line: much may be under way at once.
type Line struct {
	listener net.Listener
	target   string
	delay    time.Duration

	mu    sync.Mutex
	conns []net.Conn
}

// StartLine starts a line to an address, and ends it when the test ends.
func StartLine(t testing.TB, target string, delay time.Duration) *Line {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	line := &Line{listener: l, target: target, delay: delay}
	t.Cleanup(line.Cut)
	go line.accept()
	return line
}

// Address is where the line begins.
func (l *Line) Address() string { return l.listener.Addr().String() }

// Cut ends the line and all that is under way on it.
func (l *Line) Cut() {
	l.listener.Close()
	l.Drop()
}

// Drop ends what is under way. New connections are taken.
func (l *Line) Drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		c.Close()
	}
	l.conns = nil
}

func (l *Line) accept() {
	for {
		near, err := l.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", l.target)
		if err != nil {
			near.Close()
			continue
		}
		l.mu.Lock()
		l.conns = append(l.conns, near, far)
		l.mu.Unlock()
		go l.pass(near, far)
		go l.pass(far, near)
	}
}

// piece is what was read at once, and when it is due at the other end.
type piece struct {
	data []byte
	due  time.Time
}

// pass copies one direction.
func (l *Line) pass(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	under := make(chan piece, 10000)
	go func() {
		defer close(under)
		for {
			buffer := make([]byte, 64<<10)
			n, err := from.Read(buffer)
			if err != nil {
				return
			}
			under <- piece{buffer[:n], time.Now().Add(l.delay)}
		}
	}()
	defer func() {
		for range under { // until the reader has ended
		}
	}()
	for p := range under {
		<-time.After(time.Until(p.due))
		if _, err := to.Write(p.data); err != nil {
			from.Close()
			return
		}
	}
}
