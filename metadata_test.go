package perdure_test

import (
	"context"
	"errors"
	"math"
	"strings"
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

func TestMetadataIsKeptAcrossTurnsAndDeletionPersists(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", &rig.Options{MultiTurn: true})
	rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
		rig.Ends(t, "M1", rig.Start(t, s.Client, f, 1, "t"), perdure.Completed)
		rig.Is(t, "M1: list", string(rig.Task(t, s.Client, "t").Metadata["list"]), `[1,"two"]`)
		rig.Is(t, "M1: sum", string(rig.Task(t, s.Client, "t").Metadata["sum"]), "5")
		rig.Ends(t, "M1", rig.Start(t, s.Client, f, 2, "t"), perdure.Completed)
		_, there := rig.Task(t, s.Client, "t").Metadata["list"]
		rig.Is(t, "M2: a deleted key is there", there, false)
	}, f.Bind(func(_ context.Context, turn *rig.Turn) (int, error) {
		m := turn.Metadata()
		if turn.Number() == 2 {
			sum := 0
			there, err := m.Get("sum", &sum)
			rig.Is(t, "M1: sum in the next turn", sum, 5)
			rig.Is(t, "M1: sum is there", there, true)
			rig.Is(t, "M1: delete", m.Delete("list"), nil)
			return 0, err
		}
		sum, err := m.Increment("sum", 2)
		rig.Is(t, "M1: Increment of an absent key", sum, 2)
		rig.Is(t, "M1: Increment", err, nil)
		sum, _ = m.Increment("sum", 3)
		rig.Is(t, "M1: Increment again", sum, 5)
		rig.Is(t, "M1: Append", m.Append("list", 1), nil)
		return 0, m.Append("list", "two")
	}))
}

func TestMetadataErrorsChangeNothing(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", nil)
	rig.In(t, perdure.Options{Limits: perdure.Limits{Metadata: 40}}, func(t *testing.T, s *rig.Server) {
		rig.Ends(t, "M1", rig.Start(t, s.Client, f, 1, "t"), perdure.Completed)
		rig.Is(t, "M1: what is stored", string(rig.Task(t, s.Client, "t").Metadata["text"]), `"abc"`)
		rig.Is(t, "M1: keys", len(rig.Task(t, s.Client, "t").Metadata), 1)
	}, f.Bind(func(_ context.Context, turn *rig.Turn) (int, error) {
		m := turn.Metadata()
		if err := m.Set("text", "abc"); err != nil {
			return 0, err
		}
		if sum, err := m.Increment("sum", math.MaxInt64); err != nil || sum != math.MaxInt64 {
			t.Errorf("M1: Increment: got %d, %v", sum, err)
		}
		if _, err := m.Increment("sum", 1); !errors.Is(err, perdure.ErrInvalid) {
			t.Errorf("M1: Increment beyond an integer: got %v, want it refused", err)
		}
		if err := m.Delete("sum"); err != nil {
			t.Error(err)
		}
		if _, err := m.Increment("text", 1); err == nil || !strings.Contains(err.Error(), "text") {
			t.Errorf("M1: Increment of a text: got %v, want an error that names the key", err)
		}
		if err := m.Append("text", 1); err == nil || !strings.Contains(err.Error(), "text") {
			t.Errorf("M1: Append to a text: got %v, want an error that names the key", err)
		}
		if err := m.Set("nan", math.NaN()); err == nil || !strings.Contains(err.Error(), "nan") {
			t.Errorf("S6: Set NaN: got %v, want an error that names the key", err)
		}
		rig.Fails(t, "S6: too large", m.Set("big", strings.Repeat("x", 40)), perdure.ErrTooLarge)
		rig.Fails(t, "S6: too large by Append", m.Append("big", strings.Repeat("x", 40)), perdure.ErrTooLarge)
		for _, key := range []string{"", strings.Repeat("k", 257), "perdure.x", "a\x00b", "\xff"} {
			rig.Fails(t, "S9: key", m.Set(key, 1), perdure.ErrInvalid)
		}
		return 0, nil
	}))
}

// counting counts the checkpoints of a store.
type counting struct {
	store.Store
	during func(n int)
	n      int
}

func (c *counting) Checkpoint(ctx context.Context, req *store.CheckpointRequest) (*store.Checkpointed, error) {
	c.n++
	if c.during != nil {
		c.during(c.n)
	}
	return c.Store.Checkpoint(ctx, req)
}

func TestAChangeDuringAWriteIsNotLost(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		st := &counting{Store: memstore.New()}
		f := perdure.NewFunc[int, int]("f", nil)
		s := rig.Serve(t, st, perdure.Options{}, f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
			m := turn.Metadata()
			st.during = func(n int) {
				if n == 1 {
					_ = m.Set("k", "during")
				}
			}
			if err := m.Set("k", "before"); err != nil {
				return 0, err
			}
			if err := turn.Checkpoint(ctx); err != nil {
				return 0, err
			}
			return 0, turn.Checkpoint(ctx)
		}))
		rig.Ends(t, "M2", rig.Start(t, s.Client, f, 1, "t"), perdure.Completed)
		rig.Is(t, "M2: what is stored", string(rig.Task(t, s.Client, "t").Metadata["k"]), `"during"`)
	})
}

func TestOnlyAutoCheckpointWritesByATimerAndOnlyWhatIsNew(t *testing.T) {
	for name, c := range map[string]struct {
		every time.Duration
		want  int
	}{"without": {0, 1}, "with": {5 * time.Second, 3}} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				st := &counting{Store: memstore.New()}
				f := perdure.NewFunc[int, int]("f", &rig.Options{AutoCheckpoint: c.every})
				s := rig.Serve(t, st, perdure.Options{}, f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
					m := turn.Metadata()
					_ = m.Set("k", 1)
					rig.After(time.Second)
					if err := turn.Checkpoint(ctx); err != nil { // the first write; nothing is left for the timer
						return 0, err
					}
					rig.After(time.Minute)
					_ = m.Set("k", 2)
					_ = m.Set("l", 2)
					rig.After(6 * time.Second) // the second, five seconds after the change
					_ = m.Set("k", 3)
					rig.After(time.Minute) // the third
					return 0, nil
				}))
				rig.Ends(t, "M1", rig.Start(t, s.Client, f, 1, "t"), perdure.Completed)
				rig.Is(t, "M1: checkpoints", st.n, c.want)
				rig.Is(t, "M1: what is stored", string(rig.Task(t, s.Client, "t").Metadata["k"]), "3")
			})
		})
	}
}

// slow is a codec that waits before it encodes a value.
type slow struct {
	value string
	gate  chan struct{}
}

func (s *slow) Encode(label string, plain []byte) ([]byte, error) {
	if strings.HasPrefix(label, "metadata") && string(plain) == s.value {
		<-s.gate
	}
	return plain, nil
}

func (s *slow) Decode(_ string, stored []byte) ([]byte, error) { return stored, nil }

func (s *slow) Digests(canonical []byte) []perdure.Digest {
	return []perdure.Digest{{Sum: string(canonical)}}
}

func TestAnOlderCheckpointDoesNotUndoANewerOne(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := perdure.NewFunc[int, int]("f", nil)
		codec := &slow{value: "1", gate: make(chan struct{})}
		st := memstore.New()
		s := rig.Serve(t, st, perdure.Options{Codec: codec}, f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
			older := make(chan error, 1)
			if err := turn.Metadata().Set("k", 1); err != nil {
				return 0, err
			}
			go func() { older <- turn.Checkpoint(ctx) }()
			synctest.Wait()
			if err := turn.Metadata().Set("k", 2); err != nil {
				return 0, err
			}
			if err := turn.Checkpoint(ctx); err != nil {
				return 0, err
			}
			close(codec.gate)
			if err := <-older; err != nil {
				return 0, err
			}
			task, err := st.Get(ctx, "t")
			if err != nil {
				return 0, err
			}
			rig.Is(t, "M2: what is stored", string(task.Metadata["k"]), "2")
			return 0, nil
		}))
		rig.Ends(t, "M2", rig.Start(t, s.Client, f, 1, "t"), perdure.Completed)
	})
}

func TestAnOlderCheckpointIsWrittenWhenANewerOneWasNeverSent(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := perdure.NewFunc[int, int]("f", nil)
		codec := &slow{value: "1", gate: make(chan struct{})}
		mem := memstore.New()
		st, broken := rig.Faulty(mem)
		briefly := func(ctx context.Context, turn *rig.Turn) error {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			return turn.Checkpoint(ctx)
		}
		s := rig.Serve(t, st, perdure.Options{Codec: codec}, f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
			broken.Set(func(c storetest.Call) storetest.Fault {
				if c.Op == "Checkpoint" {
					return storetest.FailBefore
				}
				return storetest.None
			})
			rig.Fails(t, "M1: the first checkpoint", briefly(ctx, turn), context.DeadlineExceeded)
			older := make(chan error, 1)
			if err := turn.Metadata().Set("k", 1); err != nil {
				return 0, err
			}
			go func() { older <- turn.Checkpoint(ctx) }()
			synctest.Wait()
			if err := turn.Metadata().Set("k", 2); err != nil {
				return 0, err
			}
			rig.Fails(t, "M1: the newer checkpoint", briefly(ctx, turn), context.DeadlineExceeded)
			broken.Set(nil)
			close(codec.gate)
			if err := <-older; err != nil {
				return 0, err
			}
			task, err := mem.Get(ctx, "t")
			if err != nil || len(task.Metadata["k"]) == 0 {
				t.Errorf("M1: a checkpoint has returned, and its change is not stored: %q, %v", task.Metadata, err)
			}
			return 0, nil
		}))
		rig.Ends(t, "M1", rig.Start(t, s.Client, f, 1, "t"), perdure.Completed)
	})
}
