package engine

// early is what an operation of this engine, or mail, says to the turn that holds a lease, when that has not arrived yet.
type early struct {
	incarnation, epoch int64
	request            int64 // the last one sent when it was heard: a later one gives another lease
	tell               func(*Attempt)
}

// maxEarly is how much is kept. A lease that comes when there was more has its task looked at.
const maxEarly = 1000

// anyEpoch is for news to whichever turn of the task runs.
const anyEpoch = -1

// tell brings news to the turn that runs under a lease. The answer that gives the lease may still be on
// its way here: then the turn hears it before its handler is entered.
func (e *Engine) tell(incarnation, epoch int64, tell func(*Attempt)) {
	e.mu.Lock()
	l := e.roster.newest[incarnation]
	if l == nil || epoch > l.lease.Epoch {
		e.keepEarly(early{incarnation: incarnation, epoch: epoch, tell: tell})
		l = nil
	}
	e.mu.Unlock()
	if l != nil && (epoch == anyEpoch || epoch == l.lease.Epoch) {
		tell(l.of)
	}
}

// keepEarly keeps news while a lease may be on its way. e.mu is held.
func (e *Engine) keepEarly(n early) {
	t := &e.roster.tickets
	switch n.request = t.last; {
	case len(t.open) == 0:
	case len(e.early) < maxEarly:
		e.early = append(e.early, n)
	default:
		e.missed = t.last
	}
}

// hearEarly gives an attempt what was heard before it was made. e.mu is held.
func (e *Engine) hearEarly(a *Attempt) {
	if e.missed > 0 {
		a.early = append(a.early, func(a *Attempt) { e.look(a.task.ID) })
	}
	for _, n := range e.early {
		if lease := a.life.lease; n.incarnation == lease.Incarnation && (n.epoch == anyEpoch || n.epoch == lease.Epoch) {
			a.early = append(a.early, n.tell)
		}
	}
}

// dropEarly forgets what no lease on its way can be meant by. e.mu is held.
func (e *Engine) dropEarly() {
	if len(e.early) == 0 && e.missed == 0 {
		return
	}
	first := e.roster.tickets.oldest()
	if e.missed < first {
		e.missed = 0
	}
	kept := e.early[:0]
	for _, n := range e.early {
		if n.request >= first {
			kept = append(kept, n)
		}
	}
	clear(e.early[len(kept):])
	e.early = kept
}

// answered notes that an operation that could give a lease is over. e.mu is held.
func (e *Engine) answered(request int64) {
	e.roster.tickets.answered(request)
	e.dropEarly()
	e.settleDown()
}
