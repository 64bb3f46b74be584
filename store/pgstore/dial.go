package pgstore

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Postgres answers a request to cancel a commit that waits for a standby by ending the wait, not the commit: what it wrote can
// be seen from then on, though no standby has it. So the connections of the store send no such request: when a context ends, or
// a connection breaks, pgx dials the address that the connection names, and finds none. A client that only hangs up leaves the
// wait as it is.

// nowhere is the address that a connection of the store names. No network has it.
type nowhere struct{}

func (nowhere) Network() string { return "nowhere" }
func (nowhere) String() string  { return "nowhere" }

// quiet is a connection to which no request to cancel is sent.
type quiet struct {
	net.Conn
	given atomic.Bool // up: pgx has wanted to cancel what it does
}

// RemoteAddr is where pgx sends a request to cancel. It uses it for nothing else.
func (q *quiet) RemoteAddr() net.Addr {
	q.given.Store(true)
	return nowhere{}
}

// closeWithin is how long a connection that was given up may take to close. Its place in the pool is free only then, and
// what it does is not cancelled.
const closeWithin = time.Second

// SetDeadline bounds how long pgx reads what still comes over a connection that it has given up.
func (q *quiet) SetDeadline(t time.Time) error {
	if soon := time.Now().Add(closeWithin); q.given.Load() && t.After(soon) {
		t = soon
	}
	return q.Conn.SetDeadline(t)
}

var errNoCancel = errors.New("no request to cancel is sent")

// Times after which a connection counts as broken whose other machine does not answer. A commit may wait for as long as that
// lives.
const (
	aliveAfter = 10 * time.Second // of silence it is asked
	aliveEvery = 5 * time.Second
	aliveTries = 3
	aliveLimit = aliveAfter + aliveTries*aliveEvery
)

// noticeDeath changes a configuration, so that its connections notice when their server's machine is gone.
func noticeDeath(config *pgconn.Config) {
	dial := config.DialFunc
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			err = errors.Join(tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: aliveAfter, Interval: aliveEvery, Count: aliveTries}),
				setUserTimeout(tcp, aliveLimit))
		}
		if err != nil {
			conn.Close()
			return nil, err
		}
		return conn, nil
	}
}

// guard changes a configuration, so that its connections send no requests to cancel, and remember warnings that a commit did
// not wait for its standbys.
func guard(config *pgconn.Config) {
	noticeDeath(config)
	dial := config.DialFunc
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if network == (nowhere{}).Network() {
			return nil, errNoCancel
		}
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &quiet{Conn: conn}, nil
	}
	told := config.OnNotice
	config.OnNotice = func(c *pgconn.PgConn, n *pgconn.Notice) {
		if saysUnreplicated(n) {
			c.CustomData()[unreplicated] = true
		}
		if told != nil {
			told(c, n)
		}
	}
}

// unreplicated marks a connection whose last commit has not waited for its standbys.
const unreplicated = "perdure: unreplicated"

// saysUnreplicated reports whether a notice says that a commit has not waited for its standbys: a warning of the part of the
// server that waits, or one that does not say of which part it is.
func saysUnreplicated(n *pgconn.Notice) bool {
	if strings.HasPrefix(n.Routine, "SyncRep") {
		return true
	}
	return strings.HasPrefix(n.Code, "01") && n.Routine == ""
}

// tookWarning reports whether such a notice has come since it was last asked.
func tookWarning(c *pgconn.PgConn) bool {
	_, warned := c.CustomData()[unreplicated]
	delete(c.CustomData(), unreplicated)
	return warned
}
