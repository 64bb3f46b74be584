package sim

import (
	"context"
	"slices"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/store"
)

// checkStream reads a task's whole stream in both views. Its numbers have no gap, and with the rewinds applied the
// one is the other. Of each turn that has completed the messages are those of a run without crashes.
func (j *Journal) checkStream(t *store.Task) {
	t, raw, committed := j.views(t)
	var stands []store.Event
	for i, e := range raw {
		if want := max(t.FirstEvent, raw[0].Number) + int64(i); e.Number != want {
			j.t.Errorf("E1: task %s: event %d has number %d", t.ID, want, e.Number)
		}
		switch e.Kind {
		case store.EventRewind:
			stands = slices.DeleteFunc(stands, func(m store.Event) bool { return m.Kind == store.EventMessage && m.Number > e.To })
		default:
			if e.Number <= t.Mark {
				stands = append(stands, e)
			}
		}
	}
	if !slices.EqualFunc(stands, committed, same) {
		j.t.Errorf("E2: task %s: the stream with its rewinds applied is not the committed view:\n%v\n%v", t.ID, stands, committed)
	}
	said := map[int64]string{}
	for _, e := range committed {
		if e.Kind == store.EventMessage {
			plain, err := (&codec{}).Decode("", e.Data)
			if err != nil {
				j.t.Error(err)
			}
			said[e.Turn] += string(plain) + " "
		}
	}
	if t.FirstEvent > 1 {
		return // some has been trimmed
	}
	for k, told := range j.answers {
		if k.incarnation == t.Incarnation && told.Status == perdure.Completed {
			j.checkSaid(told, k, said[k.turn])
		}
	}
}

func same(a, b store.Event) bool {
	return a.Number == b.Number && a.Kind == b.Kind && string(a.Data) == string(b.Data)
}

// views reads both views of a stream, and its task, as of one moment: it may be trimmed between two reads.
func (j *Journal) views(t *store.Task) (now *store.Task, raw, committed []store.Event) {
	for {
		raw, committed = j.events(t, false), j.events(t, true)
		now, err := j.store.Get(context.Background(), t.ID)
		if err != nil || now.Incarnation != t.Incarnation || now.FirstEvent == t.FirstEvent && now.LastEvent == t.LastEvent {
			return t, raw, committed
		}
		t = now
	}
}

func (j *Journal) events(t *store.Task, committed bool) (all []store.Event) {
	for after := int64(0); ; {
		page, err := j.store.Events(context.Background(), store.EventsQuery{TaskID: t.ID, Incarnation: t.Incarnation, After: after, Limit: 7, Committed: committed})
		if err != nil {
			j.t.Errorf("events of %s: %v", t.ID, err)
			return nil
		}
		if all = append(all, page.Events...); page.Next == after {
			return all
		}
		after = page.Next
	}
}

// checkSaid holds the committed view of a turn that has completed beside that of a run without crashes.
func (j *Journal) checkSaid(o *perdure.Outcome, k key, got string) {
	turn, err := j.store.Turn(context.Background(), store.TurnQuery{TaskID: o.TaskID, Incarnation: k.incarnation, Number: k.turn, Input: true})
	if err != nil {
		return // it has been pruned
	}
	if want := j.script(turn).said(); got != want {
		j.t.Errorf("E2: turn %d of %s: the committed view is %q, without crashes it is %q", k.turn, o.TaskID, got, want)
	}
	j.streams++
}
