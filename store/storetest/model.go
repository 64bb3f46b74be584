package storetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/memstore"
)

// Sizes of a model run.
const (
	modelSeeds = 8
	modelSteps = 300
)

// RunModel applies random operations to the store that open returns and to a memstore side by side, in
// virtual time, and compares every answer and, after every step, what can be read. The names of its
// subtests give the seed.
func RunModel(t *testing.T, open func(t *testing.T) store.Store) {
	seeds := []uint64{rand.Uint64()}
	for seed := range uint64(modelSeeds) {
		seeds = append(seeds, seed)
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) { runModel(t, open(t), seed) })
		})
	}
}

func runModel(t *testing.T, s store.Store, seed uint64) {
	m := &model{T: t, store: s, oracle: memstore.New(), rand: rand.New(rand.NewPCG(seed, seed))}
	for m.step = range modelSteps {
		if m.act(); t.Failed() {
			return
		}
		if m.compareReads(); t.Failed() {
			return
		}
	}
	m.end()
}

// model is one run.
type model struct {
	*testing.T
	store, oracle store.Store
	rand          *rand.Rand
	step          int
	requests      int64
	inputs        int
	last          string        // the last operation, for messages
	leases        []store.Lease // given so far, the newest last
	claims        []*store.ClaimRequest
	offers        []*store.OfferRequest
	settles       []*store.SettleRequest
	signals       []*store.SignalRequest
	deletes       []*store.DeleteRequest
}

// free is what stores may do each in their own way: the numbers of places, of which only the order counts, into how many
// rows they put something, and whether a page knows that it is the last.
var free = cmp.Options{
	cmpopts.EquateEmpty(),
	cmpopts.IgnoreFields(store.Task{}, "Place"),
	cmpopts.IgnoreFields(store.Swept{}, "Dropped"),
	cmpopts.IgnoreFields(store.TurnPage{}, "More"),
	cmpopts.IgnoreFields(store.TaskPage{}, "More"),
}

// both applies one operation to both stores, compares the answers, and returns the store's.
func both[T any](m *model, name string, req any, f func(store.Store) (T, error)) (T, error) {
	m.Helper()
	got, gotErr := f(m.store)
	want, wantErr := f(m.oracle)
	if fmt.Sprint(gotErr) != fmt.Sprint(wantErr) {
		m.Fatalf("step %d, %s %+v: error %v, memstore's is %v", m.step, name, req, gotErr, wantErr)
	}
	if diff := cmp.Diff(want, got, free); diff != "" {
		m.Fatalf("step %d, %s %+v (after %s): got + and memstore -:\n%s", m.step, name, req, m.last, diff)
	}
	return got, gotErr
}

func pick[T any](m *model, values ...T) T { return values[m.rand.IntN(len(values))] }

func (m *model) chance(percent int) bool { return m.rand.IntN(100) < percent }

func (m *model) act() {
	switch n := m.rand.IntN(100); {
	case n < 25:
		m.offer()
	case n < 40:
		m.claim()
	case n < 49:
		m.checkpoint()
	case n < 67:
		m.settle()
	case n < 76:
		m.signal()
	case n < 84:
		m.heartbeat()
	case n < 87:
		m.delete()
	case n < 92:
		m.sweep()
	default:
		advance(pick(m, time.Millisecond, time.Second, 5*time.Second, 10*time.Second, 16*time.Second, 2*time.Minute, m.long()))
	}
}

// long is a time in which request IDs are forgotten, now and then.
func (m *model) long() time.Duration {
	if m.chance(20) {
		return store.RequestsKept
	}
	return time.Second
}

func (m *model) done(name string, req any) { m.last = fmt.Sprintf("%s %+v", name, req) }

var (
	modelTasks   = []string{"t1", "t2", "t3", "t4", "t5", "t6", "t7"} // of the funcs in turn
	modelWorkers = []string{"w1", "w2", "w3"}
	modelFuncs   = []string{"chat", "job", "brief", "short"}
)

func modelSettings(fn string) *store.Settings {
	s := &store.Settings{MaxPending: 3, MaxRecoveries: 4}
	switch fn {
	case "chat":
		s.MultiTurn, s.Steerable, s.KeepTurns, s.KeepEventsFor = true, true, 3, 20*time.Second
	case "job":
		s.Steerable, s.Keep, s.KeepEvents, s.Timeout, s.TimeoutGrace = true, time.Minute, 4, 30*time.Second, 5*time.Second
	case "brief":
		s.Ephemeral, s.Keep = true, 10*time.Second
	case "short":
		s.Steerable, s.Timeout, s.TimeoutGrace = true, 10*time.Second, time.Second
	}
	return s
}

func (m *model) offer() {
	m.requests++
	task := pick(m, modelTasks...)
	fn := modelFuncs[slices.Index(modelTasks, task)%len(modelFuncs)]
	m.inputs++
	req := &store.OfferRequest{
		TaskID: task, Func: fn, InputID: fmt.Sprintf("i%d", m.inputs), Input: fmt.Appendf(nil, "%d", m.inputs),
		Digests: []store.Digest{{Sum: "a"}}, Worker: pick(m, modelWorkers...), Request: m.requests,
		Deliver: pick(m, "", "", store.DeliverEnqueue, store.DeliverReject, store.DeliverReplace),
		Attach:  m.chance(5), Lease: m.chance(50), Settings: modelSettings(fn),
		Session: pick(m, "", "s"), Agent: pick(m, "", "a"), Title: "title", Source: store.Source{Program: "p", Host: task},
		Tags: pick(m, nil, map[string]string{"k": "v"}, map[string]string{"k": "w", "l": ""}),
	}
	m.distort(req)
	if m.chance(10) && len(m.offers) > 0 {
		again := *m.offers[m.rand.IntN(len(m.offers))]
		again.Repeat = true
		req = &again
	}
	m.offers = append(m.offers, req)
	o, err := both(m, "Offer", req, func(s store.Store) (*store.Offered, error) { return s.Offer(context.Background(), req) })
	m.done("Offer", req)
	if err == nil && o.Entry != nil {
		m.leases = append(m.leases, o.Entry.Lease)
	}
}

// distort makes some offers wrong, or special.
func (m *model) distort(req *store.OfferRequest) {
	if m.chance(10) {
		req.InputID = fmt.Sprintf("i%d", m.rand.IntN(m.inputs)+1)
	}
	if m.chance(3) {
		req.Func = pick(m, modelFuncs...)
	}
	if m.chance(3) {
		req.Digests = pick(m, []store.Digest{{Sum: "b"}}, []store.Digest{{Key: "k", Sum: "a"}}, nil)
	}
	if m.chance(10) {
		req.IfLastInputID = fmt.Sprintf("i%d", m.rand.IntN(m.inputs)+1)
	}
	if m.chance(10) {
		req.Settings = nil
	}
}

func (m *model) claim() {
	m.requests++
	req := &store.ClaimRequest{
		Worker: pick(m, modelWorkers...), Request: m.requests, Limit: m.rand.IntN(4), Suspect: m.chance(50),
	}
	for _, fn := range modelFuncs {
		if m.chance(70) {
			req.Funcs = append(req.Funcs, store.ClaimFunc{Name: fn, Limit: m.rand.IntN(3)})
		}
	}
	if m.chance(10) {
		req.Except = []string{pick(m, modelTasks...)}
	}
	if m.chance(10) && len(m.claims) > 0 {
		again := *m.claims[len(m.claims)-1]
		again.Repeat = true
		req = &again
	}
	m.claims = append(m.claims, req)
	c, err := both(m, "Claim", req, func(s store.Store) (*store.Claimed, error) { return s.Claim(context.Background(), req) })
	m.done("Claim", req)
	if err != nil {
		return
	}
	for _, e := range c.Entries {
		m.leases = append(m.leases, e.Lease)
	}
}

func (m *model) lease() store.Lease {
	if len(m.leases) == 0 {
		return store.Lease{Incarnation: 1, Worker: "w1", Epoch: 1}
	}
	return m.leases[max(0, len(m.leases)-1-m.rand.IntN(4))]
}

func (m *model) changes() []store.Change {
	return pick(m, nil, []store.Change{{Key: "a", Value: []byte("1")}}, []store.Change{{Key: "a"}, {Key: "b", Value: []byte("")}})
}

func (m *model) events() [][]byte {
	return pick(m, nil, [][]byte{[]byte("x")}, [][]byte{[]byte("y"), {}, []byte("z")})
}

func (m *model) checkpoint() {
	req := &store.CheckpointRequest{
		Lease: m.lease(), Number: int64(m.rand.IntN(4) + 1), Commit: m.chance(50), KeepEvents: m.chance(20), Events: m.events(),
	}
	if req.Commit {
		req.Metadata = m.changes()
	}
	both(m, "Checkpoint", req, func(s store.Store) (*store.Checkpointed, error) {
		return s.Checkpoint(context.Background(), req)
	})
	m.done("Checkpoint", req)
}

func (m *model) settle() {
	m.requests++
	req := &store.SettleRequest{
		Lease: m.lease(), Request: m.requests, Events: m.events(), KeepLease: m.chance(50),
		Kind: pick(m, store.SettleEnd, store.SettleEnd, store.SettleEnd, store.SettleRetry, store.SettleRelease, store.SettlePark),
	}
	switch req.Kind {
	case store.SettleEnd:
		req.Outcome = pick(m, store.Completed, store.Failed, store.Suspended, store.Cancelled)
		req.Then = pick(m, req.Outcome, store.Suspended)
		req.Refuse, req.Output, req.Metadata = m.chance(20), []byte("out"), m.changes()
		req.Error = pick(m, nil, &store.TaskError{Type: "T", Message: "m", Attempts: 2})
		req.IfQueued, req.Detail, req.Reason = m.chance(20), pick(m, "", "signal: killed"), pick(m, "", "stop")
	case store.SettleRetry:
		req.Delay, req.Strict = time.Duration(m.rand.IntN(20))*time.Second, m.chance(30)
		req.Error = &store.TaskError{Type: "T", Message: "again"}
	case store.SettleRelease:
		req.Release = pick(m, store.ReleaseWrapped, store.ReleaseAsked, store.ReleaseAsked, store.ReleaseStopped, store.ReleaseDeclined)
	case store.SettlePark:
		req.Reason = "bad"
	}
	if m.chance(10) && len(m.settles) > 0 {
		req = m.settles[len(m.settles)-1]
	}
	m.settles = append(m.settles, req)
	d, err := both(m, "Settle", req, func(s store.Store) (*store.Settled, error) { return s.Settle(context.Background(), req) })
	m.done("Settle", req)
	if err == nil && d.Entry != nil {
		m.leases = append(m.leases, d.Entry.Lease)
	}
}

func (m *model) signal() {
	req := &store.SignalRequest{
		TaskID: pick(m, modelTasks...), Kind: pick(m, store.Cancel, store.Cancel, store.Terminate, store.Resume),
		Reason: "why", Worker: pick(m, "", "w1"), Turn: int64(pick(m, 0, 0, 1, 2, 3, 4)),
	}
	if m.chance(20) && m.inputs > 0 {
		req.InputID = fmt.Sprintf("i%d", m.rand.IntN(m.inputs)+1)
	}
	if m.chance(10) {
		req.Incarnation = int64(m.rand.IntN(6) + 1)
	}
	req.RequestID = m.requestID()
	if m.chance(20) && len(m.signals) > 0 {
		req = m.signals[m.rand.IntN(len(m.signals))]
	}
	m.signals = append(m.signals, req)
	both(m, "Signal", req, func(s store.Store) (*store.Signalled, error) { return s.Signal(context.Background(), req) })
	m.done("Signal", req)
}

// requestID names some signals and deletes, now and then alike.
func (m *model) requestID() string {
	if m.chance(40) {
		return ""
	}
	return fmt.Sprint("r", m.rand.IntN(40))
}

func (m *model) heartbeat() {
	w := pick(m, modelWorkers...)
	req := &store.HeartbeatRequest{Worker: w, Lease: 15 * time.Second, First: m.chance(60), Leave: m.chance(5), Running: m.rand.IntN(3)}
	if req.First {
		req.Info = store.WorkerInfo{Host: "h", PID: 1, Program: "p", Version: "v"}
		for _, fn := range modelFuncs {
			if m.chance(40) {
				req.Funcs = append(req.Funcs, store.PublishedFunc{Name: fn, Settings: *modelSettings(fn)})
			}
		}
	}
	if req.First && m.chance(10) {
		req.Replaces = pick(m, modelWorkers...)
	}
	both(m, "Heartbeat", req, func(s store.Store) (*store.Beat, error) { return s.Heartbeat(context.Background(), req) })
	m.done("Heartbeat", req)
}

func (m *model) delete() {
	req := &store.DeleteRequest{TaskID: pick(m, modelTasks...), Worker: pick(m, "", "w1")}
	if m.chance(30) {
		req.Version = int64(m.rand.IntN(5) + 1)
	}
	if m.chance(10) {
		req.Incarnation = int64(m.rand.IntN(6) + 1)
	}
	req.RequestID = m.requestID()
	if m.chance(30) && len(m.deletes) > 0 {
		req = m.deletes[m.rand.IntN(len(m.deletes))]
	}
	m.deletes = append(m.deletes, req)
	both(m, "Delete", req, func(s store.Store) (*store.Removed, error) { return s.Delete(context.Background(), req) })
	m.done("Delete", req)
}

// sweepLimit is more than a run leaves to sweep, so that stores may do it in pieces of their own.
const sweepLimit = 10_000

func (m *model) sweep() {
	both(m, "Sweep", sweepLimit, func(s store.Store) (*store.Swept, error) { return s.Sweep(context.Background(), sweepLimit) })
	m.done("Sweep", sweepLimit)
}

// end sweeps both stores, in pieces of other sizes, until there is nothing more to do, after enough time for all to end
// that ends by itself, and compares what is left.
func (m *model) end() {
	advance(2 * store.RequestsKept)
	for limit, s := range []store.Store{m.store, m.oracle} {
		for more := true; more; {
			swept, err := s.Sweep(context.Background(), 1+3*limit)
			if err != nil {
				m.Fatal(err)
			}
			more = swept.More
		}
	}
	m.last = "the last sweep"
	for _, id := range modelTasks {
		m.compareTask(context.Background(), id)
	}
	for range 20 {
		m.compareReads()
	}
	m.sweep()
}
