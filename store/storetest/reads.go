package storetest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/perdure/perdure/store"
)

const listSentence = "List filters by func, status, session, agent, worker and tags, newest first, in pages."

func readRules() []rule {
	return []rule{
		{"R3", "Waiting", "Due tasks that nobody holds are counted, up to a number, of each func that is not left out.", r3Waiting},
		{"P3", "Neighbours", "One operation's failure never fails its neighbours.", p3Neighbours},
		{"P3", "EndedContext", "A context that ends makes a call return early.", p3EndedContext},
		{"P5", "OldestFirst", "Pending tasks are taken oldest first.", p5OldestFirst},
		{"P5", "FuncLimits", "A func at its own limit does not hold up the others.", p5FuncLimits},
		{"P5", "Except", "Tasks that the worker asks to leave alone are left alone, and hold up no other.", p5Except},
		{"Ephemeral", "Swept", "An ephemeral task's record is swept away a little after its end.", ephemeralSwept},
		{"List", "Filters", listSentence, listFilters},
		{"Workers", "Alive", "Workers that are not dead are listed, oldest first, with what they are.", workersAlive},
		{"Close", "Closed", "Operations after Close fail with ErrClosed.", closeClosed},
	}
}

func r3Waiting(s *suite) {
	s.offer(s.request("a", "1"))
	other := s.request("b", "1")
	other.Func = "g"
	s.offer(other)
	s.settle(retry(s.start("later"), time.Hour, false))
	s.start("c")
	equal(s, "waiting", s.waiting(nil, 10), "map[f:1 g:1]")
	equal(s, "waiting but f", s.waiting([]string{"f", "x"}, 10), "map[g:1]")
	equal(s, "waiting but all", s.waiting([]string{"g", "f"}, 10), "map[]")
	s.claimOne("w1")
	equal(s, "waiting after a claim", s.waiting(nil, 10), "map[g:1]")
	for i := range 7 {
		s.offer(s.request(fmt.Sprint("d", i), "1"))
	}
	equal(s, "no more than most", s.waiting(nil, 5), "map[f:5 g:1]")
	equal(s, "exactly most", s.waiting(nil, 7), "map[f:7 g:1]")
	s.settle(retry(s.start("soon"), time.Minute, false))
	advance(time.Minute)
	equal(s, "after a delay", s.waiting([]string{"g"}, 100), "map[f:8]")
	s.serve("w2")
	suspect := s.request("crashed", "1")
	suspect.Worker, suspect.Lease, suspect.Settings.MaxRecoveries = "w2", true, 0
	s.settle(release(s.offer(suspect).Entry, store.ReleaseAsked))
	s.signal(&store.SignalRequest{TaskID: "crashed", Kind: store.Resume})
	equal(s, "with a suspect", s.waiting([]string{"g"}, 100), "map[f:9]")
	equal(s, "no more than most, with a suspect", s.waiting([]string{"g"}, 8), "map[f:8]")
}

func (s *suite) waiting(except []string, most int) string {
	s.Helper()
	waiting, err := s.Waiting(s.Context(), except, most)
	return fmt.Sprint(must(s, waiting, err))
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
	equal(s, "tasks", len(must(s, tasks, err).Tasks), 101)
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
	equal(s, "listed", len(must(s, tasks, err).Tasks), 1)
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
	page, err := s.List(s.Context(), q)
	must(s, 0, err)
	var ids []string
	for _, t := range page.Tasks {
		ids = append(ids, t.ID)
	}
	return strings.Join(ids, " ")
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
