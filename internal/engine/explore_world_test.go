package engine

import (
	"fmt"
	"slices"
	"time"

	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/rules"
)

// world is a state of the exploration: the rows of one task, two engines without goroutines, and what is on its way
// between them. What an engine decides is decided by the real roster, slots and decide; what the store decides, by the
// real rules. Only the order of things is the explorer's.
type world struct {
	rows    *oneTask
	hosts   [2]*host
	ticks   int64 // of the store's clock
	left    limits
	broken  string // what is wrong with this state
	planted fault  // what the engines do wrong on purpose

	entries  int // of handlers
	failures int // errors that handlers returned
	counted  int // leases that have lapsed, or were given back by choice
	offered  int // inputs
}

// limits are how often what nobody wishes for, or what callers do, may still happen.
type limits struct {
	inputs, cancels, terminates, errors                    int
	faults, deaths, fences, stops, deadlines, waitTimeouts int
	any                                                    int // of those in the line above, beside
	turns                                                  int // that an engine runs at most of the func: 1 by default
}

// fault is something that engines may be made to do wrong, to see that it is found.
type fault int

const (
	dropsPromoted fault = iota + 1
	settlesLost
	entersLate
)

// may reports whether something may happen of which n are left.
func (l *limits) may(n int) bool { return n > 0 || l.any > 0 }

func (l *limits) use(n *int) {
	if *n > 0 {
		*n--
		return
	}
	l.any--
}

// host is an engine.
type host struct {
	name  string
	made  int // registrations
	r     roster
	old   string // the registration that the next one replaces
	lives []*life
	known map[*life]*stay
	ops   []*op
	early []told
}

// told is news for a lease that may be on its way.
type told struct {
	epoch int64
	kind  store.MailKind
}

// stay is what an attempt knows beside its life.
type stay struct {
	task      *store.Task
	causes    Causes
	forgotten bool // by a fault that was put in: nobody acts on it
}

// op is an operation on its way to the store, or its answer on the way back.
type op struct {
	kind    string
	req     any
	life    *life // settle
	slot    *slot // offer
	ticket  int64
	worker  string // of the engine then
	applied bool
	nobody  bool // waits for the answer any more
	answer  any
	err     error
}

const (
	exploredFunc = "f"
	exploredTask = "t"
)

func exploredSettings() store.Settings {
	return store.Settings{MultiTurn: true, Steerable: true, MaxPending: 3, MaxRecoveries: 2, Timeout: time.Hour, TimeoutGrace: time.Minute}
}

func newWorld(l limits) *world {
	w := &world{rows: newOneTask(), left: l}
	for i, name := range []string{"A", "B"} {
		h := newHost(name, max(l.turns, 1))
		w.hosts[i] = h
		h.register()
		w.apply(h.ops[0])
		o := h.ops[0]
		h.forget(0)
		w.answered(i, o)
	}
	return w
}

func newHost(name string, turns int) *host {
	h := &host{name: name, known: map[*life]*stay{}}
	h.r = newRoster(newSlots(2, map[string]int{exploredFunc: turns}, nil))
	h.r.state = active
	return h
}

func (w *world) now() time.Time {
	w.ticks++
	return time.UnixMicro(1_000_000_000_000 + w.ticks).UTC()
}

// copy returns a world in which one of the hosts may change; -1: none.
func (w *world) copy(host int) *world {
	c := *w
	c.rows = w.rows.copy()
	if host >= 0 {
		c.hosts[host] = w.hosts[host].copy()
	}
	return &c
}

func (h *host) copy() *host {
	c := *h
	lives := map[*life]*life{}
	slotOf := func(s *slot) *slot {
		if s == nil {
			return nil
		}
		n := *s
		n.of = &c.r.slots
		return &n
	}
	c.lives, c.known = make([]*life, len(h.lives)), make(map[*life]*stay, len(h.lives))
	for i, l := range h.lives {
		n := *l
		n.slot = slotOf(l.slot)
		lives[l], c.lives[i] = &n, &n
		s := *h.known[l]
		c.known[&n] = &s
	}
	c.r.slots.turns, c.r.slots.waiting = copyMap(h.r.slots.turns), copyMap(h.r.slots.waiting)
	c.r.tickets.open, c.r.spent = copyMap(h.r.tickets.open), copyMap(h.r.spent)
	c.r.leases, c.r.newest, c.r.inside = moved(h.r.leases, lives), moved(h.r.newest, lives), moved(h.r.inside, lives)
	c.r.probing = lives[h.r.probing]
	c.early = slices.Clone(h.early)
	c.ops = make([]*op, len(h.ops))
	for i, o := range h.ops {
		n := *o
		n.life, n.slot = lives[o.life], slotOf(o.slot)
		c.ops[i] = &n
	}
	return &c
}

func copyMap[K comparable, V any](m map[K]V) map[K]V {
	c := make(map[K]V, len(m))
	for k, v := range m {
		c[k] = v
	}
	return c
}

func moved[K comparable](m map[K]*life, to map[*life]*life) map[K]*life {
	c := make(map[K]*life, len(m))
	for k, l := range m {
		c[k] = to[l]
	}
	return c
}

// apply has the store carry out an operation.
func (w *world) apply(o *op) {
	before := w.rows.copy()
	switch req := o.req.(type) {
	case *store.OfferRequest:
		o.answer, o.err = rules.Offer(w.rows, w.now(), req)
	case *store.ClaimRequest:
		o.answer, o.err = rules.Claim(w.rows, w.now(), req)
	case *store.SettleRequest:
		o.answer, o.err = rules.Settle(w.rows, w.now(), req)
	case *store.SignalRequest:
		o.answer, o.err = rules.Signal(w.rows, w.now(), req)
	case *store.HeartbeatRequest:
		o.answer, o.err = rules.Heartbeat(w.rows, w.now(), req)
	}
	if o.err != nil {
		w.rows = before
		if !store.Definite(o.err) {
			w.broken = "the rules failed: " + o.err.Error()
		}
	}
	o.applied = true
	w.checkOutcomes(before)
}

// checkOutcomes looks at what an operation has done to turns that had ended.
func (w *world) checkOutcomes(before *oneTask) {
	failed := 0
	for i, t := range w.rows.turns {
		if i < len(before.turns) && before.turns[i].Status.Outcome() && before.turns[i].Status != t.Status {
			w.broken = fmt.Sprintf("turn %d was %s and is %s", t.Number, before.turns[i].Status, t.Status)
		}
		if t.Status == store.Failed {
			failed++
		}
	}
	if failed > w.failures {
		w.broken = fmt.Sprintf("%d turns failed, and %d handlers did", failed, w.failures)
	}
}

// check looks at a state as a whole.
func (w *world) check() {
	if w.broken != "" {
		return
	}
	alive := 0
	for _, h := range w.hosts {
		for _, l := range h.lives {
			if l.phase == running {
				alive++
			}
		}
		if problem := h.slotProblem(); problem != "" {
			w.broken = h.name + ": " + problem
		}
	}
	if alive > 1 {
		w.broken = fmt.Sprintf("O1: %d handlers run, their contexts alive", alive)
	}
	if t := w.rows.task; t != nil {
		if problem := rowProblem(t); problem != "" {
			w.broken = problem
		}
		if t.Turn.Recoveries > w.counted {
			w.broken = fmt.Sprintf("R4: %d recoveries are counted, and %d leases have lapsed or were given back", t.Turn.Recoveries, w.counted)
		}
	}
}

// slotProblem counts slots again from what holds them.
func (h *host) slotProblem() string {
	leases, turns, inside := 0, 0, 0
	count := func(s *slot) {
		if s != nil && s.lease {
			leases++
		}
		if s != nil && s.turn {
			turns++
		}
	}
	for _, l := range h.lives {
		count(l.slot)
		if l.phase.inside() {
			inside++
		}
		if l.slot != nil && (l.slot.lease != l.phase.holds() || l.slot.turn != (l.phase != over)) {
			return fmt.Sprintf("a %v attempt has slot %+v", l.phase, *l.slot)
		}
	}
	for _, o := range h.ops {
		count(o.slot)
	}
	s := &h.r.slots
	switch {
	case s.leases != leases || s.turns[exploredFunc] != turns:
		return fmt.Sprintf("slots: %d leases and %d turns are counted, %d and %d there", s.leases, s.turns[exploredFunc], leases, turns)
	case inside > 1:
		return "O1: a handler is entered before the one before it has returned"
	case leases > s.most || inside > s.limits[exploredFunc]:
		return fmt.Sprintf("limits: %d leases of %d, %d handlers of %d", leases, s.most, inside, s.limits[exploredFunc])
	}
	return ""
}

// rowProblem says what is wrong with a task's row.
func rowProblem(t *store.Task) string {
	ended := t.Status.Terminal() || t.Status == store.Suspended
	switch {
	case ended && t.Queued > 0:
		return "T1: it has ended or is suspended, and inputs are queued"
	case (ended || t.Status == store.Parked) && (t.Worker != "" || t.Due):
		return "it has ended, and is leased or due"
	case !ended && t.Status != store.Parked && t.Worker == "" && !t.Due:
		return "nobody runs it and nobody will"
	case t.Due && t.Worker != "":
		return "it is leased and due"
	case t.Queued < 0 || t.Nudging < 0 || t.Nudging > t.Queued:
		return "its queue is counted wrong"
	}
	return ""
}

// done reports whether a state is one in which everything may stay as it is: each input has its outcome, or its task is
// in quarantine, and nothing is on its way.
func (w *world) done() bool {
	for _, h := range w.hosts {
		if len(h.ops) > 0 || slices.ContainsFunc(h.lives, func(l *life) bool { return l.phase != over }) {
			return false
		}
	}
	t := w.rows.task
	if t == nil || t.Status == store.Parked {
		return true
	}
	return !slices.ContainsFunc(w.rows.turns, func(t store.Turn) bool { return !t.Status.Outcome() })
}
