package storetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/perdure/perdure/store"
)

// RunLinear makes concurrent histories of Offer (with and without a lease), Claim, Settle, and Signal (cancel of
// one input, terminate) on a few tasks and checks that each could have come from operations that took place
// one after the other.
func RunLinear(t *testing.T, open func(t *testing.T) store.Store) {
	for round := range 10 {
		t.Run(fmt.Sprintf("seed=%d", round), func(t *testing.T) {
			h := &history{T: t, store: open(t), last: map[string]string{}}
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
	lease           bool // offer, settle: keep or take the lease
	epoch           int64
}

type linearOut struct {
	answer string // a decision, a status, or an error
	epoch  int64  // of the lease given
}

// linearState is what the model knows of one multi-turn, steerable task with room for two inputs.
type linearState struct {
	status  store.Status
	inputs  string // accepted, in the order of their turns
	queue   string // of them, those that wait
	current int    // number of the turn that is, or was, current
	epoch   int64
}

// linearModel is the rule table in short; a history is checked task by task.
func linearModel() porcupine.Model {
	return porcupine.Model{
		Partition: byTask,
		Init:      func() any { return linearState{} },
		Step: func(state, input, output any) (bool, any) {
			if input.(linearIn).op == "claim" && output == any(linearOut{}) {
				return true, state // a claim may leave out what is being written at that moment
			}
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
		return linearOffer(s, in)
	case "claim":
		if s.status != store.Pending {
			return s, linearOut{}
		}
		s = s.enter()
		return s, linearOut{answer: s.running(), epoch: s.epoch}
	case "settle":
		return linearSettle(s, in)
	case "cancel":
		return linearCancel(s, in.input)
	}
	switch {
	case s.status == "":
		return s, linearOut{answer: store.ErrNotFound.Error()}
	case s.status != store.Terminated:
		s.status, s.queue = store.Terminated, ""
	}
	return s, linearOut{answer: string(s.status)}
}

// enter leases the current turn.
func (s linearState) enter() linearState {
	s.status = store.InProgress
	s.epoch++
	return s
}

// next is the state after the end of the current turn.
func (s linearState) next() linearState {
	if s.queue == "" {
		s.status = store.Suspended
		return s
	}
	s.status, s.current, s.queue = store.Pending, 1+strings.IndexByte(s.inputs, s.queue[0]), s.queue[1:]
	return s
}

// running is the input of the current turn.
func (s linearState) running() string { return s.inputs[s.current-1 : s.current] }

func linearOffer(s linearState, in linearIn) (linearState, linearOut) {
	open := s.status == store.InProgress || s.status == store.Pending
	switch {
	case strings.Contains(s.inputs, in.input):
		return s, linearOut{answer: string(store.Known)}
	case s.status == store.Terminated:
		return s, linearOut{answer: "conflict"}
	case open && len(s.queue) == 2:
		return s, linearOut{answer: store.ErrQueueFull.Error()}
	}
	s.inputs += in.input
	if open {
		s.queue += in.input
		return s, linearOut{answer: string(store.Queued)}
	}
	out := linearOut{answer: string(store.Resumed)}
	if s.status == "" {
		out.answer = string(store.Created)
	}
	s.status, s.current = store.Pending, len(s.inputs)
	if in.lease {
		s = s.enter()
		out.epoch = s.epoch
	}
	return s, out
}

func linearSettle(s linearState, in linearIn) (linearState, linearOut) {
	if s.status != store.InProgress || s.epoch != in.epoch {
		return s, linearOut{answer: store.ErrLeaseLost.Error()}
	}
	if s = s.next(); s.status == store.Pending && in.lease {
		s = s.enter()
		return s, linearOut{answer: string(s.status), epoch: s.epoch}
	}
	return s, linearOut{answer: string(s.status)}
}

// linearCancel is the cancel of one input, which answers what it found that to be.
func linearCancel(s linearState, input string) (linearState, linearOut) {
	number := 1 + strings.Index(s.inputs, input)
	answer := "over"
	switch {
	case number == 0:
		return s, linearOut{answer: store.ErrNotFound.Error()}
	case strings.Contains(s.queue, input):
		answer = "ended"
		s.queue = strings.ReplaceAll(s.queue, input, "")
	case number == s.current && s.status == store.InProgress:
		answer = "asked"
	case number == s.current && s.status == store.Pending:
		answer = "ended"
		s = s.next()
	}
	return s, linearOut{answer: answer + " " + string(s.status)}
}

// history records what concurrent callers do.
type history struct {
	*testing.T
	store store.Store
	clock atomic.Int64
	mu    sync.Mutex
	ops   []porcupine.Operation
	last  map[string]string // by task: the input offered last
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
			for range 30 {
				h.act(client, r)
			}
		})
	}
	all.Wait()
	slices.SortFunc(h.ops, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
}

// act does one operation, and settles the lease if it gave one; only its holder knows a lease.
func (h *history) act(client int, r *rand.Rand) {
	task, input := fmt.Sprint("t", r.IntN(2)), string(rune('A'+r.IntN(26)))
	var lease store.Lease
	switch n := r.IntN(20); {
	case n == 0:
		h.record(client, linearIn{op: "terminate", task: task}, h.terminate)
		return
	case n < 6:
		h.record(client, linearIn{op: "cancel", task: task, input: h.recent(task)}, h.cancel)
		return
	case n < 9:
		h.record(client, linearIn{op: "claim", task: task}, func(in linearIn) (out linearOut) {
			out, lease = h.claim(in)
			return out
		})
	default:
		h.offered(task, input)
		h.record(client, linearIn{op: "offer", task: task, input: input, lease: n < 16}, func(in linearIn) (out linearOut) {
			out, lease = h.offer(in)
			return out
		})
	}
	for lease.Epoch != 0 {
		h.record(client, linearIn{op: "settle", task: task, epoch: lease.Epoch, lease: r.IntN(2) == 0}, func(in linearIn) (out linearOut) {
			out, lease = h.settle(lease, in)
			return out
		})
	}
}

// offered notes the input that was offered last to a task; recent returns it.
func (h *history) offered(task, input string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last[task] = input
}

func (h *history) recent(task string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return cmp.Or(h.last[task], "A")
}

func (h *history) record(client int, in linearIn, call func(linearIn) linearOut) {
	runtime.Gosched() // others may come in between
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
		TaskID: in.task, Func: "func of " + in.task, InputID: in.input, Input: []byte("1"), Digests: []store.Digest{{Sum: "d"}},
		Settings: &linearSettings, Worker: "w", Lease: in.lease, Request: h.clock.Add(1),
	})
	if err != nil {
		return answer(err), store.Lease{}
	}
	return granted(string(o.Decision), o.Entry)
}

// claim claims one task: each has a func of its own.
func (h *history) claim(in linearIn) (linearOut, store.Lease) {
	c, err := h.store.Claim(context.Background(), &store.ClaimRequest{
		Worker: "w", Request: h.clock.Add(1), Limit: 1, Funcs: []store.ClaimFunc{{Name: "func of " + in.task, Limit: 1}},
	})
	if err != nil {
		return answer(err), store.Lease{}
	}
	if len(c.Entries) == 0 {
		return linearOut{}, store.Lease{}
	}
	return granted(c.Entries[0].Task.Turn.InputID, c.Entries[0])
}

func (h *history) settle(lease store.Lease, in linearIn) (linearOut, store.Lease) {
	d, err := h.store.Settle(context.Background(), &store.SettleRequest{
		Lease: lease, Kind: store.SettleEnd, Outcome: store.Completed, Then: store.Suspended, KeepLease: in.lease,
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

func (h *history) cancel(in linearIn) linearOut {
	d, err := h.store.Signal(context.Background(), &store.SignalRequest{TaskID: in.task, Kind: store.Cancel, InputID: in.input, Worker: "w"})
	switch {
	case err != nil:
		return answer(err)
	case d.Marked:
		return linearOut{answer: "asked " + string(d.Status)}
	case len(d.Ended) > 0:
		return linearOut{answer: "ended " + string(d.Status)}
	}
	return linearOut{answer: "over " + string(d.Status)}
}

func (h *history) terminate(in linearIn) linearOut {
	d, err := h.store.Signal(context.Background(), &store.SignalRequest{TaskID: in.task, Kind: store.Terminate, Worker: "w"})
	if err != nil {
		return answer(err)
	}
	return linearOut{answer: string(d.Status)}
}
