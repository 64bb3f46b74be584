package pgstore

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/perdure/perdure/internal/pgtest"
)

// queued has one transaction hold what a statement locks, and another wait for it. Postgres does not tell a third what it
// waits for.
func queued(t *testing.T, s *Store, sql string) (unlock func()) {
	t.Helper()
	free := lockedTask(t, s, sql)
	c, err := pgx.Connect(t.Context(), pgtest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { hangUp(c) })
	done := make(chan struct{})
	go func() { defer close(done); c.Exec(context.WithoutCancel(t.Context()), s.sql(sql)) }()
	t.Cleanup(func() { <-done })
	untilWaits(t, s)
	return func() { free(); <-done }
}

// A row for which others wait is no locked table: one start of many needs it.
func TestAQueueForAWorkerHoldsUpNobodyElse(t *testing.T) {
	s, _ := pair(t)
	register(t, s, "w")
	unlock := queued(t, s, `SELECT FROM perdure.workers WHERE id = 'w' FOR UPDATE`)
	var all, stuck started
	for i := range 50 {
		req := offerReq(fmt.Sprint("free-", i))
		if i == 25 {
			req.Lease, req.Worker, req.Request = true, "w", 1
			stuck.send(func() error { _, err := s.Offer(t.Context(), req); return err })
			continue
		}
		all.send(func() error { _, err := s.Offer(t.Context(), req); return err })
	}
	for _, err := range all.all() {
		if err != nil {
			t.Errorf("an unrelated start: %v", err)
		}
	}
	unlock()
	stuck.all()
}
