package storetest

import (
	"context"

	"github.com/perdure/perdure/store"
)

// Offer implements store.Store.
func (f *Faulty) Offer(ctx context.Context, req *store.OfferRequest) (*store.Offered, error) {
	return pass(ctx, f, "Offer", req, func(ctx context.Context) (*store.Offered, error) { return f.inner.Offer(ctx, req) })
}

// Claim implements store.Store.
func (f *Faulty) Claim(ctx context.Context, req *store.ClaimRequest) (*store.Claimed, error) {
	return pass(ctx, f, "Claim", req, func(ctx context.Context) (*store.Claimed, error) { return f.inner.Claim(ctx, req) })
}

// Heartbeat implements store.Store.
func (f *Faulty) Heartbeat(ctx context.Context, req *store.HeartbeatRequest) (*store.Beat, error) {
	return pass(ctx, f, "Heartbeat", req, func(ctx context.Context) (*store.Beat, error) { return f.inner.Heartbeat(ctx, req) })
}

// Checkpoint implements store.Store.
func (f *Faulty) Checkpoint(ctx context.Context, req *store.CheckpointRequest) (*store.Checkpointed, error) {
	return pass(ctx, f, "Checkpoint", req, func(ctx context.Context) (*store.Checkpointed, error) { return f.inner.Checkpoint(ctx, req) })
}

// Settle implements store.Store.
func (f *Faulty) Settle(ctx context.Context, req *store.SettleRequest) (*store.Settled, error) {
	return pass(ctx, f, "Settle", req, func(ctx context.Context) (*store.Settled, error) { return f.inner.Settle(ctx, req) })
}

// Signal implements store.Store.
func (f *Faulty) Signal(ctx context.Context, req *store.SignalRequest) (*store.Signalled, error) {
	return pass(ctx, f, "Signal", req, func(ctx context.Context) (*store.Signalled, error) { return f.inner.Signal(ctx, req) })
}

// Sweep implements store.Store.
func (f *Faulty) Sweep(ctx context.Context, limit int) (*store.Swept, error) {
	return pass(ctx, f, "Sweep", limit, func(ctx context.Context) (*store.Swept, error) { return f.inner.Sweep(ctx, limit) })
}

// Get implements store.Store.
func (f *Faulty) Get(ctx context.Context, id string) (*store.Task, error) {
	return pass(ctx, f, "Get", id, func(ctx context.Context) (*store.Task, error) { return f.inner.Get(ctx, id) })
}

// Turn implements store.Store.
func (f *Faulty) Turn(ctx context.Context, q store.TurnQuery) (*store.Turn, error) {
	return pass(ctx, f, "Turn", q, func(ctx context.Context) (*store.Turn, error) { return f.inner.Turn(ctx, q) })
}

// Turns implements store.Store.
func (f *Faulty) Turns(ctx context.Context, q store.TurnsQuery) (*store.TurnPage, error) {
	return pass(ctx, f, "Turns", q, func(ctx context.Context) (*store.TurnPage, error) { return f.inner.Turns(ctx, q) })
}

// List implements store.Store.
func (f *Faulty) List(ctx context.Context, q store.ListQuery) (*store.TaskPage, error) {
	return pass(ctx, f, "List", q, func(ctx context.Context) (*store.TaskPage, error) { return f.inner.List(ctx, q) })
}

// Events implements store.Store.
func (f *Faulty) Events(ctx context.Context, q store.EventsQuery) (*store.EventPage, error) {
	return pass(ctx, f, "Events", q, func(ctx context.Context) (*store.EventPage, error) { return f.inner.Events(ctx, q) })
}

// Poll implements store.Store.
func (f *Faulty) Poll(ctx context.Context, req *store.PollRequest) (*store.Polled, error) {
	return pass(ctx, f, "Poll", req, func(ctx context.Context) (*store.Polled, error) { return f.inner.Poll(ctx, req) })
}

// Delete implements store.Store.
func (f *Faulty) Delete(ctx context.Context, req *store.DeleteRequest) (*store.Removed, error) {
	return pass(ctx, f, "Delete", req, func(ctx context.Context) (*store.Removed, error) { return f.inner.Delete(ctx, req) })
}

// Waiting implements store.Store.
func (f *Faulty) Waiting(ctx context.Context, except []string, most int) (map[string]int, error) {
	return pass(ctx, f, "Waiting", except, func(ctx context.Context) (map[string]int, error) {
		return f.inner.Waiting(ctx, except, most)
	})
}

// Workers implements store.Store.
func (f *Faulty) Workers(ctx context.Context) ([]*store.Worker, error) {
	return pass(ctx, f, "Workers", nil, func(ctx context.Context) ([]*store.Worker, error) { return f.inner.Workers(ctx) })
}

// Close implements store.Store: it closes the wrapped store too, unless f is dead.
func (f *Faulty) Close() error {
	_, err := pass(context.Background(), f, "Close", nil, func(context.Context) (struct{}, error) {
		return struct{}{}, f.inner.Close()
	})
	return err
}
