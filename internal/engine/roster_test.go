package engine

import (
	"fmt"
	"slices"
	"testing"

	"github.com/perdure/perdure/store"
)

// team is a roster of a worker, and the lives of one task in it.
type team struct {
	*testing.T
	roster
	epoch int64
}

func newTeam(t *testing.T, most int) *team {
	m := &team{T: t, roster: newRoster(newSlots(most, map[string]int{"f": most}, func() {}))}
	m.worker, m.state = "w1", active
	return m
}

// life makes an attempt of a new lease of a task.
func (m *team) life(incarnation int64) *life {
	m.epoch++
	return &life{task: fmt.Sprint("t", incarnation), fn: "f", lease: store.Lease{Incarnation: incarnation, Worker: m.worker, Epoch: m.epoch}}
}

// running has a handler of a new lease of a task entered.
func (m *team) running(incarnation int64) *life {
	m.Helper()
	l := m.life(incarnation)
	if w, _ := m.arrive(l, nil); w != good {
		m.Fatalf("got worth %d, want good", w)
	}
	if ok, _ := m.enter(l); !ok {
		m.Fatal("it is not entered")
	}
	return l
}

func (m *team) counts(leases, inside, slots, turns int) {
	m.Helper()
	got := []int{len(m.leases), len(m.inside), m.slots.leases, m.slots.turns["f"]}
	if want := []int{leases, inside, slots, turns}; !slices.Equal(got, want) {
		m.Errorf("leases, handlers inside, slots of leases and of turns: got %v, want %v", got, want)
	}
}

func TestALeaseOfAWorkerThatHasEndedIsWorthNothing(t *testing.T) {
	for name, end := range map[string]func(*team){
		"fenced":     func(m *team) { m.fence("w1") },
		"registered": func(m *team) { m.fence("w1"); m.worker = "w2" },
		"stopped":    func(m *team) { m.state = stopped },
	} {
		t.Run(name, func(t *testing.T) {
			m := newTeam(t, 2)
			late, reserved := m.life(1), m.slots.reserve("f")
			end(m)
			if w, gone := m.arrive(late, reserved); w != dead || gone != nil || late.phase != over {
				t.Errorf("got worth %d, %v, %v, want it dead and over", w, gone, late.phase)
			}
			m.counts(0, 0, 0, 0)
		})
	}
}

func TestALateLeaseTakesNobodysPlace(t *testing.T) {
	m := newTeam(t, 2)
	late := m.life(1)
	now := m.running(1)
	if w, gone := m.arrive(late, nil); w != dead || gone != nil {
		t.Errorf("got worth %d, %v, want it dead", w, gone)
	}
	m.advance(late, lost)
	if m.newest[1] != now || m.inside["t1"] != now || m.leases[now.lease] != now || now.phase != running {
		t.Errorf("the turn that runs has lost its place: %+v", now)
	}
	m.counts(1, 1, 1, 1)
}

func TestALaterLeaseEndsTheOneBefore(t *testing.T) {
	m := newTeam(t, 2)
	before := m.running(1)
	after := m.life(1)
	w, gone := m.arrive(after, nil)
	if w != good || gone == nil || gone.before != running || gone.now != stray {
		t.Fatalf("got worth %d, %+v, want it good and the handler before it stray", w, gone)
	}
	if ok, first := m.enter(after); ok || first != before {
		t.Errorf("got %v, %v: want it to wait for the handler before it", ok, first)
	}
	m.counts(1, 1, 1, 2)
	m.advance(before, returned)
	if ok, _ := m.enter(after); !ok {
		t.Error("it is not entered when the handler before it has returned")
	}
	m.counts(1, 1, 1, 1)
}

func TestAFenceEndsEveryLeaseAndKeepsTheHandlersThatAreInside(t *testing.T) {
	m := newTeam(t, 5)
	phases := map[*life]phase{}
	arrived, settled := m.life(1), m.running(3)
	m.arrive(arrived, nil)
	m.advance(settled, returned)
	inside, forced := m.running(2), m.running(4)
	m.advance(forced, expired)
	for l, want := range map[*life]phase{arrived: over, inside: stray, settled: over, forced: stray} {
		phases[l] = want
	}
	if n := len(m.fence("other")); n != 0 {
		t.Errorf("the fence of another worker has ended %d", n)
	}
	if n := len(m.fence("w1")); n != 4 {
		t.Errorf("the fence has ended %d, want 4", n)
	}
	for l, want := range phases {
		if l.phase != want {
			t.Errorf("task %s: got %v, want %v", l.task, l.phase, want)
		}
	}
	m.counts(0, 2, 0, 2)
	if got, want := m.except(), []string{"t2", "t4"}; !slices.Equal(got, want) {
		t.Errorf("not to be claimed: got %v, want %v", got, want)
	}
	if m.keeps(settled) {
		t.Error("a slot of a lost lease may be passed on")
	}
}

func TestWhatComesBeyondTheLimitsGoesBack(t *testing.T) {
	m := newTeam(t, 1)
	m.running(1)
	extra := m.life(2)
	if w, _ := m.arrive(extra, nil); w != surplus || extra.phase != settling {
		t.Errorf("got worth %d, %v, want it to go back", w, extra.phase)
	}
	if ok, _ := m.enter(extra); ok {
		t.Error("its handler is entered")
	}
	m.counts(2, 1, 1, 1)
	m.advance(extra, written)
	m.counts(1, 1, 1, 1)
}

func TestALeaseThatTheStoreRefusesGoesBackAsOneThatWasBegun(t *testing.T) {
	m := newTeam(t, 3)
	begun, arrived := m.running(1), m.life(2)
	m.arrive(arrived, nil)
	m.refused(begun)
	m.refused(arrived)
	if got := m.release(begun.lease); got != store.ReleaseWrapped {
		t.Errorf("of a handler that was entered: got %q", got)
	}
	for _, l := range []*life{arrived, m.life(3)} {
		if got := m.release(l.lease); got != store.ReleaseDeclined {
			t.Errorf("of a handler that was not: got %q", got)
		}
	}
}

func TestSuspectsGoOneByOne(t *testing.T) {
	m := newTeam(t, 3)
	first := m.life(1)
	first.suspect = true
	m.arrive(first, nil)
	if m.probing != first {
		t.Error("a suspect that arrives does not hold up the next")
	}
	m.enter(first)
	if m.probing != first {
		t.Error("a suspect that is entered does not hold up the next")
	}
	m.advance(first, returned)
	if m.probing != nil {
		t.Error("a suspect whose handler has returned holds up the next")
	}
}

func TestTicketsAreOpenUntilTheyAreAnswered(t *testing.T) {
	k := tickets{open: map[int64]bool{}}
	if got := k.oldest(); got != 1 {
		t.Errorf("oldest of none: got %d, want the next", got)
	}
	a, b := k.issue(), k.issue()
	k.answered(a)
	k.answered(0)
	if got := k.oldest(); got != b {
		t.Errorf("got %d, want %d", got, b)
	}
	k.answered(b)
	if got := k.oldest(); got != b+1 {
		t.Errorf("got %d, want %d", got, b+1)
	}
}
