package engine

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"flag"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/perdure/perdure/store"
)

var exploreMost = flag.Int("explore", 50_000, "how many states to explore at most of each set of limits")

// exploration is a search of all states, breadth first, so that the first way that is found to a state is a shortest.
type exploration struct {
	first  *world
	keys   map[mark]int32
	from   []int32  // by state: the one before,
	by     []uint16 // and which of the choices there led here
	good   []bool   // everything in it may stay as it is
	back   []step   // from each state to those before it, without faults
	edges  int
	whole  bool   // a fixpoint: there are no more states
	broken int32  // the first state that breaks a promise; -1: none
	why    string // it is broken
}

type mark [16]byte

type step struct{ to, from int32 }

// found is a state as one of those who search has found it.
type found struct {
	w     *world
	key   mark
	from  int32
	by    uint16
	fault bool
}

// explore searches from a first state until there are no more, a state is broken, or as many were found.
func explore(first *world, most int) *exploration {
	x := &exploration{first: first, keys: map[mark]int32{}, broken: -1}
	edge := x.add([]found{{w: first, key: first.key(), from: -1}})
	for len(edge) > 0 && x.broken < 0 {
		if len(x.from) >= most {
			return x
		}
		part := edge[:min(len(edge), 10_000)]
		edge = append(edge[len(part):len(edge):len(edge)], x.add(follow(part))...)
	}
	x.whole = x.broken < 0
	return x
}

// reached is a state that what follows is not known of.
type reached struct {
	n int32
	w *world
}

// follow finds all that follows from each of some states, on all processors, in their order.
func follow(part []reached) (all []found) {
	results := make([][]found, len(part))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(part) {
					return
				}
				for by, c := range part[i].w.choices() {
					w := part[i].w.after(c)
					results[i] = append(results[i], found{w, w.key(), part[i].n, uint16(by), c.fault})
				}
			}
		})
	}
	wg.Wait()
	return slices.Concat(results...)
}

func (w *world) after(c choice) *world {
	next := w.copy(c.host)
	c.do(next)
	if c.host >= 0 {
		next.hosts[c.host].tidy()
	}
	next.check()
	return next
}

// add takes in what was found, and returns what of it is new.
func (x *exploration) add(all []found) (fresh []reached) {
	for _, f := range all {
		x.edges++
		n, known := x.keys[f.key]
		if !known {
			n = int32(len(x.from))
			x.keys[f.key] = n
			x.from, x.by, x.good = append(x.from, f.from), append(x.by, f.by), append(x.good, f.w.done())
			fresh = append(fresh, reached{n, f.w})
			if f.w.broken != "" && x.broken < 0 {
				x.broken, x.why = n, f.w.broken
			}
		}
		if f.from >= 0 && !f.fault {
			x.back = append(x.back, step{to: n, from: f.from})
		}
	}
	return fresh
}

// stuck returns a state from which, without any fault, no state can be reached in which everything is done; -1 if there
// is none. It says nothing before a fixpoint.
func (x *exploration) stuck() int32 {
	slices.SortFunc(x.back, func(a, b step) int { return cmp.Compare(a.to, b.to) })
	reach := slices.Clone(x.good)
	var todo []int32
	for i, good := range reach {
		if good {
			todo = append(todo, int32(i))
		}
	}
	for len(todo) > 0 {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		i, _ := slices.BinarySearchFunc(x.back, n, func(s step, n int32) int { return cmp.Compare(s.to, n) })
		for ; i < len(x.back) && x.back[i].to == n; i++ {
			if before := x.back[i].from; !reach[before] {
				reach[before] = true
				todo = append(todo, before)
			}
		}
	}
	return int32(slices.Index(reach, false))
}

// trace says what led to a state, by going there.
func (x *exploration) trace(n int32) (steps []string) {
	var way []uint16
	for ; n > 0; n = x.from[n] {
		way = append(way, x.by[n])
	}
	w := x.first
	for _, by := range slices.Backward(way) {
		c := w.choices()[by]
		steps = append(steps, c.name)
		w = w.after(c)
	}
	return steps
}

// tidy forgets attempts that are over.
func (h *host) tidy() {
	kept := h.lives[:0]
	for _, l := range h.lives {
		if l.phase == over && !slices.ContainsFunc(h.ops, func(o *op) bool { return o.life == l }) {
			delete(h.known, l)
			continue
		}
		kept = append(kept, l)
	}
	h.lives = kept
}

// key is what makes a state what it is: epochs, request numbers and places count only by their order.
func (w *world) key() mark {
	var b ink
	e := w.epochs()
	l := &w.left
	b.numbers(l.faults, l.deaths, l.fences, l.stops, l.inputs, l.cancels, l.terminates, l.errors, l.deadlines, l.waitTimeouts, l.any,
		w.offered, min(w.entries, 1), w.failures, min(w.counted, 3), len(w.rows.requests))
	if t := w.rows.task; t != nil {
		u := &t.Turn
		b.texts(string(t.Status), t.Worker, string(t.Wait), string(u.Entry))
		b.numbers(int(t.LastTurn), t.Queued, t.Nudging, e.of(t.Epoch), e.of(t.SettledEpoch), int(u.Number), u.Attempt, min(u.Recoveries, 3), u.Streak, min(u.Stops, 3))
		b.flags(t.Due, t.NotBefore.IsZero(), t.EndBy.IsZero(), t.Suspect, t.Entered, u.StartedAt.IsZero(), u.StartedAt.Equal(t.EnteredAt),
			u.Deadline.IsZero(), u.Deadline.Equal(t.EnteredAt.Add(t.Settings.Timeout)), w.late(), u.Overdue, u.Called, u.Cancel, u.Ended)
	}
	for i := range w.rows.turns {
		t := &w.rows.turns[i]
		b.texts(t.InputID, string(t.Status))
		b.flags(t.StartedAt.IsZero())
		b.numbers(e.of(t.Epoch))
	}
	for _, id := range slices.Sorted(maps.Keys(w.rows.workers)) {
		worker := w.rows.workers[id]
		b.texts(id)
		b.flags(worker.Dead, worker.Stopped, w.dead(id))
	}
	for i := range w.rows.mail {
		m := &w.rows.mail[i]
		b.texts(m.Worker, string(m.Kind))
		b.numbers(e.of(m.Epoch))
	}
	for _, h := range w.hosts {
		h.key(&b, e, w.rows.task)
	}
	sum := sha256.Sum256(b)
	return mark(sum[:])
}

func (h *host) key(b *ink, e order, t *store.Task) {
	n := h.numbers(t)
	s := &h.r.slots
	b.texts(h.name, h.old, h.r.worker)
	b.numbers(h.made, int(h.r.state), s.leases, s.turns[exploredFunc], n.of(h.r.tickets.last), len(h.early), len(h.lives), len(h.ops))
	b.flags(s.waiting[exploredFunc], h.r.probing != nil)
	if t != nil && strings.HasPrefix(t.Worker, h.name) {
		b.numbers(n.of(t.Request))
	}
	for _, told := range h.early {
		b.numbers(e.of(told.epoch))
		b.texts(string(told.kind))
	}
	for _, l := range h.lives {
		k := h.known[l]
		b.texts(l.lease.Worker, string(k.task.Turn.Entry))
		b.numbers(e.of(l.lease.Epoch), int(l.phase), int(k.task.Turn.Number))
		b.flags(l.slot != nil, l.kept, h.r.newest[l.lease.Incarnation] == l, k.causes.Steered, k.causes.Cancel, k.causes.Deadline, k.causes.Shutdown,
			h.r.spent[l.lease])
	}
	for _, o := range h.ops {
		b.texts(o.kind, o.worker)
		b.numbers(slices.Index(h.lives, o.life), n.of(o.ticket))
		b.flags(o.slot != nil, o.applied, o.nobody, o.err != nil)
		request(b, o, e, n)
		answered(b, o, e)
	}
}

// request is what an operation asks for.
func request(b *ink, o *op, e, n order) {
	switch r := o.req.(type) {
	case *store.OfferRequest:
		b.texts(r.InputID, r.Worker)
		b.flags(r.Lease, r.Repeat)
	case *store.ClaimRequest:
		b.texts(r.Worker)
		b.texts(r.Except...)
		b.numbers(n.of(r.Request), r.Limit, len(r.Funcs))
		b.flags(r.Suspect, r.Repeat)
	case *store.SettleRequest:
		b.texts(r.Lease.Worker, string(r.Outcome), string(r.Kind), string(r.Release))
		b.numbers(e.of(r.Lease.Epoch), n.of(r.Request))
		b.flags(r.KeepLease, r.IfQueued)
	case *store.SignalRequest:
		b.texts(string(r.Kind), r.Worker)
	case *store.HeartbeatRequest:
		b.texts(r.Worker, r.Replaces)
	}
}

// answered is an answer on its way.
func answered(b *ink, o *op, e order) {
	if !o.applied || o.err != nil {
		return
	}
	entry := func(entry *store.Entry) {
		if b.flags(entry != nil); entry == nil {
			return
		}
		t := entry.Task
		b.texts(entry.Lease.Worker, string(t.Turn.Entry))
		b.numbers(e.of(entry.Lease.Epoch), int(t.Turn.Number))
		b.flags(t.Nudging > 0, t.Turn.Cancel, t.Turn.Overdue, t.Suspect)
	}
	switch a := o.answer.(type) {
	case *store.Offered:
		b.texts(string(a.Decision))
		b.numbers(e.of(a.Epoch))
		b.flags(a.Steered)
		entry(a.Entry)
	case *store.Claimed:
		b.flags(a.More)
		for _, one := range a.Entries {
			entry(one)
		}
	case *store.Settled:
		b.flags(a.Ended != nil)
		entry(a.Entry)
	case *store.Signalled:
		b.flags(a.Marked, a.Changed)
		b.numbers(e.of(a.Epoch))
	}
}

// ink is what a state looks like.
type ink []byte

func (b *ink) numbers(all ...int) {
	for _, n := range all {
		*b = binary.AppendVarint(*b, int64(n))
	}
}

func (b *ink) flags(all ...bool) {
	n := 1
	for _, f := range all {
		n <<= 1
		if f {
			n |= 1
		}
	}
	b.numbers(n)
}

func (b *ink) texts(all ...string) {
	for _, s := range all {
		*b = append(append(*b, s...), 0)
	}
}

// order numbers values by their order; 0 stays 0.
type order []int64

func (o order) of(v int64) int {
	i, _ := slices.BinarySearch(o, v)
	return i
}

// ranks puts values in their order.
func ranks(values []int64) order {
	values = append(values, 0)
	slices.Sort(values)
	return slices.Compact(values)
}

// epochs are the ranks of all epochs that are known to anybody.
func (w *world) epochs() order {
	all := make([]int64, 0, 16)
	if t := w.rows.task; t != nil {
		all = append(all, t.Epoch, t.SettledEpoch)
	}
	for _, t := range w.rows.turns {
		all = append(all, t.Epoch)
	}
	for _, m := range w.rows.mail {
		all = append(all, m.Epoch)
	}
	for _, h := range w.hosts {
		for _, l := range h.lives {
			all = append(all, l.lease.Epoch)
		}
		for _, told := range h.early {
			all = append(all, told.epoch)
		}
		for _, o := range h.ops {
			all = append(all, o.epochs()...)
		}
	}
	return ranks(all)
}

func (o *op) epochs() (all []int64) {
	if r, ok := o.req.(*store.SettleRequest); ok {
		all = append(all, r.Lease.Epoch)
	}
	if !o.applied || o.err != nil {
		return all
	}
	entry := func(e *store.Entry) {
		if e != nil {
			all = append(all, e.Lease.Epoch)
		}
	}
	switch a := o.answer.(type) {
	case *store.Offered:
		all = append(all, a.Epoch)
		entry(a.Entry)
	case *store.Claimed:
		for _, e := range a.Entries {
			entry(e)
		}
	case *store.Settled:
		entry(a.Entry)
	case *store.Signalled:
		all = append(all, a.Epoch)
	}
	return all
}

// numbers are the ranks of a host's request numbers.
func (h *host) numbers(t *store.Task) order {
	all := []int64{h.r.tickets.last}
	if t != nil && strings.HasPrefix(t.Worker, h.name) {
		all = append(all, t.Request)
	}
	for n := range h.r.tickets.open {
		all = append(all, n)
	}
	for _, o := range h.ops {
		all = append(all, o.ticket)
		switch r := o.req.(type) {
		case *store.ClaimRequest:
			all = append(all, r.Request)
		case *store.SettleRequest:
			all = append(all, r.Request)
		}
	}
	return ranks(all)
}

// searches are sets of limits. The first six are searched to a fixpoint if the flag allows it; the last two, which are larger, to its bound.
var searches = []struct {
	name string
	limits
}{
	{"3 inputs", limits{inputs: 3}},
	{"2 inputs, a cancel, a terminate", limits{inputs: 2, cancels: 1, terminates: 1}},
	{"1 input, a cancel, 1 harm", limits{inputs: 1, cancels: 1, any: 1}},
	{"2 inputs, an error, 1 harm", limits{inputs: 2, errors: 1, any: 1}},
	{"1 input, 2 harms", limits{inputs: 1, any: 2, turns: 2}},
	{"3 inputs, a cancel, a terminate", limits{inputs: 3, cancels: 1, terminates: 1}},
	{"3 inputs, a cancel, a terminate, 1 harm", limits{inputs: 3, cancels: 1, terminates: 1, any: 1}},
	{"3 inputs, a cancel, a terminate, an error, 3 harms", limits{inputs: 3, cancels: 1, terminates: 1, errors: 1, any: 3}},
}

func TestEveryInterleavingKeepsThePromises(t *testing.T) {
	for _, s := range searches {
		t.Run(s.name, func(t *testing.T) {
			x := explore(newWorld(s.limits), *exploreMost)
			if x.broken >= 0 {
				t.Fatalf("%s, after\n\t%s", x.why, strings.Join(x.trace(x.broken), "\n\t"))
			}
			bound := "to a fixpoint"
			if !x.whole {
				bound = fmt.Sprintf("to a bound of %d states", *exploreMost)
			} else if n := x.stuck(); n >= 0 {
				t.Fatalf("without a fault nothing can be brought to its end, after\n\t%s", strings.Join(x.trace(n), "\n\t"))
			}
			t.Logf("proof: %s: %d states, %d transitions, %s, every promise kept", t.Name(), len(x.from), x.edges, bound)
		})
	}
}

func TestAFaultPutInByHandGivesAShortestTrace(t *testing.T) {
	for _, c := range []struct {
		name    string
		planted fault
		limits
		why  string
		last string
		long int
	}{
		{"the turn that follows in the slot is dropped", dropsPromoted, limits{inputs: 2}, "nothing can be brought to its end", "is applied", 4},
		{"an end is written under a lost lease", settlesLost, limits{inputs: 1, fences: 1}, "turns failed", "is applied", 7},
		{"a lease is entered that came after its worker had ended", entersLate, limits{inputs: 1, fences: 1}, "O1", "is entered", 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(c.limits)
			w.planted = c.planted
			x := explore(w, 100_000)
			n, why := x.broken, x.why
			if n < 0 && x.whole {
				n, why = x.stuck(), "nothing can be brought to its end"
			}
			if n < 0 || !strings.Contains(why, c.why) {
				t.Fatalf("got %q, want it found: %s", why, c.why)
			}
			trace := x.trace(n)
			if len(trace) != c.long || !strings.Contains(trace[len(trace)-1], c.last) {
				t.Errorf("got %d steps, want %d, and %q at the end\n\t%s", len(trace), c.long, c.last, strings.Join(trace, "\n\t"))
			}
		})
	}
}
