package storetest

import (
	"fmt"
	"strings"

	"github.com/perdure/perdure/store"
)

func pageRules() []rule {
	return []rule{
		{"List", "Pages", listSentence, listPages},
		{"Turns", "Pages", "Turns come in pages in the order of their numbers, with their inputs.", turnsPages},
		{"Turns", "PagesInBytes", "A page of turns ends where the payloads would exceed PageBytes, but has one turn at least.", turnsPagesInBytes},
		{"E3", "PagesInBytes", "A page of events ends where the data would exceed PageBytes, but has one event at least, and none is passed over.", e3PagesInBytes},
		{"E3", "LargeEvent", "An event that is larger than a page is a page of its own.", e3LargeEvent},
		{"E2", "ManyRewinds", "The committed view is the same in pages of any size, however many tries there were.", e2ManyRewinds},
	}
}

func listPages(s *suite) {
	for i := range 7 {
		s.offer(s.request(fmt.Sprintf("t%d", i), "x"))
	}
	for _, statuses := range [][]store.Status{nil, {store.Pending}, {store.Pending, store.Suspended}} {
		got, q := "", store.ListQuery{Statuses: statuses, Limit: 3}
		for more := true; more; {
			page, err := s.List(s.Context(), q)
			must(s, 0, err)
			for _, t := range page.Tasks {
				got += t.ID[1:]
				q.Before = t.Incarnation
			}
			got += "|"
			if more = page.More; more && len(page.Tasks) == 0 {
				s.Fatal("an empty page before the last")
			}
		}
		equal(s, "pages", strings.TrimRight(got, "|"), "654|321|0")
	}
}

func turnsPages(s *suite) {
	s.start("t")
	s.queue("t", "b", "c", "d")
	first, err := s.Turns(s.Context(), store.TurnsQuery{TaskID: "t", Limit: 3})
	must(s, 0, err)
	rest, err := s.Turns(s.Context(), store.TurnsQuery{TaskID: "t", After: 3, Limit: 3})
	must(s, 0, err)
	equal(s, "pages", fmt.Sprint(len(first.Turns), len(rest.Turns)), "3 1")
	equal(s, "more after the first", first.More, true)
	equal(s, "input", string(rest.Turns[0].Input), `"d"`)
	equal(s, "status", first.Turns[0].Status, store.InProgress)
	equal(s, "status", rest.Turns[0].Status, store.TurnQueued)
	_, err = s.Turns(s.Context(), store.TurnsQuery{TaskID: "u", Limit: 3})
	s.fails("turns of an absent task", err, store.ErrNotFound)
}

func sized(bytes int) []byte { return []byte(strings.Repeat("x", bytes)) }

// offerSized gives a task an input of a size.
func (s *suite) offerSized(task, input string, bytes int) *store.Offered {
	s.Helper()
	req := s.request(task, input)
	req.Input, req.Settings.MultiTurn, req.Settings.MaxPending = sized(bytes), true, 10
	return s.offer(req)
}

func turnsPagesInBytes(s *suite) {
	const mib = store.PageBytes / 4
	s.worker("w1")
	s.offerSized("t", "a", mib)
	req := ending(s.claimOne("w1"), store.Completed, store.Suspended)
	req.Output = sized(mib)
	s.settle(req)
	for i, bytes := range []int{2 * mib, 1, 5 * mib, 1, 1} { // the first two turns fill a page
		s.offerSized("t", string(rune('b'+i)), bytes)
	}
	pages, q := "", store.TurnsQuery{TaskID: "t", Limit: 10}
	for more := true; more; {
		page, err := s.Turns(s.Context(), q)
		if must(s, page, err); len(page.Turns) == 0 {
			break
		}
		for _, t := range page.Turns {
			pages += t.InputID
		}
		pages += " "
		q.After, more = page.Turns[len(page.Turns)-1].Number, page.More
	}
	equal(s, "pages", pages, "ab c d ef ")
	equal(s, "input", len(s.turn("t", 4).Input), 5*mib)
}

// paged reads a stream in pages, checks each, and returns all events.
func (s *suite) paged(q store.EventsQuery, last int64) []store.Event {
	s.Helper()
	var all []store.Event
	for q.After < last {
		p, err := s.Events(s.Context(), q)
		if must(s, p, err); p.Next <= q.After {
			s.Fatalf("a page after %d goes on after %d", q.After, p.Next)
		}
		bytes := 0
		for _, e := range p.Events {
			bytes += len(e.Data)
		}
		if len(p.Events) > q.Limit || len(p.Events) > 1 && bytes > store.PageBytes {
			s.Errorf("a page has %d events of %d bytes", len(p.Events), bytes)
		}
		all, q.After = append(all, p.Events...), p.Next
	}
	return all
}

// numbers checks that events have the numbers from 1 on, and none is missing.
func (s *suite) numbers(events []store.Event, last int64) {
	s.Helper()
	for i, e := range events {
		if e.Number != int64(i+1) {
			s.Fatalf("event %d comes after %d", e.Number, i)
		}
	}
	equal(s, "events", int64(len(events)), last)
}

func e3PagesInBytes(s *suite) {
	e := s.start("t", multiTurn)
	number := int64(0)
	flush := func(bytes ...int) {
		s.Helper()
		number++
		req := &store.CheckpointRequest{Lease: e.Lease, Number: number, Commit: true}
		for _, n := range bytes {
			req.Events = append(req.Events, sized(n))
		}
		_, err := s.Checkpoint(s.Context(), req)
		must(s, 0, err)
	}
	const mib = store.PageBytes / 4
	for range 6 {
		flush(mib) // four of them fill a page exactly, and a turn's end comes later
	}
	s.suspend(e)
	e, number = s.again("t", "b"), 0
	for range 6 {
		flush(mib/4, 0, mib/2, 1, mib/4-1)
	}
	s.suspend(e)
	last := s.task("t").LastEvent
	for _, limit := range []int{3, 1000} {
		s.numbers(s.paged(store.EventsQuery{TaskID: "t", Limit: limit}, last), last)
		s.numbers(s.paged(store.EventsQuery{TaskID: "t", Limit: limit, Committed: true}, last), last)
	}
}

func e3LargeEvent(s *suite) {
	e := s.start("t")
	for n, bytes := range []int{10, store.PageBytes + 1, 10, 10} {
		req := &store.CheckpointRequest{Lease: e.Lease, Number: int64(n + 1), Events: [][]byte{sized(bytes)}}
		_, err := s.Checkpoint(s.Context(), req)
		must(s, 0, err)
	}
	pages := ""
	for after := int64(0); after < 4; {
		p, err := s.Events(s.Context(), store.EventsQuery{TaskID: "t", After: after, Limit: 100})
		must(s, 0, err)
		pages += fmt.Sprint(len(p.Events), " ")
		after = p.Next
	}
	equal(s, "events in pages", pages, "1 1 2 ")
}

// survivors are the events of a whole stream that no rewind takes back, up to the mark: the committed view in plain.
func survivors(all []store.Event, mark int64) string {
	var kept []store.Event
	for _, e := range all {
		if e.Kind == store.EventRewind {
			for i, k := range kept {
				if k.Kind == store.EventMessage && k.Number > e.To {
					kept[i].Number = mark + 1 // out of the view
				}
			}
			continue
		}
		kept = append(kept, e)
	}
	p := &store.EventPage{}
	for _, e := range kept {
		if e.Number <= mark {
			p.Events = append(p.Events, e)
		}
	}
	return stream(p)
}

func e2ManyRewinds(s *suite) {
	e := s.start("t", multiTurn)
	for n := range 250 {
		s.checkpoint(e, 1, n%7 == 0, fmt.Sprint("a", n))
		s.checkpoint(e, 2, n%50 == 3, fmt.Sprint("b", n), "c")
		if n%20 == 19 {
			s.suspend(e)
			e = s.again("t", fmt.Sprint("input ", n))
			continue
		}
		s.settle(retry(e, 0, false))
		e = s.claimOne("w1")
	}
	t := s.task("t")
	all := s.paged(store.EventsQuery{TaskID: "t", Limit: 10_000}, t.LastEvent)
	s.numbers(all, t.LastEvent)
	want := survivors(all, t.Mark)
	for _, limit := range []int{2, 17, 10_000} {
		got := s.paged(store.EventsQuery{TaskID: "t", Limit: limit, Committed: true}, t.Mark)
		if text := stream(&store.EventPage{Events: got}); text != want {
			s.Errorf("committed view in pages of %d:\n%s\nwant\n%s", limit, text, want)
		}
	}
}
