package engine

// news is what an operation of this engine, or mail, says to the turn that holds a lease.
type news struct {
	incarnation, epoch int64
	request            int64 // the last one sent when it was heard: a later one gives another lease
	tell               func(*Attempt)
}

// anyEpoch is for news to whichever turn of the task runs.
const anyEpoch = 0

// tell brings news to the turn that runs under a lease. The answer that gives the lease may still be on
// its way here: then the turn hears it before its handler is entered.
func (e *Engine) tell(incarnation, epoch int64, tell func(*Attempt)) {
	e.mu.Lock()
	a := e.running[incarnation]
	if a == nil || epoch > a.lease.Epoch {
		if len(e.inflight) > 0 {
			e.early = append(e.early, news{incarnation, epoch, e.requests, tell})
		}
		a = nil
	}
	e.mu.Unlock()
	if a != nil && (epoch == anyEpoch || epoch == a.lease.Epoch) {
		tell(a)
	}
}

// takeNews gives an attempt what was heard before it was made. e.mu is held.
func (e *Engine) takeNews(a *Attempt) {
	for _, n := range e.early {
		if n.incarnation == a.lease.Incarnation && (n.epoch == anyEpoch || n.epoch == a.lease.Epoch) {
			a.early = append(a.early, n.tell)
		}
	}
}

// dropNews forgets what no lease on its way can be meant by. e.mu is held.
func (e *Engine) dropNews() {
	if len(e.early) == 0 {
		return
	}
	first := e.requests + 1
	for r := range e.inflight {
		first = min(first, r)
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
