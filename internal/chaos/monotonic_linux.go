package chaos

import "golang.org/x/sys/unix"

// monotonic is the time since the machine started, the same for all processes whatever their clocks say.
func monotonic() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // every Linux has it
	return t.Nano()
}
