// Package perduretest runs durable functions in tests: on a store in memory, in virtual time, through
// crashes at chosen points.
//
//	func TestSurvivesCrash(t *testing.T) {
//		perduretest.Run(t, nil, func(t *testing.T, h *perduretest.Harness) {
//			h.CrashAt(perduretest.After, perduretest.Checkpoint, 1) // the process dies right after the first checkpoint
//			res, err := Import.Run(t.Context(), h.Client(), Input{…}, nil)
//			…
//			turn := h.Turns(res.TaskID)[0] // entered as perdure.Recovered
//		}, Import.Bind(importer))
//	}
//
// The test runs in a testing/synctest bubble: time stands still while anything runs, and jumps to the next
// timer when everything waits, so that a retry in an hour takes no time. Handlers must not wait for
// anything outside the bubble, such as a network connection.
package perduretest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/memstore"
)

// Lease is the default lease of the harness's engines: how long, in virtual time, a crashed process's
// tasks wait for the next.
const Lease = time.Second

// Harness is a store in memory with one process at a time that runs funcs on it. Its methods may be
// called concurrently, also by handlers.
type Harness struct {
	t     *testing.T
	opts  perdure.Options
	store store.Store
	hints *hints

	mu     sync.Mutex
	now    *process
	points []point
	writes map[Write]int
	wg     sync.WaitGroup
}

// process is one start of an engine. Its death is that of its store.
type process struct {
	eng   *perdure.Engine
	store *mortal
	stop  context.CancelFunc
	err   error
	last  bool // it was stopped for good; guarded by Harness.mu
}

// Run calls test in a bubble of virtual time with a harness that runs the given funcs. opts may be nil;
// its Funcs are ignored, its Lease is [Lease] by default. When test returns, the engine is shut down; the
// test fails if that is not complete.
func Run(t *testing.T, opts *perdure.Options, test func(t *testing.T, h *Harness), funcs ...perdure.Binding) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		h := &Harness{t: t, store: memstore.New(), hints: &hints{}, writes: map[Write]int{}}
		if opts != nil {
			h.opts = *opts
		}
		h.opts.Funcs = funcs
		if h.opts.Lease == 0 {
			h.opts.Lease = Lease
		}
		h.start()
		defer func() { // also after a t.Fatal, which would else leave the bubble with the engine in it
			h.Stop()
			h.wg.Wait()
		}()
		test(t, h)
	})
}

func (h *Harness) start() {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	p := &process{store: newMortal(h)}
	var err error
	if p.eng, err = perdure.New(p.store, &h.opts); err != nil {
		h.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(h.t.Context()))
	p.stop = stop
	h.now = p
	h.wg.Go(func() { p.err = p.eng.Run(ctx) })
}

func (h *Harness) process() *process {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

// Client returns a client of whatever process is running. Calls that a crash cuts off are made again at
// the next process, as a caller elsewhere would.
func (h *Harness) Client() perdure.Client { return client{h} }

// Engine returns the engine that is running now.
func (h *Harness) Engine() *perdure.Engine { return h.process().eng }

// Crash kills the process at once, as kill -9 does: nothing more of it is stored, and its handlers'
// contexts end. Another one is started; it takes over when the lease has lapsed.
func (h *Harness) Crash() {
	h.process().store.die()
	h.start()
}

// Restart shuts the process down as a deployment does, and starts another.
func (h *Harness) Restart() {
	h.t.Helper()
	h.shutDown()
	h.start()
}

// Stop shuts the process down. The test fails if handlers do not return. Until another process is started, calls
// of the client that need one fail with perdure.ErrShuttingDown.
func (h *Harness) Stop() {
	h.t.Helper()
	h.mu.Lock()
	h.now.last = true
	h.mu.Unlock()
	h.shutDown()
}

func (h *Harness) shutDown() {
	h.t.Helper()
	h.process().stop()
	h.wg.Wait()
	if err := h.process().err; err != nil {
		h.t.Errorf("shutdown: %v", err)
	}
}

// over reports whether a process was stopped for good, and no other has come after it.
func (h *Harness) over(p *process) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now == p && p.last
}

// Advance lets virtual time pass.
func (h *Harness) Advance(d time.Duration) { <-time.After(d) }

// Task returns a task as it is now.
func (h *Harness) Task(id string) *perdure.Info {
	h.t.Helper()
	info, err := h.Client().Task(h.t.Context(), id)
	if err != nil {
		h.t.Fatal(err)
	}
	return info
}

// Turns returns the turns of a task, with their inputs and outcomes.
func (h *Harness) Turns(id string) []*perdure.TurnInfo {
	h.t.Helper()
	var turns []*perdure.TurnInfo
	for turn, err := range h.Client().Turns(h.t.Context(), id, nil) {
		if err != nil {
			h.t.Fatal(err)
		}
		turns = append(turns, turn)
	}
	return turns
}

// Write names a kind of store write.
type Write string

// Kinds of writes, in the order of a task's life.
const (
	Start      Write = "start"
	Claim      Write = "claim"
	Checkpoint Write = "checkpoint"
	End        Write = "end" // of a turn, or of an attempt
)

// When says on which side of a write the process dies.
type When int

// Sides of a write.
const (
	Before When = iota // nothing was stored
	After              // it was stored, but nobody in the process knows
)

type point struct {
	when  When
	write Write
	n     int
}

// CrashAt makes the process die before or after the nth write of a kind, counted from the start of the
// test over all processes. Another process is started at once.
func (h *Harness) CrashAt(when When, write Write, n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.points = append(h.points, point{when, write, n})
}

// count counts a write that is about to happen and says which points are on it.
func (h *Harness) count(w Write) (before, after bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.writes[w]++
	for _, p := range h.points {
		if p.write == w && p.n == h.writes[w] {
			before = before || p.when == Before
			after = after || p.when == After
		}
	}
	return before, after
}
