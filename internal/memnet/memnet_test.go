package memnet_test

import (
	"errors"
	"io"
	"syscall"
	"testing"

	"github.com/perdure/perdure/internal/memnet"
)

func TestDialIsRefusedWithoutAListener(t *testing.T) {
	n := new(memnet.Network)
	l := n.Listen()
	go func() {
		conn, err := l.Accept()
		if err == nil {
			io.WriteString(conn, "hello")
			conn.Close()
		}
	}()
	conn, err := n.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); string(got) != "hello" || err != nil {
		t.Errorf("read %q, %v, want hello", got, err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if _, err := n.Dial(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("Dial after Close: got %v, want it refused", err)
	}
	n.Listen()
	if l.Close() == nil {
		t.Error("closing twice: got nil, want an error")
	}
}
