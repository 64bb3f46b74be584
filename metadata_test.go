package perdure_test

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/memstore"
)

func TestMetadataIsKeptAcrossTurnsAndDeletionPersists(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", &options{MultiTurn: true})
	in(t, perdure.Options{}, func(t *testing.T, s *server) {
		ends(t, "M1", start(t, s.c, f, 1, "t"), perdure.Completed)
		is(t, "M1: list", string(task(t, s.c, "t").Metadata["list"]), `[1,"two"]`)
		is(t, "M1: sum", string(task(t, s.c, "t").Metadata["sum"]), "5")
		ends(t, "M1", start(t, s.c, f, 2, "t"), perdure.Completed)
		_, there := task(t, s.c, "t").Metadata["list"]
		is(t, "M2: a deleted key is there", there, false)
	}, f.Bind(func(_ context.Context, turn *turnOf) (int, error) {
		m := turn.Metadata()
		if turn.Number() == 2 {
			sum := 0
			there, err := m.Get("sum", &sum)
			is(t, "M1: sum in the next turn", sum, 5)
			is(t, "M1: sum is there", there, true)
			is(t, "M1: delete", m.Delete("list"), nil)
			return 0, err
		}
		sum, err := m.Increment("sum", 2)
		is(t, "M1: Increment of an absent key", sum, 2)
		is(t, "M1: Increment", err, nil)
		sum, _ = m.Increment("sum", 3)
		is(t, "M1: Increment again", sum, 5)
		is(t, "M1: Append", m.Append("list", 1), nil)
		return 0, m.Append("list", "two")
	}))
}

func TestMetadataErrorsChangeNothing(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", nil)
	in(t, perdure.Options{Limits: perdure.Limits{Metadata: 40}}, func(t *testing.T, s *server) {
		ends(t, "M1", start(t, s.c, f, 1, "t"), perdure.Completed)
		is(t, "M1: what is stored", string(task(t, s.c, "t").Metadata["text"]), `"abc"`)
		is(t, "M1: keys", len(task(t, s.c, "t").Metadata), 1)
	}, f.Bind(func(_ context.Context, turn *turnOf) (int, error) {
		m := turn.Metadata()
		if err := m.Set("text", "abc"); err != nil {
			return 0, err
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
		fails(t, "S6: too large", m.Set("big", strings.Repeat("x", 40)), perdure.ErrTooLarge)
		fails(t, "S6: too large by Append", m.Append("big", strings.Repeat("x", 40)), perdure.ErrTooLarge)
		for _, key := range []string{"", strings.Repeat("k", 257), "perdure.x", "a\x00b", "\xff"} {
			fails(t, "S9: key", m.Set(key, 1), perdure.ErrInvalid)
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
		s := serve(t, st, perdure.Options{}, f.Bind(func(ctx context.Context, turn *turnOf) (int, error) {
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
		ends(t, "M2", start(t, s.c, f, 1, "t"), perdure.Completed)
		is(t, "M2: what is stored", string(task(t, s.c, "t").Metadata["k"]), `"during"`)
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
				f := perdure.NewFunc[int, int]("f", &options{AutoCheckpoint: c.every})
				s := serve(t, st, perdure.Options{}, f.Bind(func(ctx context.Context, turn *turnOf) (int, error) {
					m := turn.Metadata()
					_ = m.Set("k", 1)
					after(time.Second)
					if err := turn.Checkpoint(ctx); err != nil { // the first write; nothing is left for the timer
						return 0, err
					}
					after(time.Minute)
					_ = m.Set("k", 2)
					_ = m.Set("l", 2)
					after(6 * time.Second) // the second, five seconds after the change
					_ = m.Set("k", 3)
					after(time.Minute) // the third
					return 0, nil
				}))
				ends(t, "M1", start(t, s.c, f, 1, "t"), perdure.Completed)
				is(t, "M1: checkpoints", st.n, c.want)
				is(t, "M1: what is stored", string(task(t, s.c, "t").Metadata["k"]), "3")
			})
		})
	}
}
