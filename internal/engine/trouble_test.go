package engine_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/internal/rig"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/memstore"
	"github.com/perdure/perdure/store/storetest"
)

func TestAnEndThatTheStoreDoesNotTakeIsToldAtOnceAndTriedAgain(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := perdure.NewFunc[int, int]("f", nil)
		st, broken := rig.Faulty(memstore.New())
		s := rig.Serve(t, st, perdure.Options{}, f.Bind(rig.Echo))
		broken.Set(func(c storetest.Call) storetest.Fault {
			if c.Op == "Settle" {
				return storetest.FailBefore
			}
			return storetest.None
		})
		h := rig.Start(t, s.Client, f, 7, "t")
		synctest.Wait()
		err := s.Engine.Ready()
		rig.Fails(t, "Ready", err, perdure.ErrUnavailable)
		if err == nil || !strings.Contains(err.Error(), "ends of 1 turns") || !strings.Contains(err.Error(), storetest.ErrFault.Error()) {
			t.Errorf("Ready: got %v, want the reason", err)
		}
		told := func() int { return strings.Count(s.Logs.String(), "does not take the end") }
		rig.Is(t, "log records at once", told(), 1)
		rig.After(50 * time.Second)
		rig.Is(t, "log records within a minute", told(), 1)
		rig.After(50 * time.Second)
		rig.Is(t, "log records within two", told(), 2)
		if s.Counter("ends_failed_total") < 50 {
			t.Errorf("got %d tries in 100 s, want one a second", s.Counter("ends_failed_total"))
		}
		broken.Set(nil)
		rig.Is(t, "output", rig.Ends(t, "T2", h, perdure.Completed).Output, 7)
		rig.Is(t, "Ready", s.Engine.Ready(), nil)
	})
}

// picky is a store that never holds a content.
type picky struct {
	store.Store
	not []byte
}

func (p *picky) refuse(contents ...[]byte) error {
	for _, c := range contents {
		if bytes.Contains(c, p.not) {
			return &store.ContentError{Err: errors.New("string or blob too big")}
		}
	}
	return nil
}

func (p *picky) Offer(ctx context.Context, req *store.OfferRequest) (*store.Offered, error) {
	if err := p.refuse(req.Input); err != nil {
		return nil, err
	}
	return p.Store.Offer(ctx, req)
}

func (p *picky) Settle(ctx context.Context, req *store.SettleRequest) (*store.Settled, error) {
	contents := append([][]byte{req.Output}, req.Events...)
	if req.Error != nil {
		contents = append(contents, []byte(req.Error.Message))
	}
	for _, c := range req.Metadata {
		contents = append(contents, c.Value)
	}
	if err := p.refuse(contents...); err != nil {
		return nil, err
	}
	return p.Store.Settle(ctx, req)
}

func (p *picky) Checkpoint(ctx context.Context, req *store.CheckpointRequest) (*store.Checkpointed, error) {
	contents := req.Events
	for _, c := range req.Metadata {
		contents = append(contents, c.Value)
	}
	if err := p.refuse(contents...); err != nil {
		return nil, err
	}
	return p.Store.Checkpoint(ctx, req)
}

func TestContentThatTheStoreNeverHoldsFailsItsTurnAndItAlone(t *testing.T) {
	const bad = "never"
	texts := perdure.NewFunc[string, string]("f", &perdure.FuncOptions[string]{MultiTurn: true, Retry: perdure.FixedRetry(3, time.Second)})
	for what, handler := range map[string]perdure.Handler[string, string]{
		"output": func(context.Context, *perdure.Turn[string, string]) (string, error) { return bad, nil },
		"error":  func(context.Context, *perdure.Turn[string, string]) (string, error) { return "", errors.New(bad) },
		"metadata": func(_ context.Context, turn *perdure.Turn[string, string]) (string, error) {
			return "", turn.Metadata().Set("k", bad)
		},
		"event": func(ctx context.Context, turn *perdure.Turn[string, string]) (string, error) {
			return "", turn.Emit(ctx, bad)
		},
	} {
		t.Run(what, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				entries := 0
				st := &picky{memstore.New(), []byte(bad)}
				s := rig.Serve(t, st, perdure.Options{}, texts.Bind(func(ctx context.Context, turn *perdure.Turn[string, string]) (string, error) {
					if turn.Input() == "next" {
						return "fine", nil
					}
					entries++
					return handler(ctx, turn)
				}))
				_, err := texts.Run(t.Context(), s.Client, "in", &perdure.StartOptions{TaskID: "t"})
				var failed *perdure.TaskError
				if !errors.As(err, &failed) || failed.Type != "unstorable" || !strings.Contains(failed.Message, "too big") {
					t.Errorf("got %v, want a failure that says so", err)
				}
				rig.Is(t, "entries", entries, 1)
				rig.Is(t, "Ready", s.Engine.Ready(), nil)
				next, err := texts.Run(t.Context(), s.Client, "next", &perdure.StartOptions{TaskID: "t"})
				rig.Is(t, "error of the next turn", err, nil)
				rig.Is(t, "output of the next turn", next.Output, "fine")
			})
		})
	}
}

func TestContentThatTheStoreNeverHoldsIsRefusedAtTheCall(t *testing.T) {
	const bad = "never"
	texts := perdure.NewFunc[string, string]("f", nil)
	bubble.Test(t, func(t *testing.T) {
		var content *store.ContentError
		s := rig.Serve(t, &picky{memstore.New(), []byte(bad)}, perdure.Options{}, texts.Bind(
			func(ctx context.Context, turn *perdure.Turn[string, string]) (string, error) {
				if err := turn.Metadata().Set("k", bad); err != nil {
					return "", err
				}
				if err := turn.Checkpoint(ctx); !errors.As(err, &content) {
					t.Errorf("checkpoint: got %v, want a *store.ContentError", err)
				}
				if err := turn.Metadata().Delete("k"); err != nil {
					return "", err
				}
				return "fine", turn.Checkpoint(ctx)
			}))
		_, err := texts.Start(t.Context(), s.Client, bad, nil)
		if content = nil; !errors.As(err, &content) {
			t.Errorf("start: got %v, want a *store.ContentError", err)
		}
		r, err := texts.Run(t.Context(), s.Client, "in", nil)
		if err != nil || r.Output != "fine" {
			t.Errorf("got %v, %v: want the turn to go on", r.Output, err)
		}
	})
}

// An event whose Emit returned and which the store refuses is told to the next Checkpoint, or the turn's end.
func TestAnEventThatTheStoreRefusesIsTold(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := perdure.NewFunc[int, int]("f", nil)
		st := &picky{memstore.New(), []byte("never")}
		var emitted, checkpointed rig.Box[error]
		s := rig.Serve(t, st, perdure.Options{}, f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
			emitted.Set(turn.Emit(ctx, "never"))
			rig.After(time.Second) // it is written in the background
			checkpointed.Set(turn.Checkpoint(ctx))
			return 1, nil
		}))
		h := rig.Start(t, s.Client, f, 7, "t")
		r, err := h.Result(t.Context())
		if emitted.Get() == nil && checkpointed.Get() == nil && err == nil {
			t.Errorf("E1: Emit, Checkpoint and Result (%v) know of no loss, and the event is not in the stream", r.Status)
		}
	})
}

// An end that cannot be written because the events before it are not taken is told as one that is not taken itself.
func TestAnEndBehindEventsThatAreNotTakenIsTold(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := perdure.NewFunc[int, int]("f", nil)
		st, broken := rig.Faulty(memstore.New())
		s := rig.Serve(t, st, perdure.Options{}, f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
			if err := turn.Emit(ctx, "x"); err != nil {
				return 0, err
			}
			rig.After(time.Second)
			return 1, nil
		}))
		broken.Set(func(c storetest.Call) storetest.Fault {
			if c.Op == "Checkpoint" {
				return storetest.FailBefore
			}
			return storetest.None
		})
		h := rig.Start(t, s.Client, f, 1, "t")
		rig.After(10 * time.Minute)
		if err := s.Engine.Ready(); err == nil {
			t.Errorf("1c: the end of a turn has not been written for 10 min, and the engine is ready; status %v; it says %q", rig.Task(t, s.Client, "t").Status, s.Logs.String())
		}
		broken.Set(nil)
		rig.Ends(t, "T2", h, perdure.Completed)
	})
}

// One turn whose end the store does not take holds up nothing of others.
func TestAnEndThatIsNotTakenDoesNotKeepOtherLeasesFromTheAudit(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := perdure.NewFunc[int, int]("f", nil)
		st, broken := rig.Faulty(memstore.New())
		s := rig.Serve(t, st, perdure.Options{}, f.Bind(rig.Echo))
		lost := true
		var mu sync.Mutex
		broken.Set(func(c storetest.Call) storetest.Fault {
			mu.Lock()
			defer mu.Unlock()
			switch req := c.Req.(type) {
			case *store.SettleRequest:
				if req.Lease.Incarnation == 1 && req.Kind == store.SettleEnd {
					return storetest.FailBefore // a trigger of somebody's, say
				}
			case *store.OfferRequest:
				if lost && req.TaskID == "b" {
					return storetest.FailAfter
				}
			}
			return storetest.None
		})
		rig.Start(t, s.Client, f, 1, "a")
		synctest.Wait()
		_, err := f.Start(t.Context(), s.Client, 2, &perdure.StartOptions{TaskID: "b", InputID: "i"})
		rig.Fails(t, "start whose answers are lost", err, perdure.ErrUnavailable)
		mu.Lock()
		lost = false
		mu.Unlock()
		h := rig.StartWith(t, s.Client, f, 2, &perdure.StartOptions{TaskID: "b", InputID: "i"})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := h.Result(ctx); err != nil {
			t.Errorf("O6: b, whose start was acknowledged, has not run for an hour: %v, status %v, lease %+v", err, rig.Task(t, s.Client, "b").Status, rig.Task(t, s.Client, "b").Lease)
		}
	})
}
