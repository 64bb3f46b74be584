package storetest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/perdure/perdure/store"
)

func readRules() []rule {
	const list = "List filters by func, status, session, agent, worker and tags, newest first, in pages."
	return []rule{
		{"R3", "Waiting", "Due tasks that nobody holds are counted by func.", r3Waiting},
		{"P3", "Neighbours", "One operation's failure never fails its neighbours.", p3Neighbours},
		{"P3", "EndedContext", "A context that ends makes a call return early.", p3EndedContext},
		{"P5", "OldestFirst", "Pending tasks are taken oldest first.", p5OldestFirst},
		{"P5", "FuncLimits", "A func at its own limit does not hold up the others.", p5FuncLimits},
		{"P5", "Except", "Tasks that the worker asks to leave alone are left alone, and hold up no other.", p5Except},
		{"Ephemeral", "Swept", "An ephemeral task's record is swept away a little after its end.", ephemeralSwept},
		{"List", "Filters", list, listFilters},
		{"List", "Pages", list, listPages},
		{"Turns", "Pages", "Turns come in pages in the order of their numbers, with their inputs.", turnsPages},
		{"Workers", "Alive", "Workers that are not dead are listed, oldest first, with what they are.", workersAlive},
		{"Close", "Closed", "Operations after Close fail with ErrClosed.", closeClosed},
	}
}

func r3Waiting(s *suite) {
	s.offer(s.request("a", "1"))
	other := s.request("b", "1")
	other.Func = "g"
	s.offer(other)
	s.start("c")
	waiting, err := s.Waiting(s.Context())
	equal(s, "waiting", fmt.Sprint(must(s, waiting, err)), "map[f:1 g:1]")
	s.claimOne("w1")
	waiting, err = s.Waiting(s.Context())
	equal(s, "waiting after a claim", fmt.Sprint(must(s, waiting, err)), "map[g:1]")
}

func p3Neighbours(s *suite) {
	s.start("busy", rigid)
	var all sync.WaitGroup
	for i := range 100 {
		good, bad := s.request(fmt.Sprintf("n%d", i), "a"), s.request("busy", fmt.Sprintf("b%d", i))
		all.Go(func() {
			if _, err := s.Offer(context.Background(), good); err != nil {
				s.Errorf("good offer: %v", err)
			}
		})
		all.Go(func() {
			if _, err := s.Offer(context.Background(), bad); !store.Definite(err) {
				s.Errorf("bad offer: got error %v, want a conflict", err)
			}
		})
	}
	all.Wait()
	tasks, err := s.List(s.Context(), store.ListQuery{Limit: 1000})
	equal(s, "tasks", len(must(s, tasks, err)), 101)
}

func p3EndedContext(s *suite) {
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	_, err := s.Offer(ctx, s.request("t", "a"))
	s.fails("offer", err, context.Canceled)
	_, err = s.Store.Get(ctx, "t")
	s.fails("get", err, context.Canceled)
}

func order(entries []*store.Entry) string {
	var ids []string
	for _, e := range entries {
		ids = append(ids, e.Task.ID)
	}
	return strings.Join(ids, " ")
}

func p5OldestFirst(s *suite) {
	for _, id := range []string{"c", "a", "b"} {
		s.offer(s.request(id, "x"))
		advance(time.Second)
	}
	s.worker("w1")
	req := s.claimRequest("w1")
	req.Limit = 2
	c, err := s.Claim(s.Context(), req)
	equal(s, "claimed", order(must(s, c, err).Entries), "c a")
	equal(s, "more", c.More, true)
	equal(s, "claimed", order(s.claim("w1")), "b")
}

func p5FuncLimits(s *suite) {
	for i, id := range []string{"f1", "f2", "g1", "f3", "g2"} {
		req := s.request(id, "x")
		req.Func = id[:1]
		s.offer(req)
		advance(time.Duration(i+1) * time.Millisecond)
	}
	s.worker("w1")
	req := s.claimRequest("w1")
	req.Funcs = []store.ClaimFunc{{Name: "f", Limit: 1}, {Name: "g", Limit: 5}}
	c, err := s.Claim(s.Context(), req)
	equal(s, "claimed", order(must(s, c, err).Entries), "f1 g1 g2")
	req.Request, req.Funcs = 1000, []store.ClaimFunc{{Name: "f", Limit: 0}}
	c, err = s.Claim(s.Context(), req)
	equal(s, "claimed by a func without room", order(must(s, c, err).Entries), "")
}

func p5Except(s *suite) {
	s.offer(s.request("a", "x"))
	s.offer(s.request("b", "x"))
	s.worker("w1")
	req := s.claimRequest("w1")
	req.Except, req.Limit = []string{"a"}, 1
	c, err := s.Claim(s.Context(), req)
	equal(s, "claimed", order(must(s, c, err).Entries), "b")
}

func ephemeralSwept(s *suite) {
	e := s.start("t", ephemeral)
	s.checkpoint(e, 1, true, "x")
	s.complete(e)
	s.complete(s.start("kept"))
	equal(s, "output while it lingers", string(s.turn("t", 1).Output), `"out"`)
	swept, err := s.Sweep(s.Context(), 10)
	equal(s, "removed", must(s, swept, err).Removed, 0)
	advance(10 * time.Second)
	tasks, err := s.List(s.Context(), store.ListQuery{Limit: 10})
	equal(s, "listed", len(must(s, tasks, err)), 1)
	swept, err = s.Sweep(s.Context(), 10)
	equal(s, "removed", must(s, swept, err).Removed, 1)
	equal(s, "more", swept.More, false)
	s.statusIs("kept", store.Completed)
}

func listFilters(s *suite) {
	for i, id := range []string{"a", "b", "c", "d"} {
		req := s.request(id, "x")
		req.Func = []string{"f", "g"}[i%2]
		req.Session, req.Agent = []string{"s", ""}[i/2], []string{"", "a"}[i/2]
		req.Tags = map[string]string{"n": id, "all": "yes"}
		s.offer(req)
	}
	s.worker("w1")
	s.complete(s.claim("w1")[0]) // a
	for what, c := range map[string]struct {
		q    store.ListQuery
		want string
	}{
		"all":          {store.ListQuery{}, "d c b a"},
		"func":         {store.ListQuery{Funcs: []string{"g"}}, "d b"},
		"funcs":        {store.ListQuery{Funcs: []string{"g", "f"}}, "d c b a"},
		"completed":    {store.ListQuery{Statuses: []store.Status{store.Completed}}, "a"},
		"open":         {store.ListQuery{Statuses: []store.Status{store.Pending, store.InProgress}}, "d c b"},
		"session":      {store.ListQuery{Session: "s"}, "b a"},
		"agent":        {store.ListQuery{Agent: "a"}, "d c"},
		"worker":       {store.ListQuery{Worker: "w1"}, "c"},
		"tags":         {store.ListQuery{Tags: map[string]string{"all": "yes", "n": "b"}}, "b"},
		"other value":  {store.ListQuery{Tags: map[string]string{"all": "no"}}, ""},
		"all together": {store.ListQuery{Funcs: []string{"g"}, Session: "s", Tags: map[string]string{"all": "yes"}}, "b"},
	} {
		c.q.Limit = 10
		equal(s, what, s.list(c.q), c.want)
	}
}

func (s *suite) list(q store.ListQuery) string {
	s.Helper()
	tasks, err := s.List(s.Context(), q)
	must(s, 0, err)
	var ids []string
	for _, t := range tasks {
		ids = append(ids, t.ID)
	}
	return strings.Join(ids, " ")
}

func listPages(s *suite) {
	for i := range 7 {
		s.offer(s.request(fmt.Sprintf("t%d", i), "x"))
	}
	for _, statuses := range [][]store.Status{nil, {store.Pending}, {store.Pending, store.Suspended}} {
		got, before := "", int64(0)
		for {
			tasks, err := s.List(s.Context(), store.ListQuery{Statuses: statuses, Before: before, Limit: 3})
			if len(must(s, tasks, err)) == 0 {
				break
			}
			for _, t := range tasks {
				got += t.ID[1:]
				before = t.Incarnation
			}
		}
		equal(s, "pages", got, "6543210")
	}
}

func turnsPages(s *suite) {
	s.start("t")
	s.queue("t", "b", "c", "d")
	first, err := s.Turns(s.Context(), store.TurnsQuery{TaskID: "t", Limit: 3})
	must(s, 0, err)
	rest, err := s.Turns(s.Context(), store.TurnsQuery{TaskID: "t", After: 3, Limit: 3})
	must(s, 0, err)
	equal(s, "pages", fmt.Sprint(len(first), len(rest)), "3 1")
	equal(s, "input", string(rest[0].Input), `"d"`)
	equal(s, "status", first[0].Status, store.InProgress)
	equal(s, "status", rest[0].Status, store.TurnQueued)
	_, err = s.Turns(s.Context(), store.TurnsQuery{TaskID: "u", Limit: 3})
	s.fails("turns of an absent task", err, store.ErrNotFound)
}

func workersAlive(s *suite) {
	_, err := s.Heartbeat(s.Context(), &store.HeartbeatRequest{
		Worker: "z", First: true, Lease: leaseTime, Running: 3, Funcs: []store.PublishedFunc{{Name: "f"}},
		Info: store.WorkerInfo{Host: "h", PID: 7, Program: "p", Version: "v"},
	})
	must(s, 0, err)
	advance(time.Second)
	s.worker("a")
	workers, err := s.Workers(s.Context())
	must(s, 0, err)
	if len(workers) != 2 || workers[0].ID != "z" {
		s.Fatalf("got %d workers", len(workers))
	}
	equal(s, "info", workers[0].Info, store.WorkerInfo{Host: "h", PID: 7, Program: "p", Version: "v"})
	equal(s, "funcs", fmt.Sprint(workers[0].Funcs, workers[0].Running), "[f] 3")
	equal(s, "lease", workers[0].ExpiresAt.Sub(workers[0].BeatAt), leaseTime)
	advance(leaseTime - time.Second)
	workers, err = s.Workers(s.Context())
	equal(s, "alive", len(must(s, workers, err)), 1)
}

func closeClosed(s *suite) {
	s.offer(s.request("t", "a"))
	must(s, 0, s.Close())
	_, err := s.Get(s.Context(), "t")
	s.fails("get", err, store.ErrClosed)
	_, err = s.Offer(s.Context(), s.request("t", "b"))
	s.fails("offer", err, store.ErrClosed)
}
