//go:build unix

package crashtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/perdure/perdure"
)

// burstRounds is how often a server is killed in the middle of a burst.
const burstRounds = 50

func TestABurstOutlastsKillsOfItsServer(t *testing.T) {
	p := newPlace(t)
	p.start("")
	accepted, full := 0, 0
	for round := range max(burstRounds, *rounds) {
		b := &burst{place: p, task: fmt.Sprint("burst-", round), turns: map[int64]string{}}
		b.send(11)
		<-time.After(time.Duration(rand.IntN(60)) * time.Millisecond)
		p.kill()
		p.start("")
		b.callers.Wait()
		b.check()
		accepted += len(b.turns)
		full += b.full
		if t.Failed() {
			return
		}
	}
	p.enteredOncePerEpoch()
	if accepted < 5*burstRounds {
		t.Errorf("only %d inputs were accepted", accepted)
	}
	t.Logf("proof: %d kills of a server in the middle of a burst of steers, %d inputs accepted, each had its turn and its outcome; %d refused as the queue was full",
		max(burstRounds, *rounds), accepted, full)
}

// burst is what many clients say to one task at once.
type burst struct {
	*place
	task    string
	callers sync.WaitGroup

	mu    sync.Mutex
	turns map[int64]string // messages by turn, as accepted
	last  perdure.Result[Heard]
	full  int
}

func (b *burst) send(n int) {
	for i := range n {
		b.callers.Go(func() {
			if i > 0 {
				<-time.After(time.Duration(rand.IntN(30)) * time.Millisecond)
			}
			b.say(fmt.Sprint("message ", i))
		})
	}
}

// say sends a message and waits for its outcome. A client asks again by itself while the server is away.
func (b *burst) say(message string) {
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	h, err := talk.Start(ctx, b.client, message, &perdure.StartOptions{TaskID: b.task})
	if errors.Is(err, perdure.ErrQueueFull) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.full++
		return
	}
	if err != nil {
		b.t.Errorf("%s: %s: %v", b.task, message, err)
		return
	}
	r, err := h.Result(ctx)
	if err != nil || r.Status != perdure.Completed || !slices.Contains(r.Output.Heard, message) {
		b.t.Errorf("%s: %s: got %+v, %v, want it completed and heard", b.task, message, r, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if other := b.turns[h.Turn()]; other != "" {
		b.t.Errorf("%s: turn %d is that of %q and of %q", b.task, h.Turn(), other, message)
	}
	b.turns[h.Turn()] = message
	if r.Turn > b.last.Turn {
		b.last = r
	}
}

// check holds what the last turn has heard beside what was accepted, and asks for every outcome again.
func (b *burst) check() {
	b.t.Helper()
	var want []string
	for n := int64(1); n <= int64(len(b.turns)); n++ {
		want = append(want, b.turns[n])
		h, err := talk.Attach(b.t.Context(), b.client, b.task, &perdure.AttachOptions{Turn: n})
		if err != nil {
			b.t.Errorf("%s: turn %d: %v", b.task, n, err)
			return
		}
		if r, err := h.Result(b.t.Context()); err != nil || !slices.Equal(r.Output.Heard, want) {
			b.t.Errorf("G1: %s: turn %d: got %+v, %v, want heard %q", b.task, n, r, err, want)
		}
	}
	if !slices.Equal(b.last.Output.Heard, want) {
		b.t.Errorf("G1: %s: the last turn has heard %q, want %q", b.task, b.last.Output.Heard, want)
	}
}
