package rules

import (
	"sync"
	"time"
)

// Clock is the time of a store that has no clock of its own: the machine's, which never stands still and never goes
// back. After the machine's is set back it goes on from where it was. The zero value is ready for use.
type Clock struct {
	Wall   func() time.Time // nil: time.Now
	Steady bool             // it takes no part in steps of the machine's clock at all, and stands while the machine sleeps

	mu   sync.Mutex
	last time.Time // what was told last, of the wall
	at   time.Time // when, on the monotonic clock
}

// Now returns the time in UTC, truncated to microseconds.
func (c *Clock) Now() time.Time {
	at := time.Now()
	wall := at
	if c.Wall != nil {
		wall = c.Wall()
	}
	wall = wall.Round(0)
	c.mu.Lock()
	defer c.mu.Unlock()
	now := wall
	if gone := c.last.Add(at.Sub(c.at)); !c.at.IsZero() && (c.Steady || gone.After(wall)) {
		now = gone
	}
	c.last, c.at = now, at
	return now.UTC().Truncate(time.Microsecond)
}
