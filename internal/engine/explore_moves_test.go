package engine

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/rules"
)

// choice is something that may happen in a state.
type choice struct {
	name  string
	fault bool // nobody wishes for it
	host  int  // to which it happens; -1: to none
	do    func(w *world)
}

// choices returns all that may happen next.
func (w *world) choices() (all []choice) {
	add := func(fault bool, host int, name string, do func(w *world)) {
		all = append(all, choice{name, fault, host, do})
	}
	w.callers(add)
	w.passing(add)
	for i := range w.hosts {
		w.loops(i, add)
		w.handlers(i, add)
		w.answers(i, add)
		w.harm(i, add)
	}
	return all
}

type adder func(fault bool, host int, name string, do func(w *world))

// callers give inputs, cancel and terminate, each through one of the engines.
func (w *world) callers(add adder) {
	if w.left.inputs > 0 {
		i := w.offered % 2
		add(false, i, fmt.Sprintf("%s: input %d is offered", w.hosts[i].name, w.offered+1), func(w *world) {
			w.left.inputs--
			w.offered++
			w.hosts[i].offer(w.offered)
		})
	}
	if w.rows.task == nil {
		return
	}
	if w.left.cancels > 0 {
		add(false, 1, "B: cancel", func(w *world) {
			w.left.cancels--
			w.hosts[1].signal(store.Cancel)
		})
	}
	if w.left.terminates > 0 {
		add(false, 0, "A: terminate", func(w *world) {
			w.left.terminates--
			w.hosts[0].signal(store.Terminate)
		})
	}
}

// passing is what time does, and the sweep.
func (w *world) passing(add adder) {
	t := w.rows.task
	if t == nil {
		return
	}
	if t.Due && !t.NotBefore.IsZero() {
		add(false, -1, "a delay is over", func(w *world) {
			t := *w.rows.task
			t.NotBefore = time.Time{}
			w.rows.task = &t
		})
	}
	if w.left.may(w.left.deadlines) && !t.Turn.Ended && !t.Turn.Deadline.IsZero() && !w.late() {
		add(false, -1, "the deadline passes", func(w *world) {
			w.left.use(&w.left.deadlines)
			t := *w.rows.task
			t.Turn.Deadline = w.now()
			if t.Due {
				t.EndBy = t.Turn.Deadline
			}
			w.rows.task = &t
		})
	}
	if !t.EndBy.IsZero() && (t.Turn.Called || t.Turn.Cancel || w.late()) {
		add(false, -1, "a sweep ends what nobody runs, or leaves it to the workers", func(w *world) {
			t := *w.rows.task
			t.EndBy = w.now()
			w.rows.task = &t
			before := w.rows.copy()
			if _, err := rules.Sweep(w.rows, w.now(), 10); err != nil {
				w.broken = "sweep: " + err.Error()
			}
			w.checkOutcomes(before)
		})
	}
	for _, id := range slices.Sorted(maps.Keys(w.rows.workers)) {
		if worker := w.rows.workers[id]; !worker.Dead && worker.ExpiresAt.After(time.Unix(0, 0)) && !w.registered(id) {
			add(false, -1, "the lease of "+id+" lapses", func(w *world) {
				worker := w.rows.workers[id]
				worker.ExpiresAt = time.Unix(0, 0)
				_ = w.rows.PutWorker(&worker)
				w.counted++
			})
		}
	}
}

func (w *world) late() bool {
	t := w.rows.task
	return !t.Turn.Deadline.IsZero() && !time.UnixMicro(1_000_000_000_000+w.ticks+1).Before(t.Turn.Deadline)
}

// registered reports whether some engine still counts on a registration.
func (w *world) registered(id string) bool {
	for _, h := range w.hosts {
		if h.r.worker == id || slices.ContainsFunc(h.ops, func(o *op) bool {
			beat, ok := o.req.(*store.HeartbeatRequest)
			return ok && beat.Worker == id && !o.nobody
		}) {
			return true
		}
	}
	return false
}

// loops are what an engine does of itself.
func (w *world) loops(i int, add adder) {
	h := w.hosts[i]
	switch {
	case h.r.state == stopped:
		add(false, i, h.name+": another process is started", func(w *world) { w.hosts[i].begin() })
		return
	case h.r.worker == "" && !h.asks("beat"):
		if h.r.state == active {
			add(false, i, h.name+": registers", func(w *world) { w.hosts[i].register() })
		}
		return
	case h.r.worker == "":
		return
	}
	if h.r.state == active && !h.asks("claim") && w.claims(h) {
		add(false, i, h.name+": claims", func(w *world) { w.hosts[i].claim() })
	}
	if t := w.rows.task; t != nil && t.Worker == h.r.worker && h.unknown(t) {
		add(false, i, h.name+": the audit gives a lease back", func(w *world) { w.hosts[i].audit(w.rows.task) })
	}
	if m := w.mailOf(h.r.worker); m != nil {
		add(false, i, h.name+": mail "+string(m.Kind), func(w *world) {
			m := *w.mailOf(w.hosts[i].r.worker)
			w.hosts[i].tell(m.Epoch, m.Kind)
			w.rows.dropMail(func(o store.Mail) bool { return o.Seq == m.Seq })
		})
	}
	if h.r.state == draining {
		add(false, i, h.name+": the drain time is over", func(w *world) { w.hosts[i].r.all(cutOff) })
		add(false, i, h.name+": stops", func(w *world) { w.stop(i) })
	}
}

func (h *host) asks(kind string) bool {
	return slices.ContainsFunc(h.ops, func(o *op) bool { return o.kind == kind && !o.nobody })
}

// claims reports whether a claim would do anything.
func (w *world) claims(h *host) bool {
	if t := w.rows.task; t == nil || !t.Due && !w.dead(t.Worker) {
		return false
	}
	if slices.Contains(h.r.except(), exploredTask) && !w.dead(w.rows.task.Worker) {
		return false
	}
	return h.r.slots.room(exploredFunc) > 0 || w.dead(w.rows.task.Worker)
}

func (w *world) dead(id string) bool {
	worker, ok := w.rows.workers[id]
	return ok && (worker.Dead || !worker.ExpiresAt.After(time.Unix(0, 0)))
}

func (w *world) mailOf(worker string) *store.Mail {
	for i, m := range w.rows.mail {
		if m.Worker == worker {
			return &w.rows.mail[i]
		}
	}
	return nil
}

// unknown is the audit's question.
func (h *host) unknown(t *store.Task) bool {
	lease := store.Lease{Incarnation: t.Incarnation, Worker: t.Worker, Epoch: t.Epoch}
	return t.Request < h.r.tickets.oldest() && h.r.leases[lease] == nil && !h.asks("audit")
}

// handlers are entered, return, are cut short.
func (w *world) handlers(i int, add adder) {
	h := w.hosts[i]
	for n, l := range h.lives {
		if h.known[l].forgotten {
			continue
		}
		name := fmt.Sprintf("%s: turn %d of epoch %d", h.name, h.known[l].task.Turn.Number, l.lease.Epoch)
		switch l.phase {
		case arriving:
			add(false, i, name+" is entered", func(w *world) { w.enter(i, n) })
			if h.r.inside[l.task] != nil && w.left.may(w.left.waitTimeouts) {
				add(false, i, name+" waits in vain for the handler before it", func(w *world) {
					w.left.use(&w.left.waitTimeouts)
					h := w.hosts[i]
					h.r.advance(h.lives[n], declined)
					h.settle(h.lives[n], &store.SettleRequest{Kind: store.SettleRelease, Release: store.ReleaseDeclined})
				})
			}
		case running, drained, expiring, stray:
			add(false, i, name+" returns", func(w *world) { w.leave(i, n, report{}) })
			if h.known[l].causes.Any() {
				add(false, i, name+" wraps up", func(w *world) { w.leave(i, n, report{failure: &failure{interrupt: true}}) })
			}
			if w.left.errors > 0 {
				add(false, i, name+" fails", func(w *world) {
					w.left.errors--
					w.failures++
					w.leave(i, n, report{failure: &failure{permanent: true}})
				})
			}
			if t := w.rows.task; l.phase == running && t != nil && w.late() && t.Turn.Number == h.known[l].task.Turn.Number {
				add(false, i, name+" ignores its deadline", func(w *world) {
					h := w.hosts[i]
					h.r.advance(h.lives[n], expired)
					h.settle(h.lives[n], halted(store.Terminated, "deadline", exploredSettings()))
				})
			}
		}
	}
}

// enter enters a handler, if the roster lets it.
func (w *world) enter(i, n int) {
	h := w.hosts[i]
	l := h.lives[n]
	admitted, before := h.r.enter(l)
	if before != nil {
		return
	}
	if !admitted {
		h.r.advance(l, declined)
		h.settle(l, &store.SettleRequest{Kind: store.SettleRelease, Release: store.ReleaseDeclined})
		return
	}
	task := h.known[l].task
	if task.Turn.Entry == store.EntryFresh && w.entries > 0 {
		w.broken = "a handler is entered as fresh, and is not the first"
	}
	w.entries++
	if t := w.rows.task; t.Worker == l.lease.Worker && t.Epoch == l.lease.Epoch {
		for _, turn := range w.rows.turns[:task.Turn.Number-1] {
			if !turn.Status.Outcome() {
				w.broken = fmt.Sprintf("G1: turn %d is entered before turn %d has ended", task.Turn.Number, turn.Number)
			}
		}
	}
}

// leave is the return of a handler.
func (w *world) leave(i, n int, r report) {
	h := w.hosts[i]
	l := h.lives[n]
	before := h.r.advance(l, returned)
	if before == stray && w.planted == settlesLost {
		h.send(&op{kind: "settle", life: l, req: &store.SettleRequest{Lease: l.lease, Kind: store.SettleEnd, Outcome: store.Failed, Then: store.Failed}})
	}
	if before != running && before != drained {
		return
	}
	k := h.known[l]
	h.settle(l, decide(r, situation{settings: k.task.Settings, attempt: k.task.Turn.Attempt, causes: k.causes, shown: k.causes.Any(),
		stopped: before == drained, random: func() float64 { return 0 }}))
}

// answers come, or do not come, to what is on its way.
func (w *world) answers(i int, add adder) {
	h := w.hosts[i]
	for n, o := range h.ops {
		name := fmt.Sprintf("%s: %s %d", h.name, o.kind, n)
		if !o.applied {
			add(false, i, name+" is applied", func(w *world) {
				o := w.hosts[i].ops[n]
				w.apply(o)
				if o.nobody {
					w.hosts[i].forget(n)
				}
			})
		}
		if o.nobody {
			add(true, i, name+", given up, never arrives", func(w *world) { w.hosts[i].forget(n) })
			continue
		}
		if o.applied {
			add(false, i, name+" is answered", func(w *world) {
				o := w.hosts[i].ops[n]
				w.hosts[i].forget(n)
				w.answered(i, o)
			})
		}
		if w.left.may(w.left.faults) && o.err == nil {
			add(true, i, name+": its answer is lost, or late, and it is sent again", func(w *world) {
				w.left.use(&w.left.faults)
				w.hosts[i].again(n)
			})
		}
		if h.r.worker != o.worker && o.kind != "offer" && o.kind != "signal" && o.kind != "beat" {
			add(false, i, name+" is given up: its worker has ended", func(w *world) { w.giveUp(i, n) })
		}
	}
}

// harm is what nobody wishes for.
func (w *world) harm(i int, add adder) {
	h := w.hosts[i]
	if w.left.may(w.left.deaths) && h.r.state != stopped {
		add(true, i, h.name+" dies", func(w *world) {
			w.left.use(&w.left.deaths)
			w.hosts[i].die()
		})
	}
	if w.left.may(w.left.fences) && h.r.worker != "" {
		add(true, i, h.name+" cannot renew: it stops its turns", func(w *world) {
			w.left.use(&w.left.fences)
			h := w.hosts[i]
			h.old = h.r.worker
			h.r.fence(h.r.worker)
		})
	}
	if w.left.may(w.left.stops) && h.r.state == active && h.r.worker != "" {
		add(true, i, h.name+" begins to shut down", func(w *world) {
			w.left.use(&w.left.stops)
			h := w.hosts[i]
			h.r.state = draining
			for l := range h.r.leases {
				h.known[h.r.leases[l]].causes.Shutdown = true
			}
		})
	}
}

// What follows is what the engine's goroutines do around the roster, in the same order.

func (h *host) send(o *op) {
	o.worker = h.r.worker
	h.ops = append(h.ops, o)
}

func (h *host) forget(n int) { h.ops = slices.Delete(h.ops, n, n+1) }

func (h *host) offer(n int) {
	settings := exploredSettings()
	req := &store.OfferRequest{TaskID: exploredTask, Func: exploredFunc, InputID: fmt.Sprint(n), Settings: &settings, Worker: h.r.worker,
		Digests: []store.Digest{{Sum: fmt.Sprint(n)}}}
	o := &op{kind: "offer", req: req}
	if h.r.worker != "" && h.r.state == active && h.r.inside[exploredTask] == nil {
		if o.slot = h.r.slots.reserve(exploredFunc); o.slot != nil {
			o.ticket = h.r.tickets.issue()
			req.Lease, req.Request = true, o.ticket
		}
	}
	h.send(o)
}

func (h *host) signal(kind store.SignalKind) {
	h.send(&op{kind: "signal", req: &store.SignalRequest{TaskID: exploredTask, Kind: kind, Worker: h.r.worker, RequestID: string(kind)}})
}

func (h *host) claim() {
	req := &store.ClaimRequest{Worker: h.r.worker, Suspect: h.r.probing == nil, Except: h.r.except(), Limit: h.r.slots.most - h.r.slots.leases}
	if n := h.r.slots.room(exploredFunc); n > 0 {
		req.Funcs = []store.ClaimFunc{{Name: exploredFunc, Limit: n}}
	} else {
		h.r.slots.waiting[exploredFunc] = true
	}
	req.Request = h.r.tickets.issue()
	h.send(&op{kind: "claim", req: req, ticket: req.Request})
}

func (h *host) register() {
	h.made++
	h.send(&op{kind: "beat", req: &store.HeartbeatRequest{Worker: fmt.Sprint(h.name, h.made), Lease: time.Hour, First: true, Replaces: h.old,
		Funcs: []store.PublishedFunc{{Name: exploredFunc}}}})
}

func (h *host) audit(t *store.Task) {
	lease := store.Lease{Incarnation: t.Incarnation, Worker: t.Worker, Epoch: t.Epoch}
	h.send(&op{kind: "audit", req: &store.SettleRequest{Lease: lease, Kind: store.SettleRelease, Release: h.r.release(lease)}})
}

func (h *host) settle(l *life, req *store.SettleRequest) {
	req.Lease = l.lease
	o := &op{kind: "settle", req: req, life: l}
	if req.Kind == store.SettleEnd && h.r.keeps(l) {
		o.ticket = h.r.tickets.issue()
		req.KeepLease, req.Request = true, o.ticket
	}
	if l.phase.holds() {
		h.send(o)
	} else {
		h.r.tickets.answered(o.ticket)
	}
}

// begin is the start of another process in the place of one that has ended.
func (h *host) begin() {
	ops, made := h.ops, h.made
	*h = *newHost(h.name, h.r.slots.limits[exploredFunc])
	h.ops, h.made = ops, made
}

// die ends a process: what it has sent may still arrive.
func (h *host) die() {
	kept := h.ops[:0:0]
	for _, o := range h.ops {
		if !o.applied {
			kept = append(kept, &op{kind: o.kind, req: o.req, worker: o.worker, nobody: true})
		}
	}
	h.ops = kept
	h.begin()
}

// stop is the end of a shutdown.
func (w *world) stop(i int) {
	h := w.hosts[i]
	h.r.state = stopped
	h.r.all(lost)
	left := &op{kind: "beat", req: &store.HeartbeatRequest{Worker: h.r.worker, Leave: true}}
	w.apply(left)
	h.die()
	h.r.state = stopped
}

// again sends an operation once more. What was sent before may still arrive, if it has not.
func (h *host) again(n int) {
	o := h.ops[n]
	if !o.applied {
		h.ops = append(h.ops, &op{kind: o.kind, req: o.req, worker: o.worker, nobody: true})
	}
	o.applied, o.answer = false, nil
	switch req := o.req.(type) {
	case *store.OfferRequest:
		r := *req
		r.Repeat = true
		o.req = &r
	case *store.ClaimRequest:
		r := *req
		r.Repeat = true
		o.req = &r
	}
}

// giveUp is the end of the tries of an operation whose worker has ended.
func (w *world) giveUp(i, n int) {
	h := w.hosts[i]
	o := h.ops[n]
	h.r.tickets.answered(o.ticket)
	if o.kind == "settle" {
		h.r.advance(o.life, lost)
	}
	if o.applied {
		h.forget(n)
		return
	}
	o.nobody, o.life, o.ticket = true, nil, 0
}

var errExplored = errors.New("unknown answer")

// answered acts on an answer.
func (w *world) answered(i int, o *op) {
	h := w.hosts[i]
	switch answer := o.answer.(type) {
	case *store.Offered:
		if o.err != nil || answer.Entry == nil {
			o.slot.free()
		}
		if o.err == nil {
			if answer.Entry != nil {
				w.receive(h, answer.Entry, o.slot)
			}
			if answer.Steered {
				h.tell(answer.Epoch, store.MailSteered)
			}
		}
	case *store.Claimed:
		if o.err == nil {
			for _, entry := range answer.Entries {
				w.receive(h, entry, nil)
			}
			if req := o.req.(*store.ClaimRequest); !answer.More || req.Limit == 0 {
				h.r.slots.served(exploredFunc)
			}
		}
	case *store.Settled:
		w.settled(h, o, answer)
	case *store.Signalled:
		if o.err == nil {
			if answer.Marked {
				h.tell(answer.Epoch, store.MailCancel)
			}
			if o.req.(*store.SignalRequest).Kind == store.Terminate && answer.Changed {
				h.tell(answer.Epoch, store.MailTerminated)
			}
		}
	case *store.Beat:
		if o.err == nil {
			h.r.worker = o.req.(*store.HeartbeatRequest).Worker
		}
	default:
		w.broken = errExplored.Error()
	}
	h.r.tickets.answered(o.ticket)
	if len(h.r.tickets.open) == 0 {
		h.early = nil
	}
}

func (w *world) settled(h *host, o *op, s *store.Settled) {
	switch {
	case o.life == nil: // the audit's
	case o.err != nil:
		h.r.refused(o.life)
	case s.Entry != nil && w.planted == dropsPromoted:
		next := h.life(s.Entry)
		h.r.pass(o.life, next)
		h.known[next].forgotten = true
	case s.Entry != nil:
		next := h.life(s.Entry)
		got := h.r.pass(o.life, next)
		h.hearEarly(next)
		if got == surplus {
			h.settle(next, &store.SettleRequest{Kind: store.SettleRelease, Release: store.ReleaseDeclined})
		}
	default:
		h.r.advance(o.life, written)
	}
	if o.err == nil && s.Ended != nil {
		stored := w.rows.turns[s.Ended.Number-1].Status
		if stored != s.Ended.Status {
			w.broken = fmt.Sprintf("T2: turn %d is told as %s and stored as %s", s.Ended.Number, s.Ended.Status, stored)
		}
	}
}

// life makes an attempt of a lease.
func (h *host) life(entry *store.Entry) *life {
	t := entry.Task
	l := &life{lease: entry.Lease, task: t.ID, fn: t.Func, suspect: t.Suspect}
	h.lives = append(h.lives, l)
	h.known[l] = &stay{task: t, causes: Causes{Steered: t.Nudging > 0, Cancel: t.Turn.Cancel, Deadline: t.Turn.Overdue}}
	return l
}

// hearEarly tells an attempt what was heard before it came.
func (h *host) hearEarly(l *life) {
	for _, n := range h.early {
		if n.epoch == l.lease.Epoch {
			h.hear(l, n.kind)
		}
	}
}

func (w *world) receive(h *host, entry *store.Entry, reserved *slot) {
	l := h.life(entry)
	worker := h.r.worker
	if w.planted == entersLate {
		h.r.worker = l.lease.Worker
	}
	got, _ := h.r.arrive(l, reserved)
	h.r.worker = worker
	h.hearEarly(l)
	if got == surplus {
		h.settle(l, &store.SettleRequest{Kind: store.SettleRelease, Release: store.ReleaseDeclined})
	}
}

// tell brings news to the turn that holds a lease, or keeps it while that may be on its way.
func (h *host) tell(epoch int64, kind store.MailKind) {
	l := h.r.newest[1]
	if l == nil || epoch > l.lease.Epoch {
		if len(h.r.tickets.open) > 0 {
			h.early = append(h.early, told{epoch, kind})
		}
		return
	}
	if epoch == l.lease.Epoch {
		h.hear(l, kind)
	}
}

func (h *host) hear(l *life, kind store.MailKind) {
	switch kind {
	case store.MailTerminated:
		h.r.advance(l, lost)
	case store.MailSteered:
		h.known[l].causes.Steered = true
	case store.MailCancel:
		h.known[l].causes.Cancel = true
	}
}
