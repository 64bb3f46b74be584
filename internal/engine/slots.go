package engine

// slots bound what runs in an engine: leases in all, and of each func the handlers that have not returned. A slot is
// taken for a lease that has come, or is promised to one that an operation under way may bring. slots are guarded by
// the engine's mutex.
type slots struct {
	most    int             // leases
	limits  map[string]int  // by func, where it has one: handlers
	leases  int             // taken or promised
	turns   map[string]int  // by func: slots whose lease or handler is not gone
	waiting map[string]bool // funcs that may have due tasks which wait for a slot
	freed   func()          // called when a slot may be free for those that wait
}

func newSlots(most int, limits map[string]int, freed func()) slots {
	return slots{most: most, limits: limits, turns: map[string]int{}, waiting: map[string]bool{}, freed: freed}
}

// slot is one turn's: it holds a lease, then perhaps a handler that has outlived that. A nil slot is none.
type slot struct {
	of    *slots
	fn    string
	lease bool
	turn  bool
}

// room returns how many more turns of a func may run.
func (s *slots) room(fn string) int {
	n := s.most - s.leases
	if limit := s.limits[fn]; limit > 0 {
		n = min(n, limit-s.turns[fn])
	}
	return max(n, 0)
}

// take returns a slot, or nil when none is free: then the func is noted to wait for one.
func (s *slots) take(fn string) *slot {
	if s.room(fn) == 0 {
		s.waiting[fn] = true
		return nil
	}
	s.leases++
	s.turns[fn]++
	return &slot{of: s, fn: fn, lease: true, turn: true}
}

// reserve is take for a lease that may come. It overtakes none that wait.
func (s *slots) reserve(fn string) *slot {
	if s.waiting[fn] {
		return nil
	}
	return s.take(fn)
}

// served notes that nothing due of a func was left waiting.
func (s *slots) served(fn string) {
	if s.room(fn) > 0 {
		delete(s.waiting, fn)
	}
}

// pass gives what the slot holds to the next turn of the task.
func (t *slot) pass() *slot {
	if t == nil {
		return nil
	}
	next := *t
	t.lease, t.turn = false, false
	return &next
}

// endLease gives back the part of the slot that is the lease's; the handler is still inside.
func (t *slot) endLease() {
	if t == nil || !t.lease {
		return
	}
	t.lease = false
	t.of.leases--
	t.of.tell()
}

// free gives back all of the slot.
func (t *slot) free() {
	t.endLease()
	if t == nil || !t.turn {
		return
	}
	t.turn = false
	if t.of.turns[t.fn]--; t.of.turns[t.fn] == 0 {
		delete(t.of.turns, t.fn)
	}
	t.of.tell()
}

func (s *slots) tell() {
	if len(s.waiting) > 0 && s.freed != nil {
		s.freed()
	}
}
