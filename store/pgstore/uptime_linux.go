package pgstore

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/perdure/perdure/store"
)

var _ store.Uptimer = (*Store)(nil)

// Uptime implements store.Uptimer. With Options.UnsafeClock the machine has been up since 1970 by that clock, and slept
// when it was set forward.
func (s *Store) Uptime() time.Duration {
	if s.opts.UnsafeClock != nil {
		return s.opts.UnsafeClock().Sub(time.Unix(0, 0))
	}
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		return 0
	}
	return time.Duration(up.Nano())
}
