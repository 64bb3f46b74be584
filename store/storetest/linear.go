package storetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/perdure/perdure/store"
)

// RunLinear makes concurrent histories of Offer (with a lease), Settle and Terminate on a few tasks and checks that
// each could have come from operations that took place one after the other.
func RunLinear(t *testing.T, open func(t *testing.T) store.Store) {
	for round := range 10 {
		t.Run(fmt.Sprintf("seed=%d", round), func(t *testing.T) {
			h := &history{T: t, store: open(t)}
			h.run(uint64(round))
			if porcupine.CheckOperationsTimeout(linearModel(), h.ops, 20*time.Second) == porcupine.Illegal {
				t.Errorf("no order of the operations explains their answers: %+v", h.ops)
			}
		})
	}
}

// linearIn is one call; linearOut its answer, as far as the model knows it.
type linearIn struct {
	op, task, input string
	epoch           int64
}

type linearOut struct {
	answer string // a decision, a status, or an error
	epoch  int64  // of the lease given
}

// linearState is what the model knows of one multi-turn, steerable task with room for two inputs.
type linearState struct {
	status store.Status
	inputs string // accepted
	queued int
	epoch  int64
}

// linearModel is the rule table in short; a history is checked task by task.
func linearModel() porcupine.Model {
	return porcupine.Model{
		Partition: byTask,
		Init:      func() any { return linearState{} },
		Step: func(state, input, output any) (bool, any) {
			next, want := linearStep(state.(linearState), input.(linearIn))
			return want == output.(linearOut), next
		},
	}
}

func byTask(all []porcupine.Operation) [][]porcupine.Operation {
	parts := map[string][]porcupine.Operation{}
	for _, o := range all {
		task := o.Input.(linearIn).task
		parts[task] = append(parts[task], o)
	}
	var list [][]porcupine.Operation
	for _, part := range parts {
		list = append(list, part)
	}
	return list
}

func linearStep(s linearState, in linearIn) (linearState, linearOut) {
	switch in.op {
	case "offer":
		return linearOffer(s, in.input)
	case "settle":
		return linearSettle(s, in.epoch)
	}
	switch {
	case s.status == "":
		return s, linearOut{answer: store.ErrNotFound.Error()}
	case s.status != store.Terminated:
		s.status, s.queued = store.Terminated, 0
	}
	return s, linearOut{answer: string(s.status)}
}

func linearOffer(s linearState, input string) (linearState, linearOut) {
	switch known := slices.Contains([]byte(s.inputs), input[0]); {
	case known:
		return s, linearOut{answer: string(store.Known)}
	case s.status == store.Terminated:
		return s, linearOut{answer: "conflict"}
	case s.status == store.InProgress && s.queued == 2:
		return s, linearOut{answer: store.ErrQueueFull.Error()}
	}
	s.inputs += input
	if s.status == store.InProgress {
		s.queued++
		return s, linearOut{answer: string(store.Queued)}
	}
	out := linearOut{answer: string(store.Resumed), epoch: s.epoch + 1}
	if s.status == "" {
		out.answer = string(store.Created)
	}
	s.status, s.epoch = store.InProgress, out.epoch
	return s, out
}

func linearSettle(s linearState, epoch int64) (linearState, linearOut) {
	switch {
	case s.status != store.InProgress || s.epoch != epoch:
		return s, linearOut{answer: store.ErrLeaseLost.Error()}
	case s.queued > 0:
		s.queued--
		s.epoch++
		return s, linearOut{answer: string(store.InProgress), epoch: s.epoch}
	}
	s.status = store.Suspended
	return s, linearOut{answer: string(s.status)}
}

// history records what concurrent callers do.
type history struct {
	*testing.T
	store store.Store
	clock atomic.Int64
	mu    sync.Mutex
	ops   []porcupine.Operation
}

var linearSettings = store.Settings{MultiTurn: true, Steerable: true, MaxPending: 2, MaxRecoveries: 20}

func (h *history) run(seed uint64) {
	_, err := h.store.Heartbeat(context.Background(), &store.HeartbeatRequest{Worker: "w", First: true, Lease: time.Hour})
	if err != nil {
		h.Fatal(err)
	}
	var all sync.WaitGroup
	for client := range 4 {
		r := rand.New(rand.NewPCG(seed, uint64(client)))
		all.Go(func() {
			for range 12 {
				h.act(client, r)
			}
		})
	}
	all.Wait()
	slices.SortFunc(h.ops, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
}

// act does one operation, and settles the lease if it gave one; only its holder knows a lease.
func (h *history) act(client int, r *rand.Rand) {
	task := fmt.Sprint("t", r.IntN(2))
	if r.IntN(20) == 0 {
		h.record(client, linearIn{op: "terminate", task: task}, h.terminate)
		return
	}
	in := linearIn{op: "offer", task: task, input: string(rune('A' + r.IntN(26)))}
	var lease store.Lease
	h.record(client, in, func(in linearIn) (out linearOut) {
		out, lease = h.offer(in)
		return out
	})
	for lease.Epoch != 0 {
		in = linearIn{op: "settle", task: task, epoch: lease.Epoch}
		h.record(client, in, func(linearIn) (out linearOut) {
			out, lease = h.settle(lease)
			return out
		})
	}
}

func (h *history) record(client int, in linearIn, call func(linearIn) linearOut) {
	begun := h.clock.Add(1)
	out := call(in)
	ended := h.clock.Add(1)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: in, Output: out, Call: begun, Return: ended})
}

func answer(err error) linearOut {
	var conflict *store.ConflictError
	if errors.As(err, &conflict) {
		return linearOut{answer: "conflict"}
	}
	return linearOut{answer: err.Error()}
}

func (h *history) offer(in linearIn) (linearOut, store.Lease) {
	o, err := h.store.Offer(context.Background(), &store.OfferRequest{
		TaskID: in.task, Func: "f", InputID: in.input, Input: []byte("1"), Digests: []store.Digest{{Sum: "d"}},
		Settings: &linearSettings, Worker: "w", Lease: true, Request: h.clock.Add(1),
	})
	if err != nil {
		return answer(err), store.Lease{}
	}
	return granted(string(o.Decision), o.Entry)
}

func (h *history) settle(lease store.Lease) (linearOut, store.Lease) {
	d, err := h.store.Settle(context.Background(), &store.SettleRequest{
		Lease: lease, Kind: store.SettleEnd, Outcome: store.Completed, Then: store.Suspended, KeepLease: true,
		Request: h.clock.Add(1),
	})
	if err != nil {
		return answer(err), store.Lease{}
	}
	return granted(string(d.Status), d.Entry)
}

func granted(answer string, e *store.Entry) (linearOut, store.Lease) {
	if e == nil {
		return linearOut{answer: answer}, store.Lease{}
	}
	return linearOut{answer: answer, epoch: e.Lease.Epoch}, e.Lease
}

func (h *history) terminate(in linearIn) linearOut {
	d, err := h.store.Signal(context.Background(), &store.SignalRequest{TaskID: in.task, Kind: store.Terminate, Worker: "w"})
	if err != nil {
		return answer(err)
	}
	return linearOut{answer: string(d.Status)}
}
