package engine_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/rig"
)

// What a handler was not shown has not made its error, unless its deadline is over.
func TestAnErrorIsOfItsOwnWhileNoCauseWasShown(t *testing.T) {
	for name, c := range map[string]struct {
		opts  rig.Options
		want  perdure.Status
		steer bool
	}{
		"a steer in its grace":         {rig.Options{Steerable: true, SteerGrace: time.Minute}, perdure.Failed, true},
		"a steer that nobody asks for": {rig.Options{Steerable: true}, perdure.Failed, true},
		"a deadline":                   {rig.Options{Timeout: time.Second, TimeoutGrace: time.Minute}, perdure.Terminated, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := perdure.NewFunc[int, int]("f", &c.opts)
			rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
				h := rig.Start(t, s.Client, f, 1, "t")
				if c.steer {
					rig.Start(t, s.Client, f, 2, "t")
				}
				rig.Ends(t, "T3", h, c.want)
			}, f.Bind(func(_ context.Context, turn *rig.Turn) (int, error) {
				if c.opts.SteerGrace > 0 {
					_ = turn.Interrupt()
				}
				rig.After(2 * time.Second)
				return 0, errors.New("its own")
			}))
		})
	}
}
