package perduretest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/store"
)

var echo = perdure.NewFunc[int, int]("echo", nil)

func echoing() perdure.Binding {
	return echo.Bind(func(_ context.Context, turn *perdure.Turn[int, int]) (int, error) { return turn.Input(), nil })
}

func TestAStartThatACrashCutsOffIsMadeAgainAsTheSameStart(t *testing.T) {
	Run(t, nil, func(t *testing.T, h *Harness) {
		h.CrashAt(After, Start, 1)
		req := &perdure.StartRequest{Func: "echo", Input: []byte("1")}
		if _, err := h.Client().Start(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		var tasks []string
		for info, err := range h.Client().Tasks(t.Context(), nil) {
			if err != nil {
				t.Fatal(err)
			}
			tasks = append(tasks, info.ID)
		}
		if len(tasks) != 1 {
			t.Errorf("O6: one start has made the tasks %v", tasks)
		}
		if req.TaskID != "" || req.InputID != "" {
			t.Errorf("the caller's request was changed: %+v", req)
		}
	}, echoing())
}

// deadly is a store whose process dies after the first signal or delete.
type deadly struct {
	store.Store
	h   *Harness
	ids *[]string
}

func (s deadly) Signal(ctx context.Context, req *store.SignalRequest) (*store.Signalled, error) {
	d, err := s.Store.Signal(ctx, req)
	if s.first(req.RequestID) {
		return nil, store.ErrClosed
	}
	return d, err
}

func (s deadly) Delete(ctx context.Context, req *store.DeleteRequest) (*store.Removed, error) {
	d, err := s.Store.Delete(ctx, req)
	if s.first(req.RequestID) {
		return nil, store.ErrClosed
	}
	return d, err
}

// first notes a request's ID, and crashes at the first one.
func (s deadly) first(id string) bool {
	*s.ids = append(*s.ids, id)
	if len(*s.ids) > 1 {
		return false
	}
	s.h.Crash()
	return true
}

func TestASignalThatACrashCutsOffIsMadeAgainAsTheSameSignal(t *testing.T) {
	for name, call := range map[string]func(context.Context, perdure.Client) error{
		"cancel":    func(ctx context.Context, c perdure.Client) error { _, err := c.Cancel(ctx, "t", nil); return err },
		"terminate": func(ctx context.Context, c perdure.Client) error { _, err := c.Terminate(ctx, "t", nil); return err },
		"resume": func(ctx context.Context, c perdure.Client) error {
			if _, err := c.Resume(ctx, "t", nil); !errors.As(err, new(*perdure.ConflictError)) {
				return fmt.Errorf("resume of a completed task: %w", err)
			}
			return nil
		},
		"delete": func(ctx context.Context, c perdure.Client) error { return c.Delete(ctx, "t", nil) },
	} {
		t.Run(name, func(t *testing.T) {
			Run(t, nil, func(t *testing.T, h *Harness) {
				if _, err := echo.Run(t.Context(), h.Client(), 1, &perdure.StartOptions{TaskID: "t"}); err != nil {
					t.Fatal(err)
				}
				var ids []string
				h.store = deadly{h.store, h, &ids}
				h.Crash()
				if err := call(t.Context(), h.Client()); err != nil {
					t.Fatal(err)
				}
				if len(ids) != 2 || ids[0] == "" || ids[0] != ids[1] {
					t.Errorf("O6: the tries had the request IDs %q", ids)
				}
			}, echoing())
		})
	}
}

func TestACallToAProcessThatWasStoppedForGoodEnds(t *testing.T) {
	Run(t, nil, func(t *testing.T, h *Harness) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		h.Stop()
		if _, err := echo.Start(ctx, h.Client(), 1, nil); !errors.Is(err, perdure.ErrShuttingDown) {
			t.Errorf("got %v, want ErrShuttingDown", err)
		}
		h.Restart()
		if _, err := echo.Run(ctx, h.Client(), 1, nil); err != nil {
			t.Errorf("after a restart: %v", err)
		}
	}, echoing())
}
