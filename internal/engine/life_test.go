package engine

import "testing"

// Every pair of a phase and a move, as the design has it: what is not listed leaves the phase as it is.
func TestAnAttemptsLifeOverAllPairsOfPhaseAndMove(t *testing.T) {
	want := map[phase]map[move]phase{
		arriving: {entered: running, declined: settling, lost: over},
		running:  {returned: settling, expired: expiring, lost: stray, cutOff: drained},
		drained:  {returned: settling, lost: stray},
		expiring: {returned: settling, lost: stray, written: stray},
		stray:    {returned: over},
		settling: {lost: over, written: over},
		over:     {},
	}
	for p := arriving; p <= over; p++ {
		for m := entered; m <= written; m++ {
			expect, moves := want[p][m]
			if !moves {
				expect = p
			}
			if got := p.after(m); got != expect {
				t.Errorf("%v, %v: got %v, want %v", p, m, got, expect)
			}
		}
	}
}

// A lease that is gone never comes back, a handler that has returned is never inside again, and from every phase that
// holds a lease or a handler there is a way to the end.
func TestALifeEnds(t *testing.T) {
	for p := arriving; p <= over; p++ {
		reach := map[phase]bool{p: true}
		for todo := []phase{p}; len(todo) > 0; todo = todo[1:] {
			for m := entered; m <= written; m++ {
				next := todo[0].after(m)
				if !todo[0].holds() && next.holds() {
					t.Errorf("%v, %v: a lease that is gone comes back", todo[0], m)
				}
				if todo[0] != arriving && !todo[0].inside() && next.inside() {
					t.Errorf("%v, %v: a handler that has returned is inside again", todo[0], m)
				}
				if !reach[next] {
					reach[next] = true
					todo = append(todo, next)
				}
			}
		}
		if !reach[over] {
			t.Errorf("%v never ends", p)
		}
	}
}
