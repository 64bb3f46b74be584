package engine_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/internal/rig"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/memstore"
	"github.com/perdure/perdure/store/storetest"
)

// held is a store whose answers to one method can be kept back after it has done its work.
type held struct {
	store.Store
	kept rig.Box[map[string]chan struct{}] // by method
}

// hold keeps back the answers of a method until the returned function is called.
func (h *held) hold(op string) (release func()) {
	gate := make(chan struct{})
	h.kept.Set(map[string]chan struct{}{op: gate})
	return func() {
		h.kept.Set(nil)
		close(gate)
		synctest.Wait()
	}
}

func (h *held) answer(op string) {
	if gate := h.kept.Get()[op]; gate != nil {
		<-gate
	}
}

func (h *held) Offer(ctx context.Context, req *store.OfferRequest) (*store.Offered, error) {
	defer h.answer("Offer")
	return h.Store.Offer(ctx, req)
}

func (h *held) Settle(ctx context.Context, req *store.SettleRequest) (*store.Settled, error) {
	defer h.answer("Settle")
	return h.Store.Settle(ctx, req)
}

func (h *held) Checkpoint(ctx context.Context, req *store.CheckpointRequest) (*store.Checkpointed, error) {
	defer h.answer("Checkpoint")
	return h.Store.Checkpoint(ctx, req)
}

func (h *held) Signal(ctx context.Context, req *store.SignalRequest) (*store.Signalled, error) {
	defer h.answer("Signal")
	return h.Store.Signal(ctx, req)
}

func (h *held) Claim(ctx context.Context, req *store.ClaimRequest) (*store.Claimed, error) {
	c, err := h.Store.Claim(ctx, req)
	if err == nil && len(c.Entries) > 0 {
		h.answer("Claim")
	}
	return c, err
}

// talk is a multi-turn func whose turns wait for the interrupt or for a word; the last one to be entered
// can be looked at.
type talk struct {
	f    *rig.Func
	now  atomic.Pointer[rig.Turn]
	word chan struct{}
}

func newTalk() *talk {
	return &talk{
		f:    perdure.NewFunc[int, int]("talk", &rig.Options{MultiTurn: true, Steerable: true}),
		word: make(chan struct{}),
	}
}

func (k *talk) bind() perdure.Binding {
	return k.f.Bind(func(_ context.Context, turn *rig.Turn) (int, error) {
		k.now.Store(turn)
		select {
		case <-turn.Interrupt().Done():
			return 0, context.Cause(turn.Interrupt())
		case <-k.word:
			return turn.Input(), nil
		}
	})
}

// next lets the turn return and the next one begin.
func (k *talk) next() {
	k.word <- struct{}{}
	synctest.Wait()
}

func TestALateAnswerToACancelDoesNotStopTheTurnAfter(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		k, st := newTalk(), &held{Store: memstore.New()}
		s := rig.Serve(t, st, perdure.Options{}, k.bind())
		first := rig.Start(t, s.Client, k.f, 1, "t")
		second := rig.StartWith(t, s.Client, k.f, 2, &perdure.StartOptions{TaskID: "t", Deliver: perdure.Enqueue})
		release := st.hold("Signal")
		go first.Cancel(t.Context(), "enough")
		synctest.Wait()
		k.next()
		release()
		rig.Is(t, "C3: the turn that runs", k.now.Load().Number(), second.Turn())
		rig.Is(t, "C3: its causes", k.now.Load().Causes(), perdure.Causes{})
		rig.Ends(t, "C3", first, perdure.Completed)
	})
}

func TestALateAnswerToASteerDoesNotInterruptItsOwnTurn(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		k, st := newTalk(), &held{Store: memstore.New()}
		s := rig.Serve(t, st, perdure.Options{}, k.bind())
		rig.Start(t, s.Client, k.f, 1, "t")
		synctest.Wait()
		release := st.hold("Offer")
		go k.f.Start(t.Context(), s.Client, 2, &perdure.StartOptions{TaskID: "t"})
		synctest.Wait()
		k.next()
		release()
		rig.Is(t, "C2: the turn that runs", k.now.Load().Number(), 2)
		rig.Is(t, "C2: its causes", k.now.Load().Causes(), perdure.Causes{})
		rig.Is(t, "G6: Pending", k.now.Load().Pending(), 0)
	})
}

// A steer of a task that has never been leased is no news for the turns that come after the one it waits behind.
func TestNewsOfATaskThatWasNeverLeasedIsForNoLaterTurn(t *testing.T) {
	opts := &rig.Options{MultiTurn: true, Steerable: true, MaxRunning: 1}
	f := perdure.NewFunc[int, int]("f", opts)
	g := perdure.NewFunc[int, int]("g", nil)
	bubble.Test(t, func(t *testing.T) {
		full, entered := make(chan struct{}), make(chan perdure.Causes, 10)
		st := &held{Store: memstore.New()}
		s := rig.Serve(t, st, perdure.Options{}, f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
			if turn.Input() == 0 {
				<-full
				return 0, nil
			}
			entered <- turn.Causes()
			return 0, nil
		}), g.Bind(func(context.Context, *rig.Turn) (int, error) { return 0, nil }))
		rig.Start(t, s.Client, f, 0, "full")
		release := st.hold("Offer")
		started := make(chan struct{})
		go func() { defer close(started); rig.Start(t, s.Client, g, 1, "held") }() // a lease that is on its way all the time
		synctest.Wait()
		st.kept.Set(nil)
		for input := 1; input <= 2; input++ {
			rig.StartWith(t, s.Client, f, input, &perdure.StartOptions{TaskID: "t"})
		}
		close(full)
		rig.After(polled)
		rig.Is(t, "turns entered", len(entered), 2)
		rig.Is(t, "causes of the turn that was steered", <-entered, perdure.Causes{Steered: true})
		rig.Is(t, "causes of the turn after it", <-entered, perdure.Causes{})
		release()
		<-started
	})
}

// polled is when a worker has asked what there is for it.
const polled = 1001 * time.Millisecond

// beforeEntry does something to a task while the lease of its turn is on its way to the engine, and
// returns the causes that its handler is entered with.
func beforeEntry(t *testing.T, elsewhere bool, do func(t *testing.T, c perdure.Client, f *rig.Func)) *perdure.Causes {
	t.Helper()
	var causes rig.Box[*perdure.Causes]
	f := perdure.NewFunc[int, int]("f", &rig.Options{Steerable: true})
	bubble.Test(t, func(t *testing.T) {
		mem := memstore.New()
		st := &held{Store: mem}
		s := rig.Serve(t, st, perdure.Options{}, f.Bind(func(_ context.Context, turn *rig.Turn) (int, error) {
			now := turn.Causes()
			if causes.Get() == nil {
				causes.Set(&now)
			}
			return 1, nil
		}))
		client, err := perdure.New(mem, nil)
		if err != nil {
			t.Fatal(err)
		}
		release := st.hold("Claim")
		rig.Start(t, client.Client(), f, 1, "t")
		rig.After(polled)
		rig.Is(t, "status while the lease is on its way", rig.Task(t, s.Client, "t").Status, perdure.InProgress)
		if elsewhere {
			do(t, client.Client(), f)
			rig.After(polled)
		} else {
			do(t, s.Client, f)
		}
		release()
		rig.After(polled)
	})
	return causes.Get()
}

func TestWhatIsAskedWhileALeaseIsOnItsWayReachesTheHandler(t *testing.T) {
	for where, elsewhere := range map[string]bool{"here": false, "elsewhere": true} {
		t.Run(where, func(t *testing.T) {
			got := beforeEntry(t, elsewhere, func(t *testing.T, c perdure.Client, _ *rig.Func) {
				c.Cancel(t.Context(), "t", &perdure.CancelOptions{Reason: "enough"})
			})
			if want := (perdure.Causes{Cancel: true, CancelReason: "enough"}); got == nil || *got != want {
				t.Errorf("C3: entered with %+v, want %+v", got, want)
			}
			got = beforeEntry(t, elsewhere, func(t *testing.T, c perdure.Client, f *rig.Func) { rig.Start(t, c, f, 2, "t") })
			if want := (perdure.Causes{Steered: true}); got == nil || *got != want {
				t.Errorf("G5: entered with %+v, want %+v", got, want)
			}
			got = beforeEntry(t, elsewhere, func(t *testing.T, c perdure.Client, _ *rig.Func) { c.Terminate(t.Context(), "t", nil) })
			if got != nil {
				t.Errorf("C4: a terminated turn was entered")
			}
			got = beforeEntry(t, elsewhere, func(t *testing.T, c perdure.Client, _ *rig.Func) { c.Delete(t.Context(), "t", nil) })
			if got != nil {
				t.Errorf("C6: a turn of a deleted task was entered")
			}
		})
	}
}

func TestASteerWhoseAnswerWasLostInterruptsAtOnce(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		k := newTalk()
		st, f := rig.Faulty(memstore.New())
		s := rig.Serve(t, st, perdure.Options{}, k.bind())
		first := rig.Start(t, s.Client, k.f, 1, "t")
		f.Only("Offer", storetest.FailAfter)
		second := rig.Start(t, s.Client, k.f, 2, "t")
		synctest.Wait()
		rig.Is(t, "O6: the turn that runs", k.now.Load().Number(), second.Turn())
		rig.Ends(t, "O6", first, perdure.Cancelled)
		rig.Is(t, "O6: Known", second.Known(), true)
	})
}

func TestPendingIsLive(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		k, mem := newTalk(), memstore.New()
		s := rig.Serve(t, mem, perdure.Options{}, k.bind())
		other, err := perdure.New(mem, nil)
		if err != nil {
			t.Fatal(err)
		}
		rig.Start(t, s.Client, k.f, 1, "t")
		behind := func(c perdure.Client, deliver perdure.Deliver) *perdure.Handle[int] {
			h := rig.StartWith(t, c, k.f, 2, &perdure.StartOptions{TaskID: "t", Deliver: deliver})
			rig.After(polled)
			return h
		}
		for where, c := range map[string]perdure.Client{"here": s.Client, "elsewhere": other.Client()} {
			h := behind(c, perdure.Enqueue)
			rig.Is(t, "G6: Pending after an input from "+where, k.now.Load().Pending(), 1)
			behind(c, perdure.Enqueue)
			rig.Is(t, "G6: Pending after another from "+where, k.now.Load().Pending(), 2)
			h.Cancel(t.Context(), "")
			rig.After(polled)
			rig.Is(t, "G3: Pending after one was withdrawn "+where, k.now.Load().Pending(), 1)
			rig.Is(t, "G3: causes", k.now.Load().Causes(), perdure.Causes{})
			k.next()
			k.next()
			rig.Start(t, s.Client, k.f, 1, "t")
			synctest.Wait()
		}
	})
}

func TestReplaceDropsWhatIsQueued(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", &rig.Options{Steerable: true, MaxPending: 2})
	var pending rig.Box[int]
	rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
		rig.Start(t, s.Client, f, 1, "t")
		second := rig.StartWith(t, s.Client, f, 2, &perdure.StartOptions{TaskID: "t", Deliver: perdure.Enqueue})
		third := rig.StartWith(t, s.Client, f, 3, &perdure.StartOptions{TaskID: "t", Deliver: perdure.Enqueue})
		fourth := rig.StartWith(t, s.Client, f, 4, &perdure.StartOptions{TaskID: "t", Deliver: perdure.Replace})
		rig.Is(t, "Numbers: turn", fourth.Turn(), 4)
		rig.Ends(t, "Numbers", second, perdure.Refused)
		rig.Ends(t, "Numbers", third, perdure.Refused)
		rig.Ends(t, "Numbers", fourth, perdure.Completed)
		rig.Is(t, "G6: Pending after replace", pending.Get(), 1)
	}, f.Bind(func(_ context.Context, turn *rig.Turn) (int, error) {
		if turn.Number() == 1 {
			<-turn.Interrupt().Done()
			pending.Set(turn.Pending())
		}
		return turn.Input(), nil
	}))
}
