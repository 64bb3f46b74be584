package engine

// The life of an attempt is one state machine. Its phases are those below; its moves are made by the roster, under the
// engine's mutex, in one of these places and no other:
//
//	move      from                          to        made by
//	entered   arriving                      running   the attempt's goroutine, when no handler of the task is inside
//	declined  arriving                      settling  the attempt's goroutine, or the roster when there is no slot
//	returned  running, drained, expiring    settling  the attempt's goroutine, when the handler has returned
//	          stray                         over
//	expired   running                       expiring  the timer of the deadline's grace
//	lost      arriving, settling            over      the fence of the worker; a terminate or delete; a write that the
//	          running, drained, expiring    stray     store refuses; a later lease of the task; the end of the engine
//	cutOff    running                       drained   the end of the drain time
//	written   settling                      over      whoever has written the end
//	          expiring                      stray
//
// Any other move leaves an attempt as it is. Whoever brings it to settling from running or drained, to settling from
// arriving, or to expiring, writes its end, and is the only one to do so; what the store hands back with that end
// belongs to the same goroutine, whatever has happened meanwhile.

// phase is where an attempt is in its life.
type phase int

const (
	arriving phase = iota // it holds a lease, and no handler has been entered
	running               // the handler is inside
	drained               // the handler is inside, its ctx has ended with the drain time; the lease is kept to be given back
	expiring              // the handler is inside, its ctx has ended; its end by force is being written
	stray                 // the handler is inside, its ctx has ended; the lease is gone
	settling              // the handler is outside; its end is being written
	over                  // the handler is outside, and the lease is gone
)

func (p phase) String() string {
	return [...]string{"arriving", "running", "drained", "expiring", "stray", "settling", "over"}[p]
}

// ending reports whether the end is being written.
func (p phase) ending() bool { return p == settling || p == expiring }

// holds reports whether the lease is held.
func (p phase) holds() bool { return p != stray && p != over }

// inside reports whether code of the handler may run.
func (p phase) inside() bool { return p == running || p == drained || p == expiring || p == stray }

// move is what happens to an attempt.
type move int

const (
	entered move = iota
	declined
	returned
	expired
	lost
	cutOff
	written
)

func (m move) String() string {
	return [...]string{"entered", "declined", "returned", "expired", "lost", "cutOff", "written"}[m]
}

// after returns the phase to which a move leads.
func (p phase) after(m move) phase {
	switch {
	case m == entered && p == arriving:
		return running
	case m == declined && p == arriving:
		return settling
	case m == returned && (p == running || p == drained || p == expiring):
		return settling
	case m == returned && p == stray:
		return over
	case m == expired && p == running:
		return expiring
	case m == lost && (p == arriving || p == settling):
		return over
	case m == lost && (p == running || p == drained || p == expiring):
		return stray
	case m == cutOff && p == running:
		return drained
	case m == written && p == settling:
		return over
	case m == written && p == expiring:
		return stray
	}
	return p
}
