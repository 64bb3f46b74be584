package rules

import (
	"cmp"
	"slices"
	"time"

	"github.com/perdure/perdure/store"
)

// TurnEvent is the event that tells of a turn's end.
func TurnEvent(turn *store.Turn) store.Event {
	return store.Event{
		Number: turn.EndEvent, Turn: turn.Number, Attempt: turn.Attempt, Epoch: turn.Epoch,
		Kind: store.EventTurn, At: turn.EndedAt, Status: turn.Status, Reason: turn.Reason,
	}
}

// Page makes a page of a task's stream. The events are the first after q.After, of each source q.Limit, or PageBytes, or
// more, in any order; rewinds, wanted with q.Committed only, are the first after q.After, in order, one more than q.Limit
// if there are as many.
func Page(t *store.Task, q store.EventsQuery, events, rewinds []store.Event) *store.EventPage {
	p := &store.EventPage{
		Incarnation: t.Incarnation, Func: t.Func, First: t.FirstEvent, Last: t.LastEvent, Mark: t.Mark,
		Status: t.Status, Reason: t.Reason, EndedAt: t.EndedAt, Turn: t.Turn.Number, Next: max(q.After, t.FirstEvent-1),
	}
	last := t.LastEvent
	if q.Committed {
		last = t.Mark
	}
	events = slices.DeleteFunc(events, func(e store.Event) bool { return e.Number < t.FirstEvent || e.Number > last })
	slices.SortFunc(events, func(a, b store.Event) int { return cmp.Compare(a.Number, b.Number) })
	p.Events = events[:fitting(events, q.Limit)]
	if n := len(p.Events); n > 0 {
		p.Next = p.Events[n-1].Number
	}
	if q.Committed {
		p.Events = Committed(p.Events, rewinds, t.Mark)
	}
	return p
}

// fitting returns how many of the first events fit into a page.
func fitting(events []store.Event, limit int) int {
	n, bytes := 0, 0
	for n < min(limit, len(events)) {
		if bytes += len(events[n].Data); n > 0 && bytes > store.PageBytes {
			break
		}
		n++
	}
	return n
}

// Committed leaves out of events the rewinds, and what those up to the mark take back. Both are in order. A rewind takes
// back what came after the one before it at most, so that only the first after an event can take that back.
func Committed(events, rewinds []store.Event, mark int64) []store.Event {
	return slices.DeleteFunc(events, func(e store.Event) bool {
		for len(rewinds) > 0 && rewinds[0].Number < e.Number {
			rewinds = rewinds[1:]
		}
		if e.Kind == store.EventRewind {
			return true
		}
		return e.Kind == store.EventMessage && len(rewinds) > 0 && rewinds[0].To < e.Number && rewinds[0].Number <= mark
	})
}

// trim moves the beginning of the stream. What is emitted below it is removed by sweeps.
func trim(t *store.Task, first int64, now time.Time) {
	first = min(first, t.Mark+1)
	if first <= t.FirstEvent {
		return
	}
	if t.LastEmitted >= t.FirstEvent {
		t.TrimAt = now
	}
	t.FirstEvent = first
}

// scheduleTrim notes when the stream will have to be trimmed by its settings (E5).
func scheduleTrim(t *store.Task, now time.Time) {
	s := &t.Settings
	if s.KeepEvents > 0 && t.LastEvent-t.FirstEvent+1 > int64(s.KeepEvents) {
		t.TrimAt = now
	}
	if s.KeepEventsFor > 0 && t.TrimAt.IsZero() {
		t.TrimAt = now.Add(s.KeepEventsFor)
	}
}

// trimAgain is when a stream is looked at again whose mark was in the way of its trimming.
const trimAgain = time.Minute

// trimNow trims a stream by its settings, and removes up to limit pieces of what is below its beginning; it returns how
// many.
func trimNow(rows Rows, t *store.Task, now time.Time, limit int) (dropped int, err error) {
	t.TrimAt = time.Time{}
	first, next, err := wanted(rows, t, now, limit)
	if err != nil {
		return 0, err
	}
	trim(t, first, now)
	dropped, more, err := rows.DropEvents(t.Incarnation, t.FirstEvent, limit)
	switch {
	case more:
		t.TrimAt = now
	case t.FirstEvent < first:
		t.TrimAt = now.Add(trimAgain) // the mark is in the way
	default:
		t.TrimAt = next
	}
	return dropped, err
}

// wanted returns where the stream should begin by its settings, and when that will change by time alone. It looks at
// limit pieces of the stream, not at all that is too old: what it has seen is removed before it looks again.
func wanted(rows Rows, t *store.Task, now time.Time, limit int) (first int64, next time.Time, err error) {
	s := &t.Settings
	if s.KeepEvents > 0 {
		first = t.LastEvent - int64(s.KeepEvents) + 1
	}
	if s.KeepEventsFor == 0 {
		return first, next, nil
	}
	old, next, err := rows.EmittedBefore(t.Incarnation, now.Add(-s.KeepEventsFor), limit)
	switch {
	case !next.IsZero():
		next = next.Add(s.KeepEventsFor)
	case old > 0 && old < t.LastEmitted:
		next = now // it has not seen all
	}
	return max(first, old+1), next, err
}
