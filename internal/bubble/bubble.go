// Package bubble runs tests in testing/synctest bubbles of virtual time.
package bubble

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
)

// Test is synctest.Test. Under the race detector the program has one processor while a bubble lives:
// the timers of a bubble share one context of the detector, which is damaged when two processors use it
// at the same time (golang.org/issue/78156). The detector finds the same races on one.
func Test(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	if raceEnabled {
		defer oneProcessor()()
	}
	synctest.Test(t, test)
}

var (
	mu         sync.Mutex
	bubbles    int // that live now
	processors int // before the first of them
)

// oneProcessor leaves the program one processor until all who asked for that have called the function
// that it returns.
func oneProcessor() (release func()) {
	mu.Lock()
	defer mu.Unlock()
	if bubbles == 0 {
		processors = runtime.GOMAXPROCS(1)
	}
	bubbles++
	return func() {
		mu.Lock()
		defer mu.Unlock()
		if bubbles--; bubbles == 0 {
			runtime.GOMAXPROCS(processors)
		}
	}
}
