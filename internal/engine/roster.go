package engine

import (
	"maps"
	"slices"

	"github.com/perdure/perdure/store"
)

// roster says which leases an engine holds and which handlers run in it: who may be entered, what is to be given back,
// what an answer of the store is still worth. It starts nothing and calls nobody. The engine's mutex guards it.
type roster struct {
	slots   slots
	tickets tickets
	state   state
	worker  string                // under which leases are good; empty while there is no registration
	leases  map[store.Lease]*life // held
	newest  map[int64]*life       // of them, by incarnation, that with the highest epoch
	inside  map[string]*life      // by task ID: handlers that have not returned
	probing *life                 // the suspect that was entered last (R4)
	spent   map[store.Lease]bool  // leases that were lost by a refusal after a handler was entered
}

// state says what an engine does.
type state int

const (
	idle     state = iota
	active         // it takes leases and enters handlers
	draining       // it enters none any more
	stopped        // it writes nothing any more
)

// life is an attempt as the roster knows it.
type life struct {
	lease   store.Lease
	task    string // ID
	fn      string
	suspect bool
	phase   phase
	slot    *slot    // nil: it is to be given back, beyond what the engine may hold
	kept    bool     // the slot was passed on to it, past others that wait
	of      *Attempt // whose life it is
}

func newRoster(s slots) roster {
	return roster{slots: s, tickets: tickets{open: map[int64]bool{}}, leases: map[store.Lease]*life{}, newest: map[int64]*life{}, inside: map[string]*life{}, spent: map[store.Lease]bool{}}
}

// worth is what a lease that has come is worth.
type worth int

const (
	dead    worth = iota // nothing: its worker may no longer write
	surplus              // it goes back, and no handler is entered
	good
)

// arrive takes in a lease that an answer has brought, with the slot that was reserved for it, if one was. An older lease
// of the same task is gone when the store has given another one: what becomes of it is returned if it was held here.
func (r *roster) arrive(l *life, reserved *slot) (worth, *change) {
	older := r.newest[l.lease.Incarnation]
	if l.lease.Worker != r.worker || r.state == stopped || older != nil && older.lease.Epoch >= l.lease.Epoch {
		reserved.free()
		l.phase = over
		return dead, nil
	}
	var gone *change
	if older != nil {
		gone = &change{of: older.of, before: r.advance(older, lost)}
		gone.now = older.phase
	}
	if l.slot = reserved; l.slot == nil {
		l.slot = r.slots.take(l.fn)
	}
	r.leases[l.lease], r.newest[l.lease.Incarnation] = l, l
	if l.suspect && l.slot != nil {
		r.probing = l
	}
	if l.slot == nil || r.state != active {
		l.phase = settling
		return surplus, gone
	}
	return good, gone
}

// change is what a move has done to an attempt.
type change struct {
	of          *Attempt
	before, now phase
}

// pass takes in the lease of the turn that follows in the slot of the one that has just been written to have ended.
func (r *roster) pass(from, to *life) worth {
	if !from.phase.holds() { // its worker has ended since, and the next one's lease with it
		to.phase = over
		r.advance(from, written)
		return dead
	}
	to.slot, from.slot = from.slot.pass(), nil
	to.kept = r.slots.waiting[to.fn]
	r.advance(from, written)
	w, _ := r.arrive(to, to.slot) // from was the newest
	return w
}

// keeps reports whether the slot of a turn that ends may be passed on to the next turn of its task. At its limit a func
// passes one on only once while others wait for it.
func (r *roster) keeps(l *life) bool {
	return l.phase == settling && l.slot != nil && r.state == active && !(l.kept && r.slots.waiting[l.fn])
}

// enter admits a handler. While an earlier one of the task is inside, that is returned to be waited for.
func (r *roster) enter(l *life) (admitted bool, before *life) {
	if l.phase != arriving || r.state != active {
		return false, nil
	}
	if before := r.inside[l.task]; before != nil {
		return false, before
	}
	r.advance(l, entered)
	return true, nil
}

// advance makes a move, and returns the phase before it.
func (r *roster) advance(l *life, m move) (before phase) {
	before = l.phase
	l.phase = before.after(m)
	if before.holds() && !l.phase.holds() {
		delete(r.leases, l.lease)
		if r.newest[l.lease.Incarnation] == l {
			delete(r.newest, l.lease.Incarnation)
		}
		l.slot.endLease()
	}
	switch {
	case l.phase.inside():
		r.inside[l.task] = l
	case before.inside():
		delete(r.inside, l.task)
	}
	if !l.phase.inside() {
		r.cleared(l)
	}
	if l.phase == over {
		l.slot.free()
	}
	return before
}

// all makes a move of every attempt that holds a lease, and returns what that has changed.
func (r *roster) all(m move) []change {
	var changes []change
	for _, l := range r.leases {
		if before := r.advance(l, m); l.phase != before {
			changes = append(changes, change{l.of, before, l.phase})
		}
	}
	return changes
}

// refused notes that the store says that a lease is gone, under which a handler was entered. Should the store still hold
// it, it goes back as one of a turn that was begun.
func (r *roster) refused(l *life) phase {
	if l.phase.holds() && l.phase != arriving {
		r.spent[l.lease] = true
	}
	return r.advance(l, lost)
}

// release is how a lease goes back that the store holds and nobody here knows.
func (r *roster) release(lease store.Lease) store.Release {
	if r.spent[lease] {
		return store.ReleaseWrapped
	}
	return store.ReleaseDeclined
}

// fence ends a registration, and with it all leases under it: nothing of theirs may be written from now on.
func (r *roster) fence(worker string) []change {
	if r.worker != worker {
		return nil
	}
	r.worker = ""
	clear(r.spent)
	return r.all(lost)
}

// cleared lets the next suspect in, if l is the one that holds it up.
func (r *roster) cleared(l *life) {
	if r.probing == l {
		r.probing = nil
		if r.slots.freed != nil {
			r.slots.freed()
		}
	}
}

// except returns the tasks that are not to be claimed: their last handler is still inside.
func (r *roster) except() []string {
	var tasks []string
	for id, l := range r.inside {
		if l.phase != running {
			tasks = append(tasks, id)
		}
	}
	slices.Sort(tasks)
	return tasks
}

// tickets are the numbers of requests that may be given a lease. A worker never uses one twice.
type tickets struct {
	last int64
	open map[int64]bool // not answered yet
}

// issue returns the next number.
func (t *tickets) issue() int64 {
	t.last++
	t.open[t.last] = true
	return t.last
}

// answered notes that a request has its answer, or that none is expected any more. Number 0 is none.
func (t *tickets) answered(number int64) { delete(t.open, number) }

// snapshot returns a copy.
func (t *tickets) snapshot() tickets { return tickets{last: t.last, open: maps.Clone(t.open)} }

// oldest returns the lowest number of a request that is not answered; the next one to be issued if all are.
func (t *tickets) oldest() int64 {
	first := t.last + 1
	for n := range t.open {
		first = min(first, n)
	}
	return first
}
