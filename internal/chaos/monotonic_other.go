//go:build !linux

package chaos

import "time"

// monotonic is the wall's time: where no clocks are faked it does.
func monotonic() int64 { return time.Now().UnixNano() }
