package perdure_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/memstore"
	"github.com/perdure/perdure/store/storetest"
)

// held is a store whose answers to one method can be kept back after it has done its work.
type held struct {
	store.Store
	kept box[map[string]chan struct{}] // by method
}

// hold keeps back the answers of a method until the returned function is called.
func (h *held) hold(op string) (release func()) {
	gate := make(chan struct{})
	h.kept.set(map[string]chan struct{}{op: gate})
	return func() {
		h.kept.set(nil)
		close(gate)
		synctest.Wait()
	}
}

func (h *held) answer(op string) {
	if gate := h.kept.get()[op]; gate != nil {
		<-gate
	}
}

func (h *held) Offer(ctx context.Context, req *store.OfferRequest) (*store.Offered, error) {
	defer h.answer("Offer")
	return h.Store.Offer(ctx, req)
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
	f    *fn
	now  atomic.Pointer[turnOf]
	word chan struct{}
}

func newTalk() *talk {
	return &talk{
		f:    perdure.NewFunc[int, int]("talk", &options{MultiTurn: true, Steerable: true}),
		word: make(chan struct{}),
	}
}

func (k *talk) bind() perdure.Binding {
	return k.f.Bind(func(_ context.Context, turn *turnOf) (int, error) {
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
		s := serve(t, st, perdure.Options{}, k.bind())
		first := start(t, s.c, k.f, 1, "t")
		second := startWith(t, s.c, k.f, 2, &perdure.StartOptions{TaskID: "t", Deliver: perdure.Enqueue})
		release := st.hold("Signal")
		go first.Cancel(t.Context(), "enough")
		synctest.Wait()
		k.next()
		release()
		is(t, "C3: the turn that runs", k.now.Load().Number(), second.Turn())
		is(t, "C3: its causes", k.now.Load().Causes(), perdure.Causes{})
		ends(t, "C3", first, perdure.Completed)
	})
}

func TestALateAnswerToASteerDoesNotInterruptItsOwnTurn(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		k, st := newTalk(), &held{Store: memstore.New()}
		s := serve(t, st, perdure.Options{}, k.bind())
		start(t, s.c, k.f, 1, "t")
		synctest.Wait()
		release := st.hold("Offer")
		go k.f.Start(t.Context(), s.c, 2, &perdure.StartOptions{TaskID: "t"})
		synctest.Wait()
		k.next()
		release()
		is(t, "C2: the turn that runs", k.now.Load().Number(), 2)
		is(t, "C2: its causes", k.now.Load().Causes(), perdure.Causes{})
		is(t, "G6: Pending", k.now.Load().Pending(), 0)
	})
}

// beforeEntry does something to a task while the lease of its turn is on its way to the engine, and
// returns the causes that its handler is entered with.
func beforeEntry(t *testing.T, elsewhere bool, do func(t *testing.T, c perdure.Client, f *fn)) *perdure.Causes {
	t.Helper()
	var causes box[*perdure.Causes]
	f := perdure.NewFunc[int, int]("f", &options{Steerable: true})
	bubble.Test(t, func(t *testing.T) {
		mem := memstore.New()
		st := &held{Store: mem}
		s := serve(t, st, perdure.Options{}, f.Bind(func(_ context.Context, turn *turnOf) (int, error) {
			now := turn.Causes()
			if causes.get() == nil {
				causes.set(&now)
			}
			return 1, nil
		}))
		client, err := perdure.New(mem, nil)
		if err != nil {
			t.Fatal(err)
		}
		release := st.hold("Claim")
		start(t, client.Client(), f, 1, "t")
		after(time.Second)
		is(t, "status while the lease is on its way", task(t, s.c, "t").Status, perdure.InProgress)
		if elsewhere {
			do(t, client.Client(), f)
			after(time.Second)
		} else {
			do(t, s.c, f)
		}
		release()
		after(time.Second)
	})
	return causes.get()
}

func TestWhatIsAskedWhileALeaseIsOnItsWayReachesTheHandler(t *testing.T) {
	for where, elsewhere := range map[string]bool{"here": false, "elsewhere": true} {
		t.Run(where, func(t *testing.T) {
			got := beforeEntry(t, elsewhere, func(t *testing.T, c perdure.Client, _ *fn) {
				c.Cancel(t.Context(), "t", &perdure.CancelOptions{Reason: "enough"})
			})
			if want := (perdure.Causes{Cancel: true, CancelReason: "enough"}); got == nil || *got != want {
				t.Errorf("C3: entered with %+v, want %+v", got, want)
			}
			got = beforeEntry(t, elsewhere, func(t *testing.T, c perdure.Client, f *fn) { start(t, c, f, 2, "t") })
			if want := (perdure.Causes{Steered: true}); got == nil || *got != want {
				t.Errorf("G5: entered with %+v, want %+v", got, want)
			}
			got = beforeEntry(t, elsewhere, func(t *testing.T, c perdure.Client, _ *fn) { c.Terminate(t.Context(), "t", nil) })
			if got != nil {
				t.Errorf("C4: a terminated turn was entered")
			}
			got = beforeEntry(t, elsewhere, func(t *testing.T, c perdure.Client, _ *fn) { c.Delete(t.Context(), "t", nil) })
			if got != nil {
				t.Errorf("C6: a turn of a deleted task was entered")
			}
		})
	}
}

func TestASteerWhoseAnswerWasLostInterruptsAtOnce(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		k := newTalk()
		st, f := faulty(memstore.New())
		s := serve(t, st, perdure.Options{}, k.bind())
		first := start(t, s.c, k.f, 1, "t")
		f.only("Offer", storetest.FailAfter)
		second := start(t, s.c, k.f, 2, "t")
		synctest.Wait()
		is(t, "O6: the turn that runs", k.now.Load().Number(), second.Turn())
		ends(t, "O6", first, perdure.Cancelled)
		is(t, "O6: Known", second.Known(), true)
	})
}

func TestPendingIsLive(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		k, mem := newTalk(), memstore.New()
		s := serve(t, mem, perdure.Options{}, k.bind())
		other, err := perdure.New(mem, nil)
		if err != nil {
			t.Fatal(err)
		}
		start(t, s.c, k.f, 1, "t")
		behind := func(c perdure.Client, deliver perdure.Deliver) *perdure.Handle[int] {
			h := startWith(t, c, k.f, 2, &perdure.StartOptions{TaskID: "t", Deliver: deliver})
			after(time.Second)
			return h
		}
		for where, c := range map[string]perdure.Client{"here": s.c, "elsewhere": other.Client()} {
			h := behind(c, perdure.Enqueue)
			is(t, "G6: Pending after an input from "+where, k.now.Load().Pending(), 1)
			behind(c, perdure.Enqueue)
			is(t, "G6: Pending after another from "+where, k.now.Load().Pending(), 2)
			h.Cancel(t.Context(), "")
			after(time.Second)
			is(t, "G3: Pending after one was withdrawn "+where, k.now.Load().Pending(), 1)
			is(t, "G3: causes", k.now.Load().Causes(), perdure.Causes{})
			k.next()
			k.next()
			start(t, s.c, k.f, 1, "t")
			synctest.Wait()
		}
	})
}

func TestReplaceDropsWhatIsQueued(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", &options{Steerable: true, MaxPending: 2})
	var pending box[int]
	in(t, perdure.Options{}, func(t *testing.T, s *server) {
		start(t, s.c, f, 1, "t")
		second := startWith(t, s.c, f, 2, &perdure.StartOptions{TaskID: "t", Deliver: perdure.Enqueue})
		third := startWith(t, s.c, f, 3, &perdure.StartOptions{TaskID: "t", Deliver: perdure.Enqueue})
		fourth := startWith(t, s.c, f, 4, &perdure.StartOptions{TaskID: "t", Deliver: perdure.Replace})
		is(t, "Numbers: turn", fourth.Turn(), 4)
		ends(t, "Numbers", second, perdure.Refused)
		ends(t, "Numbers", third, perdure.Refused)
		ends(t, "Numbers", fourth, perdure.Completed)
		is(t, "G6: Pending after replace", pending.get(), 1)
	}, f.Bind(func(_ context.Context, turn *turnOf) (int, error) {
		if turn.Number() == 1 {
			<-turn.Interrupt().Done()
			pending.set(turn.Pending())
		}
		return turn.Input(), nil
	}))
}
