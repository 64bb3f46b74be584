package storetest

import (
	"fmt"
	"time"

	"github.com/perdure/perdure/store"
)

func sweepRules() []rule {
	const (
		pieces  = "What a task leaves is removed in pieces; for every operation it is gone at once, and another of its ID is not disturbed."
		trimmed = "Streams are trimmed in pieces, and readers see at once where they begin."
	)
	return []rule{
		{"Sweep", "Expired", pieces, func(s *suite) { sweepPieces(s, func() { advance(time.Minute) }) }},
		{"Sweep", "Deleted", pieces, func(s *suite) { sweepPieces(s, func() { s.delete("t") }) }},
		{"Sweep", "Trimmed", trimmed, sweepTrimmed},
		{"Sweep", "TrimmedByCount", trimmed, sweepTrimmedByCount},
		{"Sweep", "ManyTasks", "A sweep looks at no more than its limit of tasks.", sweepManyTasks},
		{"Sweep", "ImportedAnew", "What a deleted task has left is never taken for that of the same task imported again.", sweepImportedAnew},
		{"Import", "Deleted", "A later piece of a task that was deleted meanwhile is refused.", importDeleted},
		{"Import", "Late", "A piece of an import that comes after the task has gone on does not take it back.", importLate},
		{"Import", "Older", "A task of an older export gets its place in the line, and the time by which it ends.", importOlder},
		{"Sweep", "Requests", "Request IDs are forgotten in pieces.", sweepRequests},
	}
}

// piece does one sweep and checks how much that has removed.
func (s *suite) piece(limit int) *store.Swept {
	s.Helper()
	swept, err := s.Sweep(s.Context(), limit)
	must(s, 0, err)
	if swept.Dropped > limit || swept.Removed > limit || swept.Trimmed > limit || swept.Ended > limit {
		s.Errorf("a sweep of %d: %+v", limit, *swept)
	}
	return swept
}

// much makes task t with a long stream, turns and metadata, and ends it. It returns how many rows it has at least.
func (s *suite) much() int {
	s.Helper()
	e := s.start("t", multiTurn, func(set *store.Settings) { set.Keep = time.Minute })
	for turn := range 5 {
		for n := range int64(8) {
			s.checkpoint(e, n+1, true, "x", "y")
		}
		s.setMetadata(e, 9, store.Change{Key: fmt.Sprint("k", turn), Value: []byte("1")})
		s.suspend(e)
		e = s.again("t", fmt.Sprint("input ", turn))
	}
	s.complete(e)
	return 5*8 + 6
}

func (s *suite) gone() {
	s.Helper()
	_, err := s.Get(s.Context(), "t")
	s.fails("get", err, store.ErrNotFound)
	_, err = s.Events(s.Context(), store.EventsQuery{TaskID: "t", Limit: 10})
	s.fails("events", err, store.ErrNotFound)
	_, err = s.Turns(s.Context(), store.TurnsQuery{TaskID: "t", Limit: 10})
	s.fails("turns", err, store.ErrNotFound)
	equal(s, "listed", s.list(store.ListQuery{Limit: 10}), "")
}

func sweepPieces(s *suite, remove func()) {
	const limit = 7
	rows := s.much()
	remove()
	s.gone()
	dropped := 0
	for range 2 {
		swept := s.piece(limit)
		dropped += swept.Dropped
		equal(s, "more", swept.More, true)
		s.gone()
	}
	s.serve("w2")
	req := s.request("t", "new")
	req.Worker, req.Lease = "w2", true
	o := s.offer(req)
	equal(s, "decision on the same ID", o.Decision, store.Created)
	s.checkpoint(o.Entry, 1, true, "a", "b")
	s.setMetadata(o.Entry, 2, store.Change{Key: "new", Value: []byte("2")})
	for more := true; more; {
		swept := s.piece(limit)
		dropped += swept.Dropped
		more = swept.More
	}
	if dropped < rows {
		s.Errorf("%d rows were removed, of at least %d", dropped, rows)
	}
	s.complete(o.Entry)
	equal(s, "events of the new task", stream(s.events("t", 0)), "1a 2b 3!completed ")
	equal(s, "its metadata", fmt.Sprintf("%s", s.task("t").Metadata), "map[new:2]")
	page, err := s.Turns(s.Context(), store.TurnsQuery{TaskID: "t", Limit: 10})
	equal(s, "its turns", len(must(s, page, err).Turns), 1)
	equal(s, "removed in the end", s.piece(limit).Dropped, 0)
}

func sweepTrimmed(s *suite) {
	e := s.start("t", func(set *store.Settings) { set.KeepEventsFor = time.Minute })
	for n := range int64(20) {
		s.checkpoint(e, n+1, true, "x")
	}
	advance(59 * time.Second)
	s.serve("w2")
	s.settle(release(e, store.ReleaseWrapped))
	e = s.claimOne("w2")
	s.checkpoint(e, 1, true, "y")
	advance(time.Second)
	sweeps := 0
	for more := true; more; sweeps++ {
		more = s.piece(3).More
		p := s.events("t", 0)
		if len(p.Events) == 0 || p.Events[0].Number != p.First || string(p.Events[len(p.Events)-1].Data) != "y" {
			s.Fatalf("after %d sweeps the stream from %d on is %s", sweeps+1, p.First, stream(p))
		}
	}
	equal(s, "in the end", stream(s.events("t", 0)), "21y ")
	if sweeps < 7 {
		s.Errorf("20 pieces were removed in %d sweeps of 3", sweeps)
	}
}

func sweepTrimmedByCount(s *suite) {
	e := s.start("t", func(set *store.Settings) { set.KeepEvents = 2 })
	for n := range int64(20) {
		s.checkpoint(e, n+1, true, "x")
	}
	sweeps, dropped := 0, 0
	for more := true; more; sweeps++ {
		swept := s.piece(3)
		dropped, more = dropped+swept.Dropped, swept.More
		equal(s, "stream", stream(s.events("t", 0)), "19x 20x ")
	}
	equal(s, "pieces", dropped, 18)
	if sweeps < 6 {
		s.Errorf("18 pieces were removed in %d sweeps of 3", sweeps)
	}
}

func sweepManyTasks(s *suite) {
	all := func() (removed, ended int) {
		for more := true; more; {
			swept := s.piece(4)
			removed, ended, more = removed+swept.Removed, ended+swept.Ended, swept.More
		}
		return removed, ended
	}
	for i := range 10 {
		s.complete(s.start(fmt.Sprint("old", i), func(set *store.Settings) { set.Keep = time.Second }))
	}
	advance(time.Second)
	removed, ended := all()
	equal(s, "removed and ended", fmt.Sprint(removed, " ", ended), "10 0")
	for i := range 10 {
		s.settle(retry(s.start(fmt.Sprint("late", i), timed), time.Hour, false))
	}
	advance(20 * time.Second)
	removed, ended = all()
	equal(s, "removed and ended", fmt.Sprint(removed, " ", ended), "0 10")
}

func sweepRequests(s *suite) {
	for i := range 10 {
		_, err := s.Delete(s.Context(), &store.DeleteRequest{TaskID: fmt.Sprint("t", i), RequestID: "r"})
		must(s, 0, err)
	}
	advance(store.RequestsKept)
	sweeps := 1
	for s.piece(4).More {
		sweeps++
	}
	if sweeps < 3 {
		s.Errorf("10 request IDs were forgotten in %d sweeps of 4", sweeps)
	}
}

// sweepImportedAnew has nothing to say about stores into which nothing can be imported.
func sweepImportedAnew(s *suite) {
	importer, ok := s.Store.(store.Importer)
	if !ok {
		return
	}
	s.much()
	task := s.task("t")
	turns, err := s.Turns(s.Context(), store.TurnsQuery{TaskID: "t", Limit: 100})
	must(s, 0, err)
	messages := s.events("t", 0)
	s.delete("t")
	req := &store.ImportRequest{TaskID: "t", Incarnation: task.Incarnation, Task: task, Turns: turns.Turns, Last: task}
	for _, e := range messages.Events {
		if e.Kind == store.EventMessage {
			req.Events = append(req.Events, e)
		}
	}
	_, err = importer.Import(s.Context(), req)
	must(s, 0, err)
	for more := true; more; {
		more = s.piece(7).More
	}
	equal(s, "events", stream(s.events("t", 0)), stream(messages))
	again, err := s.Turns(s.Context(), store.TurnsQuery{TaskID: "t", Limit: 100})
	s.alike("turns", must(s, again, err), turns)
	equal(s, "metadata", len(s.task("t").Metadata), len(task.Metadata))
}

// importDeleted has nothing to say about stores into which nothing can be imported.
func importDeleted(s *suite) {
	importer, ok := s.Store.(store.Importer)
	if !ok {
		return
	}
	s.start("t")
	task := s.task("t")
	turns, err := s.Turns(s.Context(), store.TurnsQuery{TaskID: "t", Limit: 100})
	must(s, 0, err)
	s.delete("t")
	_, err = importer.Import(s.Context(), &store.ImportRequest{TaskID: "t", Incarnation: task.Incarnation, Task: task})
	must(s, 0, err)
	s.delete("t")
	_, err = importer.Import(s.Context(), &store.ImportRequest{TaskID: "t", Incarnation: task.Incarnation, Turns: turns.Turns, Last: task})
	s.fails("a later piece", err, store.ErrNotFound)
	s.start("t")
	_, err = importer.Import(s.Context(), &store.ImportRequest{TaskID: "t", Incarnation: task.Incarnation, Turns: turns.Turns, Last: task})
	s.fails("a later piece when there is another task", err, store.ErrNotFound)
}

// importLate has nothing to say about stores into which nothing can be imported.
func importLate(s *suite) {
	importer, ok := s.Store.(store.Importer)
	if !ok {
		return
	}
	s.settle(release(s.start("t"), store.ReleaseWrapped))
	task := s.task("t")
	turns, err := s.Turns(s.Context(), store.TurnsQuery{TaskID: "t", Limit: 100})
	must(s, 0, err)
	s.delete("t")
	_, err = importer.Import(s.Context(), &store.ImportRequest{TaskID: "t", Incarnation: task.Incarnation, Task: task, Turns: turns.Turns, Last: task})
	must(s, 0, err)
	s.complete(s.claimOne("w1"))
	_, err = importer.Import(s.Context(), &store.ImportRequest{TaskID: "t", Incarnation: task.Incarnation, Last: task})
	s.fails("the last piece again", err, store.ErrNotFound)
	s.statusIs("t", store.Completed)
	s.claimNone("w1")
}

// importOlder has nothing to say about stores into which nothing can be imported.
func importOlder(s *suite) {
	importer, ok := s.Store.(store.Importer)
	if !ok {
		return
	}
	e := s.start("t", timed)
	s.settle(retry(e, time.Hour, false))
	task := s.task("t")
	turns, err := s.Turns(s.Context(), store.TurnsQuery{TaskID: "t", Limit: 100})
	must(s, 0, err)
	s.delete("t")
	older := *task
	older.Place, older.EndBy = 0, time.Time{}
	_, err = importer.Import(s.Context(), &store.ImportRequest{TaskID: "t", Incarnation: task.Incarnation, Task: &older, Turns: turns.Turns, Last: &older})
	must(s, 0, err)
	if s.task("t").Place == 0 {
		s.Error("it has no place in the line")
	}
	advance(time.Minute) // past its deadline
	s.piece(100)
	equal(s, "status", s.task("t").Status, store.Terminated)
}
