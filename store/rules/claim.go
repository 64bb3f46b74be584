package rules

import (
	"slices"
	"time"

	"github.com/perdure/perdure/store"
)

// reapLimit bounds how many tasks of dead workers one Claim puts back.
const reapLimit = 1000

// Claim puts back what dead workers held and leases what is due.
func Claim(rows Rows, now time.Time, req *store.ClaimRequest) (*store.Claimed, error) {
	if err := req.Valid(); err != nil {
		return nil, err
	}
	w, err := rows.Worker(req.Worker)
	if err != nil {
		return nil, err
	}
	if w == nil || lapsed(rows, w, now) {
		return nil, store.ErrWorkerDead
	}
	c := &store.Claimed{Now: now}
	if req.Repeat {
		if err := reclaim(rows, req, c); err != nil || len(c.Entries) > 0 {
			return c, err
		}
	}
	if err := reap(rows, now, c); err != nil {
		return nil, err
	}
	due, err := due(rows, now, req)
	if err != nil {
		return nil, err
	}
	for _, t := range due {
		if err := leaseDue(rows, t, now, req, c); err != nil {
			return nil, err
		}
	}
	if len(due) < req.Limit {
		c.NextDue, err = nextDue(rows, now, req)
	} else if req.Limit > 0 {
		c.More = true
	}
	return c, err
}

func lapsed(rows Rows, w *store.Worker, now time.Time) bool {
	return w.Dead || !rows.Sole() && !now.Before(w.ExpiresAt)
}

// reclaim answers a repeated Claim with what it had leased (O6).
func reclaim(rows Rows, req *store.ClaimRequest, c *store.Claimed) error {
	held, err := rows.LeasedBy(req.Worker, req.Request)
	if err != nil {
		return err
	}
	for _, t := range held {
		e, err := entry(rows, t)
		if err != nil {
			return err
		}
		c.Entries = append(c.Entries, e)
	}
	c.More = len(c.Entries) > 0
	return nil
}

// AheadBy is how far the last heartbeat of a worker must be in the future for the clock to count as set back since. It is
// longer than any transaction takes.
const AheadBy = time.Minute

// begunAgain begins the lease of a worker again whose heartbeat is of a time to which the clock has been set back since:
// who lives gets more time, and who is dead does not live for as long as the step was.
func begunAgain(rows Rows, w *store.Worker, now time.Time) (bool, error) {
	if !ahead(rows, w, now) {
		return false, nil
	}
	w.BeatAt, w.ExpiresAt = now, now.Add(w.ExpiresAt.Sub(w.BeatAt))
	return true, rows.PutWorker(w)
}

// ahead reports whether the last heartbeat of a worker was sent in the future.
func ahead(rows Rows, w *store.Worker, now time.Time) bool {
	return !rows.Sole() && !w.Dead && w.BeatAt.Sub(now) > max(AheadBy, w.ExpiresAt.Sub(w.BeatAt))
}

// reap marks lapsed workers dead and puts their tasks back (O3, R4).
func reap(rows Rows, now time.Time, c *store.Claimed) error {
	workers, err := rows.Lapsed(now)
	if err != nil {
		return err
	}
	for _, w := range workers {
		again, err := begunAgain(rows, w, now)
		if err != nil {
			return err
		}
		if again || !lapsed(rows, w, now) {
			continue
		}
		if c.Put >= reapLimit {
			c.More = true
			return nil
		}
		if err := reapWorker(rows, now, w, c); err != nil {
			return err
		}
	}
	return nil
}

func reapWorker(rows Rows, now time.Time, w *store.Worker, c *store.Claimed) error {
	limit := reapLimit - c.Put
	tasks, all, err := rows.LeasedTo(w.ID, limit)
	if err != nil {
		return err
	}
	for _, t := range tasks {
		if lived := w.BeatAt.Sub(t.EnteredAt); w.Stopped {
			releaseStopped(t, lived)
		} else {
			recoverTurn(t, now, lived)
		}
		if t.Status == store.Parked {
			c.Parked++
		}
		if err := update(rows, t, now); err != nil {
			return err
		}
		c.Put++
	}
	if all {
		return rows.DeleteWorker(w.ID)
	}
	c.More = c.More || len(tasks) == limit
	if w.Dead {
		return nil
	}
	w.Dead = true
	return rows.PutWorker(w)
}

// due collects what the request may take: in the order of their places over all its funcs, each within its own limit (P5).
func due(rows Rows, now time.Time, req *store.ClaimRequest) ([]*store.Task, error) {
	var plain, suspects []store.ClaimFunc
	for _, f := range req.Funcs {
		limit := min(f.Limit, req.Limit)
		if limit <= 0 {
			continue
		}
		plain = append(plain, store.ClaimFunc{Name: f.Name, Limit: limit + len(req.Except)})
		if req.Suspect {
			suspects = append(suspects, store.ClaimFunc{Name: f.Name, Limit: 1 + len(req.Except)})
		}
	}
	tasks, err := rows.Due(now, plain, suspects)
	if err != nil {
		return nil, err
	}
	tasks = slices.DeleteFunc(tasks, func(t *store.Task) bool { return slices.Contains(req.Except, t.ID) })
	return pick(InLine(len(tasks), tasks), req), nil
}

// Waits reports whether a Claim would find something: see store.Polled.
func Waits(rows Rows, now time.Time, req *store.PollRequest) (bool, error) {
	var plain, suspects []store.ClaimFunc
	for _, fn := range req.Funcs {
		plain = append(plain, store.ClaimFunc{Name: fn, Limit: 1})
	}
	if req.Suspect {
		suspects = plain
	}
	tasks, err := rows.Due(now, plain, suspects)
	if err != nil || len(tasks) > 0 {
		return true, err
	}
	workers, err := rows.Lapsed(now)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(workers, func(w *store.Worker) bool { return lapsed(rows, w, now) || ahead(rows, w, now) }), nil
}

// pick keeps the first req.Limit tasks, one suspect at most, and no func above its limit.
func pick(all []*store.Task, req *store.ClaimRequest) []*store.Task {
	room := make(map[string]int, len(req.Funcs))
	for _, f := range req.Funcs {
		room[f.Name] = f.Limit
	}
	suspects := 0
	picked := all[:0]
	for _, t := range all {
		if len(picked) == req.Limit {
			break
		}
		if room[t.Func] == 0 || t.Suspect && suspects == 1 {
			continue
		}
		room[t.Func]--
		if t.Suspect {
			suspects++
		}
		picked = append(picked, t)
	}
	return picked
}

// leaseDue leases one due task. A turn that is past its deadline ends instead when it was entered once since,
// or was waiting for a time (C5).
func leaseDue(rows Rows, t *store.Task, now time.Time, req *store.ClaimRequest, c *store.Claimed) error {
	if t.Turn.Overdue || delayed(t) && late(t, now) {
		c.More = true
		c.Ended++
		return endUnrun(rows, t, now, store.Terminated, deadlineReason)
	}
	lease(t, now, req.Worker, req.Request)
	if err := update(rows, t, now); err != nil {
		return err
	}
	e, err := entry(rows, t)
	if err != nil {
		return err
	}
	c.Entries = append(c.Entries, e)
	return nil
}

func nextDue(rows Rows, now time.Time, req *store.ClaimRequest) (time.Time, error) {
	funcs := make([]string, len(req.Funcs))
	for i, f := range req.Funcs {
		funcs[i] = f.Name
	}
	return rows.NextDue(now, funcs)
}

// Heartbeat registers or renews a worker (O3).
func Heartbeat(rows Rows, now time.Time, req *store.HeartbeatRequest) (*store.Beat, error) {
	if err := req.Valid(); err != nil {
		return nil, err
	}
	w, err := rows.Worker(req.Worker)
	if err != nil {
		return nil, err
	}
	if w == nil && (!req.First || req.Leave) || w != nil && lapsed(rows, w, now) {
		return nil, store.ErrWorkerDead
	}
	if req.Leave {
		return &store.Beat{Now: now}, leave(rows, w)
	}
	if w == nil {
		w = &store.Worker{ID: req.Worker, Info: req.Info, StartedAt: now}
		if err := register(rows, now, req, w); err != nil {
			return nil, err
		}
	}
	w.BeatAt, w.ExpiresAt, w.Running = now, now.Add(req.Lease), req.Running
	return &store.Beat{Now: now}, rows.PutWorker(w)
}

func register(rows Rows, now time.Time, req *store.HeartbeatRequest, w *store.Worker) error {
	for _, f := range req.Funcs {
		w.Funcs = append(w.Funcs, f.Name)
		if err := rows.Publish(f); err != nil {
			return err
		}
	}
	if req.Replaces != "" {
		if err := replace(rows, req.Replaces); err != nil {
			return err
		}
	}
	if !rows.Sole() {
		return nil
	}
	others, err := rows.Lapsed(now)
	if err != nil {
		return err
	}
	for _, other := range others {
		other.Dead = true
		if err := rows.PutWorker(other); err != nil {
			return err
		}
	}
	return nil
}

// replace makes claims put back, uncounted, what a former worker of the same process still holds.
func replace(rows Rows, worker string) error {
	w, err := rows.Worker(worker)
	if err != nil || w == nil {
		return err
	}
	w.Dead, w.Stopped = true, true
	return rows.PutWorker(w)
}

// leave forgets a worker that has released everything; one that has not lapses.
func leave(rows Rows, w *store.Worker) error {
	held, all, err := rows.LeasedTo(w.ID, 1)
	if err != nil || !all || len(held) > 0 {
		return err
	}
	return rows.DeleteWorker(w.ID)
}
