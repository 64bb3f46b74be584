package engine

import (
	"math/rand/v2"
	"testing"
)

func TestSlotsBoundLeasesOfTheEngineAndHandlersOfAFunc(t *testing.T) {
	s := newSlots(3, map[string]int{"one": 1}, nil)
	first := s.take("one")
	if first == nil || s.take("one") != nil || s.room("one") != 0 || s.room("other") != 2 {
		t.Fatalf("a func of 1 has room for %d more, another for %d", s.room("one"), s.room("other"))
	}
	a, b := s.take("other"), s.take("other")
	if a == nil || b == nil || s.take("other") != nil {
		t.Fatal("3 leases of 3 are not what there is room for")
	}
	first.endLease() // its handler is still inside
	if s.take("one") != nil {
		t.Error("a func of 1 has two handlers")
	}
	if s.room("other") != 1 {
		t.Errorf("another func has room for %d after a lease has ended, want 1", s.room("other"))
	}
	first.free()
	first.free()
	if s.take("one") == nil || s.leases != 3 {
		t.Errorf("%d leases after all, want 3", s.leases)
	}
}

func TestASlotThatIsPassedOnIsOneSlot(t *testing.T) {
	s := newSlots(1, map[string]int{"f": 1}, nil)
	first := s.take("f")
	second := first.pass()
	first.free()
	if s.leases != 1 || s.take("f") != nil {
		t.Errorf("the slot that was passed on is free: %d leases", s.leases)
	}
	second.free()
	if s.leases != 0 || s.take("f") == nil {
		t.Errorf("the slot is not free after its end: %d leases", s.leases)
	}
}

func TestAReservationOvertakesNobodyThatWaits(t *testing.T) {
	freed := 0
	s := newSlots(1, nil, func() { freed++ })
	held := s.reserve("f")
	if s.reserve("f") != nil || !s.waiting["f"] {
		t.Fatal("a second reservation is made, or does not wait")
	}
	held.free()
	if freed == 0 {
		t.Error("nobody is told of the free slot")
	}
	if s.reserve("f") != nil {
		t.Error("a reservation overtakes those that wait")
	}
	if s.take("f") == nil {
		t.Error("those that wait cannot take the slot")
	}
	s.served("f")
	if !s.waiting["f"] {
		t.Error("the wait is over although there is no room")
	}
}

// What is counted is what is held, after any sequence of what may be done.
func TestSlotsAreExactOverRandomSequences(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 0))
		s := newSlots(4, map[string]int{"a": 1, "b": 2}, nil)
		var all []*slot
		for range 200 {
			fn := []string{"a", "b", "c"}[r.IntN(3)]
			switch n := r.IntN(10); {
			case n < 4:
				if slot := s.take(fn); slot != nil {
					all = append(all, slot)
				}
			case len(all) == 0:
			case n < 6:
				all[r.IntN(len(all))].endLease()
			case n < 8:
				all[r.IntN(len(all))].free()
			default:
				all = append(all, all[r.IntN(len(all))].pass())
			}
			leases, turns := 0, map[string]int{}
			for _, slot := range all {
				if slot.lease {
					leases++
				}
				if slot.turn {
					turns[slot.fn]++
				}
			}
			if s.leases != leases || leases > 4 || turns["a"] > 1 || turns["b"] > 2 || s.turns["a"] != turns["a"] || s.turns["b"] != turns["b"] || s.turns["c"] != turns["c"] {
				t.Fatalf("seed %d: %d leases and %v are counted, %d and %v held", seed, s.leases, s.turns, leases, turns)
			}
		}
	}
}
