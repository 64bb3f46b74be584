package sqlitestore

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/perdure/perdure/store"
)

var benchInput = make([]byte, 512)

// benchEach spreads b.N calls over callers goroutines.
func benchEach(b *testing.B, callers int, call func() error) {
	b.Helper()
	b.ReportAllocs()
	b.ResetTimer()
	var left atomic.Int64
	left.Store(int64(b.N))
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				if err := call(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "cycles/s")
}

func benchStore(b *testing.B) *Store {
	b.Helper()
	s, err := Open(b.Context(), filepath.Join(b.TempDir(), "bench.db"), nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	if _, err := s.Lock(); err != nil {
		b.Fatal(err)
	}
	_, err = s.Heartbeat(b.Context(), &store.HeartbeatRequest{Worker: "w", First: true, Lease: time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// cycle starts a task with its lease, and ends it.
func cycle(ctx context.Context, s *Store, settings *store.Settings) error {
	id := uuid.Must(uuid.NewV7()).String()
	o, err := s.Offer(ctx, &store.OfferRequest{
		TaskID: id, Func: "bench", InputID: "i-" + id, Input: benchInput, Worker: "w", Lease: true,
		Digests: []store.Digest{{Sum: "0123456789abcdef0123456789abcdef"}}, Settings: settings,
	})
	if err != nil {
		return err
	}
	_, err = s.Settle(ctx, &store.SettleRequest{
		Lease: o.Entry.Lease, Kind: store.SettleEnd, Outcome: store.Completed, Then: store.Completed,
		Output: benchInput[:128], KeepLease: true,
	})
	return err
}

func BenchmarkCycle(b *testing.B) {
	for _, callers := range []int{1, 64, 256} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			s := benchStore(b)
			settings := &store.Settings{MaxPending: 10, MaxRecoveries: 20, Keep: 7 * 24 * time.Hour}
			benchEach(b, callers, func() error { return cycle(b.Context(), s, settings) })
		})
	}
}

// BenchmarkBare writes the same rows through the same group commit, without rules or reads.
func BenchmarkBare(b *testing.B) {
	for _, callers := range []int{1, 64, 256} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			s := benchStore(b)
			benchEach(b, callers, func() error { return bareCycle(b.Context(), s) })
		})
	}
}

func bareCycle(ctx context.Context, s *Store) error {
	id := uuid.Must(uuid.NewV7()).String()
	var t *store.Task
	err := s.writer.do(&op{ctx: ctx, size: len(benchInput), run: func(c *conn, now time.Time) error {
		t = &store.Task{ID: id, Func: "bench", Status: store.InProgress, Worker: "w", CreatedAt: now, UpdatedAt: now, EnteredAt: now}
		t.Turn = store.Current{Number: 1, InputID: "i-" + id, StartedAt: now, Attempt: 1, Entry: store.EntryFresh}
		t.LastTurn, t.LastInputID = 1, t.Turn.InputID
		if err := c.InsertTask(t); err != nil {
			return err
		}
		return c.InsertTurn(&store.Turn{
			Incarnation: t.Incarnation, Number: 1, InputID: t.Turn.InputID, Deliver: store.DeliverInterrupt,
			Digest: store.Digest{Sum: "0123456789abcdef0123456789abcdef"}, AcceptedAt: now, Input: benchInput,
		})
	}})
	if err != nil {
		return err
	}
	return s.writer.do(&op{ctx: ctx, run: func(c *conn, now time.Time) error {
		t.Status, t.Worker, t.EndedAt, t.ExpiresAt, t.UpdatedAt = store.Completed, "", now, now.Add(time.Hour), now
		err := c.EndTurn(&store.Turn{
			Incarnation: t.Incarnation, Number: 1, Status: store.Completed, Entry: store.EntryFresh, Attempt: 1,
			EndEvent: 1, StartedAt: now, EndedAt: now, Output: benchInput[:128],
		})
		if err != nil {
			return err
		}
		return c.UpdateTask(t)
	}})
}

// BenchmarkEvents checkpoints 20 events of 100 bytes at a time; the figure is of checkpoints.
func BenchmarkEvents(b *testing.B) {
	for _, tasks := range []int{1, 64} {
		b.Run(fmt.Sprint(tasks), func(b *testing.B) {
			s := benchStore(b)
			leases := make(chan store.Lease, tasks)
			for i := range tasks {
				leases <- benchLease(b, s, fmt.Sprint("t", i))
			}
			events := make([][]byte, 20)
			for i := range events {
				events[i] = benchInput[:100]
			}
			var number atomic.Int64
			benchEach(b, tasks, func() error {
				lease := <-leases
				defer func() { leases <- lease }()
				_, err := s.Checkpoint(b.Context(), &store.CheckpointRequest{Lease: lease, Number: number.Add(1), Events: events})
				return err
			})
		})
	}
}

func benchLease(b *testing.B, s *Store, id string) store.Lease {
	b.Helper()
	o, err := s.Offer(b.Context(), &store.OfferRequest{
		TaskID: id, Func: "bench", InputID: "i", Input: benchInput, Worker: "w", Lease: true, Settings: &store.Settings{},
	})
	if err != nil {
		b.Fatal(err)
	}
	return o.Entry.Lease
}

// BenchmarkTurn reads a turn without its input.
func BenchmarkTurn(b *testing.B) {
	s := benchStore(b)
	benchLease(b, s, "t")
	benchEach(b, 1, func() error {
		_, err := s.Turn(b.Context(), store.TurnQuery{TaskID: "t"})
		return err
	})
}
