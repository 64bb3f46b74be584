//go:build !linux

package pgstore

import (
	"net"
	"time"
)

// setUserTimeout leaves the system's own limit.
func setUserTimeout(*net.TCPConn, time.Duration) error { return nil }
