package pgstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/pgtest"
	"github.com/perdure/perdure/store"
)

// replicated starts a primary and its synchronous standby.
func replicated(t *testing.T) (g *pgtest.Group, a, b *pgtest.Server) {
	t.Helper()
	g = pgtest.StartGroup(t, 2, "synchronous_standby_names=ANY 1 (b)")
	a, b = g.Servers[0], g.Servers[1]
	g.Follow(b, a, "b", a.Address())
	return g, a, b
}

// away opens a store, and ends the standby. What is written from then on waits.
func away(t *testing.T, b *pgtest.Server, at string) *Store {
	t.Helper()
	s := openAt(t, at, Options{PollOnly: true})
	register(t, s, "w")
	mustOffer(t, s, offerReq("before"))
	b.Kill()
	return s
}

// untilCommits waits until n commits wait for the standby.
func untilCommits(t *testing.T, a *pgtest.Server, n int) {
	t.Helper()
	for late := time.Now().Add(time.Minute); ; {
		if got := waitingCommits(t, a); got >= n {
			return
		}
		if time.Now().After(late) {
			t.Fatalf("there are not %d commits that wait", n)
		}
		<-time.After(20 * time.Millisecond)
	}
}

func waitingCommits(t *testing.T, a *pgtest.Server) (n int) {
	t.Helper()
	if err := a.Ask(`SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'`, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// seen is whether another process, which goes straight to the server, finds a task; an error is an answer too.
func seen(t *testing.T, s *Store, id string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := s.Get(ctx, id)
	return err
}

// What waits for a standby is acknowledged to nobody and shown to nobody, however long that takes, and whatever becomes of
// connections: neither is the wait ended, nor is more than a few begun.
func TestACommitIsNeverCancelled(t *testing.T) {
	t.Parallel()
	for name, way := range map[string]func(*testing.T, *pgtest.Group) string{
		"plain": func(_ *testing.T, g *pgtest.Group) string { return g.Servers[0].URL() },
		"TLS": func(_ *testing.T, g *pgtest.Group) string {
			return strings.Replace(g.Servers[0].URL(), "sslmode=disable", "sslmode=require", 1)
		},
		"PgBouncer": func(t *testing.T, g *pgtest.Group) string {
			return pgtest.Bouncer(t, g.Servers[0].URL(), "default_pool_size = 20")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := pgtest.StartGroup(t, 2, "synchronous_standby_names=ANY 1 (b)")
			a, b := g.Servers[0], g.Servers[1]
			if name == "TLS" {
				a.Kill()
				if err := errors.Join(a.WithTLS(), a.Launch()); err != nil {
					t.Fatal(err)
				}
			}
			g.Follow(b, a, "b", a.Address())
			s := openAt(t, way(t, g), Options{PollOnly: true})
			other := openAt(t, a.URL(), Options{PollOnly: true})
			serve(t, s, "w")
			lease := leased(t, s, "one", "w", 0)
			mustOffer(t, s, offerReq("gone"))
			if err := seen(t, other, "one"); err != nil {
				t.Fatal(err)
			}
			b.Kill()
			var calls sync.WaitGroup
			calls.Go(func() {
				_, err := s.Settle(t.Context(), &store.SettleRequest{Lease: lease, Kind: store.SettleEnd, Outcome: store.Completed, Then: store.Completed})
				if err == nil || store.Definite(err) {
					t.Errorf("the end of a turn that no standby has: %v", err)
				}
			})
			for n := range lateCommits {
				calls.Go(func() {
					_, err := s.Heartbeat(t.Context(), &store.HeartbeatRequest{Worker: fmt.Sprint("new", n), Lease: time.Hour, First: true})
					if err == nil || store.Definite(err) {
						t.Errorf("a heartbeat that no standby has: %v", err)
					}
				})
			}
			calls.Go(func() {
				if _, err := s.Delete(t.Context(), &store.DeleteRequest{TaskID: "gone"}); err == nil {
					t.Error("a delete that no standby has was acknowledged")
				}
			})
			calls.Wait()
			before := waitingCommits(t, a)
			began := time.Now()
			for range 3 {
				if _, err := s.Delete(t.Context(), &store.DeleteRequest{TaskID: "gone"}); err == nil || store.Definite(err) {
					t.Errorf("a repeated delete: %v", err)
				}
			}
			if took := time.Since(began); took > batchTime {
				t.Errorf("three answers took %v while commits wait", took)
			}
			same(t, "commits that wait after more was asked for", waitingCommits(t, a), before)
			same(t, "status for others", get(t, other, "one").Status, store.InProgress)
			if err := seen(t, other, "gone"); err != nil {
				t.Errorf("a deleted task for others: %v", err)
			}
			if err := b.Launch(); err != nil {
				t.Fatal(err)
			}
			for late := time.Now().Add(time.Minute); get(t, other, "one").Status != store.Completed && time.Now().Before(late); {
				<-time.After(20 * time.Millisecond)
			}
			same(t, "status when the standby is back", get(t, other, "one").Status, store.Completed)
			for late := time.Now().Add(time.Minute); ; <-time.After(20 * time.Millisecond) {
				if _, err := s.Heartbeat(t.Context(), &store.HeartbeatRequest{Worker: "w", Lease: time.Hour}); err == nil {
					break
				} else if time.Now().After(late) {
					t.Fatalf("a heartbeat when the standby is back: %v", err)
				}
			}
		})
	}
}

// pgx sends a request to cancel when a connection breaks, too.
func TestABrokenConnectionCancelsNoCommit(t *testing.T) {
	t.Parallel()
	_, a, b := replicated(t)
	line := pgtest.StartLine(t, a.Address(), 0)
	other := openAt(t, a.URL(), Options{PollOnly: true})
	if err := seen(t, other, "one"); !errors.Is(err, store.ErrNotFound) {
		t.Fatal(err)
	}
	s := away(t, b, a.URLAt(line.Address()))
	offered := make(chan error)
	go func() {
		_, err := s.Offer(context.Background(), offerReq("one"))
		offered <- err
	}()
	untilCommits(t, a, 1)
	line.Drop()
	if err := <-offered; err == nil || store.Definite(err) {
		t.Errorf("an offer whose connection broke: %v", err)
	}
	for until := time.Now().Add(time.Second); time.Now().Before(until); <-time.After(50 * time.Millisecond) {
		if err := seen(t, other, "one"); !errors.Is(err, store.ErrNotFound) {
			t.Fatalf("what no standby has, for others: %v", err)
		}
	}
}

// A server that has started again shows what it had not replicated.
func TestWhatAServerShowsAfterAStartIsNotTold(t *testing.T) {
	t.Parallel()
	for name, restart := range map[string]func(*pgtest.Server) error{
		"restart": func(a *pgtest.Server) error { a.Kill(); return a.Launch() },
		"crash":   func(a *pgtest.Server) error { return a.Crash() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, a, b := replicated(t)
			s := away(t, b, a.URL())
			offered := make(chan error)
			go func() {
				_, err := s.Offer(context.Background(), offerReq("one"))
				offered <- err
			}()
			untilCommits(t, a, 1)
			if err := restart(a); err != nil {
				t.Fatal(err)
			}
			if err := <-offered; err == nil {
				t.Error("an offer that no standby has was acknowledged")
			}
			var n int
			if err := a.Ask(`SELECT count(*) FROM perdure.tasks WHERE id = 'one'`, &n); err != nil || n != 1 {
				t.Fatalf("the server shows %d tasks, %v: this proves nothing", n, err)
			}
			for what, reader := range map[string]*Store{"the same process": s, "another one": openAt(t, a.URL(), Options{PollOnly: true})} {
				if err := seen(t, reader, "one"); err == nil || errors.Is(err, store.ErrNotFound) {
					t.Errorf("%s is told of what no standby has: %v", what, err)
				}
			}
			if err := b.Launch(); err != nil {
				t.Fatal(err)
			}
			g.Replicates(a, "b")
			for late := time.Now().Add(time.Minute); ; <-time.After(20 * time.Millisecond) {
				if err := seen(t, s, "one"); err == nil {
					break
				} else if time.Now().After(late) {
					t.Fatalf("when the standby is back: %v", err)
				}
			}
		})
	}
}

func TestACommitWhoseWaitWasEndedIsUnknown(t *testing.T) {
	t.Parallel()
	_, a, b := replicated(t)
	s := away(t, b, a.URL())
	offered := make(chan error)
	go func() {
		_, err := s.Offer(context.Background(), offerReq("one"))
		offered <- err
	}()
	untilCommits(t, a, 1)
	if err := a.Exec(`SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'`); err != nil {
		t.Fatal(err)
	}
	if err := <-offered; !errors.Is(err, errWarned) {
		t.Errorf("an offer whose wait was ended: %v", err)
	}
	if err := seen(t, s, "one"); err == nil || errors.Is(err, store.ErrNotFound) {
		t.Errorf("it is told: %v", err)
	}
}

// A new primary whose clock is ahead declares nobody dead who has not had the time of its lease to say that it lives.
func TestNoLeaseLapsesByAnotherServersClock(t *testing.T) {
	t.Parallel()
	g := pgtest.StartGroup(t, 2)
	a, b := g.Servers[0], g.Servers[1]
	g.Follow(b, a, "b", a.Address())
	c := &clock{}
	c.micros.Store(time.Now().UnixMicro())
	s := openAt(t, g.URL(), Options{PollOnly: true, UnsafeClock: c.now})
	const lease = 15 * time.Second
	beat := func(worker string, first bool) error {
		_, err := s.Heartbeat(t.Context(), &store.HeartbeatRequest{Worker: worker, Lease: lease, First: first, Funcs: []store.PublishedFunc{{Name: "f"}}})
		return err
	}
	for _, w := range []string{"dead", "alive", "other"} {
		if err := beat(w, true); err != nil {
			t.Fatal(err)
		}
		start := offerReq("of-" + w)
		start.Worker, start.Lease = w, true
		mustOffer(t, s, start)
	}
	var at, there string
	if err := a.Ask(`SELECT pg_current_wal_lsn()::text`, &at); err != nil {
		t.Fatal(err)
	}
	for late := time.Now().Add(time.Minute); there != "true" && time.Now().Before(late); {
		if err := b.Ask(`SELECT (pg_last_wal_replay_lsn() >= '`+at+`')::text`, &there); err != nil {
			t.Fatal(err)
		}
	}
	a.Kill()
	if err := b.Promote(); err != nil {
		t.Fatal(err)
	}
	c.advance(10 * time.Minute)
	put := func() int {
		t.Helper()
		var r *store.Claimed
		var err error
		for late := time.Now().Add(time.Minute); ; {
			if r, err = s.Claim(t.Context(), &store.ClaimRequest{Worker: "other"}); err == nil {
				return r.Put
			} else if store.Definite(err) || time.Now().After(late) {
				t.Fatal(err)
			}
		}
	}
	same(t, "put back at once", put(), 0)
	c.advance(lease - time.Second)
	same(t, "put back within a lease", put(), 0)
	workers, err := s.Workers(t.Context())
	if err != nil || len(workers) != 3 {
		t.Errorf("%d workers live within a lease, %v; want 3", len(workers), err)
	}
	for _, w := range []string{"alive", "other"} {
		if err := beat(w, false); err != nil {
			t.Errorf("heartbeat of %s: %v", w, err)
		}
	}
	c.advance(time.Second)
	same(t, "put back after a lease", put(), 1)
	if err := beat("dead", false); !errors.Is(err, store.ErrWorkerDead) {
		t.Errorf("a heartbeat after a lease: %v", err)
	}
}

// A database that does not tell its timeline is believed by its start alone.
func TestAServerThatTellsLittle(t *testing.T) {
	t.Parallel()
	_, a, b := replicated(t)
	s := openAt(t, a.URL(), Options{PollOnly: true})
	s.plain = true
	b.Kill()
	if err := seen(t, s, "one"); err == nil || errors.Is(err, store.ErrNotFound) {
		t.Errorf("without a standby: %v", err)
	}
	if err := b.Launch(); err != nil {
		t.Fatal(err)
	}
	mustOffer(t, s, offerReq("one"))
	if err := seen(t, s, "one"); err != nil {
		t.Error(err)
	}
}

func TestAStandbyIsNotAsked(t *testing.T) {
	t.Parallel()
	_, a, b := replicated(t)
	mustOffer(t, openAt(t, a.URL(), Options{PollOnly: true}), offerReq("one"))
	s := openAt(t, b.URL(), Options{PollOnly: true})
	if err := seen(t, s, "one"); !errors.Is(err, errStandby) {
		t.Errorf("a read: %v", err)
	}
	if _, err := s.Offer(t.Context(), offerReq("two")); err == nil || store.Definite(err) {
		t.Errorf("a write: %v", err)
	}
}

// What has a server's standbys confirm what it shows holds no row while it waits for them: others, who do the same, would wait
// for a lock.
func TestWhatWaitsForStandbysAfterAStartHoldsNoRow(t *testing.T) {
	t.Parallel()
	_, a, b := replicated(t)
	s := away(t, b, a.URL())
	a.Kill()
	if err := a.Launch(); err != nil {
		t.Fatal(err)
	}
	s.reset() // its connections are broken
	var reads started
	reads.send(func() error { return seen(t, s, "before") })
	untilCommits(t, a, 1)
	if err := a.Exec(`BEGIN; SELECT FROM perdure.timeline FOR UPDATE NOWAIT; ROLLBACK`); err != nil {
		t.Errorf("the row of the timeline: %v", err)
	}
	if err := reads.all()[0]; err == nil {
		t.Error("what no standby has confirmed is told")
	}
}

// A doubt that comes while a server is being proven is not passed over: it may be about what has been written since.
func TestADoubtMeanwhileIsNotPassedOver(t *testing.T) {
	t.Parallel()
	_, a, b := replicated(t)
	s := away(t, b, a.URL())
	server := s.servers.met()
	s.servers.forget(server)
	var proving started
	proving.send(func() error { return s.prove(context.Background(), server) })
	untilCommits(t, a, 1)
	s.servers.forget(server)
	if err := b.Launch(); err != nil {
		t.Fatal(err)
	}
	if err := proving.all()[0]; err != nil {
		t.Fatal(err)
	}
	if _, proven := s.servers.since(server); proven {
		t.Error("it is believed by what was asked before the doubt")
	}
	if err := seen(t, s, "before"); err != nil {
		t.Errorf("when it is asked again: %v", err)
	}
}
