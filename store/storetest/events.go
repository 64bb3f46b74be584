package storetest

import (
	"fmt"

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
