package storetest

import (
	"fmt"
	"time"

	"github.com/perdure/perdure/store"
)

func eventRules() []rule {
	const m1 = "The next try starts from the metadata of the commit mark; metadata is written by Checkpoint and at the turn's end."
	const e2 = "Events after the last checkpoint of a dead try are rolled back by a rewind that the next try writes first."
	return []rule{
		{"M1", "AtTheMark", m1, m1AtTheMark},
		{"M1", "TurnEnd", m1, m1TurnEnd},
		{"M2", "Merge", "Deletion persists; keys that were not changed are kept.", m2Merge},
		{"E1", "Numbered", "Events are numbered 1, 2, 3 … per task without gaps, stamped with turn, attempt and epoch.", e1Numbered},
		{"E2", "Rewind", e2, e2Rewind},
		{"E2", "RewindAtSettle", "The rewind goes in front of the next try's first fenced write of any kind.", e2RewindAtSettle},
		{"E2", "Keep", "KeepEvents keeps the events of the try before instead.", e2Keep},
		{"E2", "Mark", "There is one commit mark, moved only by a checkpoint and the turn's end.", e2Mark},
		{"E2", "TurnEvents", "The end of each turn is an event with its outcome.", e2TurnEvents},
		{"E2", "MarkOfAWithdrawal", "The end of a queued turn commits nothing of the turn that runs.", e2MarkOfAWithdrawal},
		{"E2", "Committed", "The committed view never shows what may still be rolled back, nor what was.", e2Committed},
		{"E5", "Count", "Streams are trimmed by count; trimming never passes the commit mark.", e5Count},
		{"E5", "Age", "Streams are trimmed by age.", e5Age},
		{"E5", "Turns", "The events of turns that are no longer kept are trimmed.", e5Turns},
		{"C6", "Events", "Delete removes events: a task made again begins at 1.", c6Events},
		{"E3", "Pages", "A reader starts after any number and sees no gap and no duplicate.", e3Pages},
	}
}

func (s *suite) setMetadata(e *store.Entry, number int64, changes ...store.Change) {
	s.Helper()
	_, err := s.Checkpoint(s.Context(), &store.CheckpointRequest{Lease: e.Lease, Number: number, Commit: true, Metadata: changes})
	must(s, 0, err)
}

func m1AtTheMark(s *suite) {
	e := s.start("t")
	s.setMetadata(e, 1, store.Change{Key: "a", Value: []byte("1")})
	s.crash("w2")
	e = s.claimOne("w2")
	equal(s, "metadata", string(e.Task.Metadata["a"]), "1")
	s.settle(retry(e, 0, false))
	equal(s, "metadata", string(s.claimOne("w2").Task.Metadata["a"]), "1")
}

func m1TurnEnd(s *suite) {
	req := ending(s.start("t", multiTurn), store.Completed, store.Suspended)
	req.Metadata = []store.Change{{Key: "a", Value: []byte("2")}}
	s.settle(req)
	equal(s, "metadata", string(s.task("t").Metadata["a"]), "2")
	next := s.request("t", "b")
	next.Lease = true
	equal(s, "metadata at entry", string(s.offer(next).Entry.Task.Metadata["a"]), "2")
}

func m2Merge(s *suite) {
	e := s.start("t")
	s.setMetadata(e, 1, store.Change{Key: "a", Value: []byte("1")}, store.Change{Key: "b", Value: []byte("1")})
	s.setMetadata(e, 2, store.Change{Key: "a"}, store.Change{Key: "c", Value: []byte("3")})
	s.complete(e)
	m := s.task("t").Metadata
	equal(s, "keys", len(m), 2)
	equal(s, "values", string(m["b"])+string(m["c"]), "13")
}

// stream writes events in short: numbers, kinds and data.
func stream(p *store.EventPage) string {
	text := ""
	for _, e := range p.Events {
		switch e.Kind {
		case store.EventRewind:
			text += fmt.Sprintf("%d<%d ", e.Number, e.To)
		case store.EventTurn:
			text += fmt.Sprintf("%d!%s ", e.Number, e.Status)
		default:
			text += fmt.Sprintf("%d%s ", e.Number, e.Data)
		}
	}
	return text
}

func e1Numbered(s *suite) {
	e := s.start("t")
	s.checkpoint(e, 1, false, "a", "b")
	s.checkpoint(e, 2, false)
	s.checkpoint(e, 3, true, "c")
	p := s.events("t", 0)
	equal(s, "events", stream(p), "1a 2b 3c ")
	for _, ev := range p.Events {
		equal(s, "turn", ev.Turn, 1)
		equal(s, "attempt", ev.Attempt, 1)
		equal(s, "epoch", ev.Epoch, e.Lease.Epoch)
		equal(s, "at", ev.At, e.Task.EnteredAt)
	}
}

func e2Rewind(s *suite) {
	e := s.start("t")
	s.checkpoint(e, 1, true, "a")
	s.checkpoint(e, 2, false, "b", "c")
	s.crash("w2")
	e = s.claimOne("w2")
	equal(s, "events before the next try writes", stream(s.events("t", 0)), "1a 2b 3c ")
	s.checkpoint(e, 1, false, "d")
	s.checkpoint(e, 2, false, "e")
	equal(s, "events", stream(s.events("t", 0)), "1a 2b 3c 4<1 5d 6e ")
}

func e2RewindAtSettle(s *suite) {
	e := s.start("t")
	s.checkpoint(e, 1, false, "a")
	s.settle(retry(e, 0, false))
	s.complete(s.claimOne("w1"))
	equal(s, "events", stream(s.events("t", 0)), "1a 2<0 3!completed ")
}

func e2Keep(s *suite) {
	e := s.start("t")
	s.checkpoint(e, 1, false, "a")
	s.settle(retry(e, 0, false))
	e = s.claimOne("w1")
	_, err := s.Checkpoint(s.Context(), &store.CheckpointRequest{Lease: e.Lease, Number: 1, KeepEvents: true, Events: blobs([]string{"b"})})
	must(s, 0, err)
	equal(s, "events", stream(s.events("t", 0)), "1a 2b ")
	equal(s, "mark", s.events("t", 0).Mark, 1)
}

func e2Mark(s *suite) {
	e := s.start("t", multiTurn)
	s.checkpoint(e, 1, false, "a")
	equal(s, "mark", s.events("t", 0).Mark, 0)
	s.checkpoint(e, 2, true)
	equal(s, "mark after a checkpoint", s.events("t", 0).Mark, 1)
	s.checkpoint(e, 3, false, "b")
	s.suspend(e)
	p := s.events("t", 0)
	equal(s, "mark after the turn", p.Mark, 3)
	equal(s, "last", p.Last, 3)
	equal(s, "first", p.First, 1)
}

func e2TurnEvents(s *suite) {
	e := s.start("t", multiTurn)
	s.queue("t", "b", "c")
	s.signal(&store.SignalRequest{TaskID: "t", Kind: store.Cancel, InputID: "b"})
	req := ending(e, store.Failed, store.Suspended)
	req.Events = blobs([]string{"x"})
	s.settle(req)
	s.signal(&store.SignalRequest{TaskID: "t", Kind: store.Terminate})
	p := s.events("t", 0)
	equal(s, "events", stream(p), "1!cancelled 2x 3!failed 4!terminated ")
	equal(s, "turns", fmt.Sprint(p.Events[0].Turn, p.Events[2].Turn, p.Events[3].Turn), "2 1 3")
	equal(s, "status", p.Status, store.Terminated)
}

func e3Pages(s *suite) {
	e := s.start("t", multiTurn)
	for n := range int64(5) {
		s.checkpoint(e, n+1, true, "a", "b", "c")
	}
	s.suspend(e)
	for _, limit := range []int{1, 2, 4, 100} {
		after, count := int64(0), 0
		for after < 16 {
			p, err := s.Events(s.Context(), store.EventsQuery{TaskID: "t", Incarnation: e.Lease.Incarnation, After: after, Limit: limit})
			if must(s, p, err); len(p.Events) == 0 || len(p.Events) > limit {
				s.Fatalf("got %d events after %d, limit %d", len(p.Events), after, limit)
			}
			for _, ev := range p.Events {
				after++
				equal(s, "number", ev.Number, after)
				count++
			}
		}
		equal(s, "events", count, 16)
	}
}

func e2MarkOfAWithdrawal(s *suite) {
	e := s.start("t", multiTurn)
	s.checkpoint(e, 1, false, "a", "b")
	s.queue("t", "x")
	s.signal(&store.SignalRequest{TaskID: "t", Kind: store.Cancel, InputID: "x"})
	equal(s, "mark", s.events("t", 0).Mark, 0)
	equal(s, "committed", stream(s.committed("t", 0)), "")
	s.crash("w2")
	e = s.claimOne("w2")
	s.checkpoint(e, 1, true, "c")
	equal(s, "events", stream(s.events("t", 0)), "1a 2b 3!cancelled 4<0 5c ")
	equal(s, "committed", stream(s.committed("t", 0)), "3!cancelled 5c ")
}

func (s *suite) committed(id string, after int64) *store.EventPage {
	s.Helper()
	p, err := s.Events(s.Context(), store.EventsQuery{TaskID: id, After: after, Limit: 100, Committed: true})
	return must(s, p, err)
}

func e2Committed(s *suite) {
	e := s.start("t", multiTurn)
	s.checkpoint(e, 1, true, "a")
	s.checkpoint(e, 2, false, "b", "c")
	p := s.committed("t", 0)
	equal(s, "committed", stream(p), "1a ")
	equal(s, "next", p.Next, 1)
	equal(s, "nothing new", s.committed("t", 1).Next, 1)
	s.settle(retry(e, 0, false))
	e = s.claimOne("w1")
	s.checkpoint(e, 1, false, "d")
	p = s.committed("t", 1)
	equal(s, "after the rewind", stream(p), "")
	equal(s, "next: the rewind is decided", p.Next, 4)
	s.checkpoint(e, 2, true)
	equal(s, "after the checkpoint", stream(s.committed("t", 1)), "5d ")
	s.suspend(e)
	equal(s, "in all", stream(s.committed("t", 0)), "1a 5d 6!completed ")
	for _, limit := range []int{1, 2, 3} {
		text, after := "", int64(0)
		for after < 6 {
			p, err := s.Events(s.Context(), store.EventsQuery{TaskID: "t", After: after, Limit: limit, Committed: true})
			if must(s, p, err); p.Next <= after {
				s.Fatalf("a page after %d goes on after %d", after, p.Next)
			}
			text, after = text+stream(p), p.Next
		}
		equal(s, "in pages", text, "1a 5d 6!completed ")
	}
}

// swept sweeps until there is nothing more to do now.
func (s *suite) swept() {
	s.Helper()
	for {
		swept, err := s.Sweep(s.Context(), 100)
		if must(s, swept, err); !swept.More {
			return
		}
	}
}

func e5Count(s *suite) {
	e := s.start("t", func(set *store.Settings) { set.KeepEvents = 3 })
	s.checkpoint(e, 1, true, "a", "b")
	s.swept()
	equal(s, "below the count", stream(s.events("t", 0)), "1a 2b ")
	s.checkpoint(e, 2, true, "c", "d")
	s.checkpoint(e, 3, false, "e", "f", "g")
	version := s.task("t").Version
	s.swept()
	p := s.events("t", 0)
	equal(s, "first", p.First, 5)
	equal(s, "beyond the count", stream(p), "5e 6f 7g ")
	equal(s, "next of a page before the first", s.committed("t", 0).Next, 4)
	equal(s, "version", s.task("t").Version, version)
	s.checkpoint(e, 4, false, "h", "i", "j")
	s.swept()
	equal(s, "the mark is in the way", stream(s.events("t", 0)), "5e 6f 7g 8h 9i 10j ")
	s.complete(e)
	advance(time.Minute)
	s.swept()
	equal(s, "after the end", stream(s.events("t", 0)), "9i 10j 11!completed ")
}

func e5Age(s *suite) {
	e := s.start("t", func(set *store.Settings) { set.KeepEventsFor = time.Minute })
	s.checkpoint(e, 1, true, "a", "b")
	advance(40 * time.Second)
	s.checkpoint(e, 2, true, "c")
	s.swept()
	equal(s, "before", stream(s.events("t", 0)), "1a 2b 3c ")
	advance(20 * time.Second)
	s.swept()
	equal(s, "after a minute", stream(s.events("t", 0)), "3c ")
	advance(40 * time.Second)
	s.swept()
	p := s.events("t", 0)
	equal(s, "after another", stream(p), "")
	equal(s, "first", p.First, 4)
	s.checkpoint(e, 3, true, "d")
	equal(s, "a new one", stream(s.events("t", 0)), "4d ")
	advance(time.Minute)
	s.swept()
	equal(s, "and its end", s.events("t", 0).First, 5)
}

func e5Turns(s *suite) {
	e := s.start("t", multiTurn, func(set *store.Settings) { set.KeepTurns = 1 })
	for _, in := range []string{"b", "c"} {
		s.checkpoint(e, 1, false, "x", "y")
		s.suspend(e)
		req := s.request("t", in)
		req.Lease = true
		e = s.offer(req).Entry
	}
	s.checkpoint(e, 1, false, "z")
	s.suspend(e)
	p := s.events("t", 0)
	equal(s, "first", p.First, 7)
	equal(s, "events", stream(p), "7z 8!completed ")
	s.swept()
	equal(s, "after the sweep", stream(s.events("t", 0)), "7z 8!completed ")
}

func c6Events(s *suite) {
	e := s.start("t")
	s.checkpoint(e, 1, true, "a", "b")
	s.delete("t")
	_, err := s.Events(s.Context(), store.EventsQuery{TaskID: "t", Limit: 10})
	s.fails("events of a deleted task", err, store.ErrNotFound)
	_, err = s.Events(s.Context(), store.EventsQuery{TaskID: "t", Incarnation: e.Lease.Incarnation, Limit: 10})
	s.fails("events of a deleted incarnation", err, store.ErrDeleted)
	s.checkpoint(s.start("t"), 1, true, "c")
	equal(s, "events of the next", stream(s.events("t", 0)), "1c ")
}
