package bubble_test

import (
	"sync"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/bubble"
)

// Without one processor the race detector ends the program in the first rounds.
func TestTimersOfABubbleMayFireInManyGoroutinesAtOnce(t *testing.T) {
	for range 10 {
		bubble.Test(t, func(*testing.T) {
			var fired sync.WaitGroup
			for range 8 {
				fired.Go(func() {
					for range 500 {
						timer := time.NewTimer(0)
						select {
						case <-timer.C:
						default:
						}
						timer.Stop()
					}
				})
			}
			fired.Wait()
		})
	}
}
