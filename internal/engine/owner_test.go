package engine_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/internal/rig"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/memstore"
	"github.com/perdure/perdure/store/sqlitestore"
	"github.com/perdure/perdure/store/storetest"
)

const lease = 10 * time.Second

// fenced takes the store away from an engine for longer than its lease while a turn runs. It returns when
// and why that turn's ctx ended, and the turn as it was entered again.
func fenced(t *testing.T, returns bool) (ended time.Duration, cause error, again *perdure.CurrentTurn) {
	t.Helper()
	f := perdure.NewFunc[int, int]("f", nil)
	bubble.Test(t, func(t *testing.T) {
		st, broken := rig.Faulty(memstore.New())
		began := time.Now()
		var at rig.Box[time.Duration]
		var why rig.Box[error]
		var released rig.Box[bool]
		s := rig.Serve(t, st, perdure.Options{Lease: lease}, f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
			if turn.Entry() == perdure.Recovered {
				return turn.Input(), nil
			}
			<-ctx.Done()
			at.Set(time.Since(began))
			why.Set(context.Cause(ctx))
			for !returns && !released.Get() {
				rig.After(time.Second)
			}
			return 0, ctx.Err()
		}))
		before := workers(t, s)[0].ID
		h := rig.Start(t, s.Client, f, 1, "t")
		synctest.Wait()
		broken.All(storetest.FailBefore)
		rig.After(3 * lease)
		rig.Fails(t, "R5: Ready while the store is away", s.Engine.Ready(), perdure.ErrUnavailable)
		broken.Set(nil)
		rig.After(2 * time.Second)
		rig.Is(t, "R5: Ready", s.Engine.Ready(), nil)
		rig.Is(t, "O4: fenced", s.Counter("fenced_total"), 1)
		if now := workers(t, s); len(now) != 1 || now[0].ID == before {
			t.Errorf("O4: workers afterwards: got %+v, want one with a new ID", now)
		}
		released.Set(true)
		rig.Is(t, "O4: output", rig.Ends(t, "O4", h, perdure.Completed).Output, 1)
		turn := rig.Task(t, s.Client, "t").Turn
		ended, cause, again = at.Get(), why.Get(), &turn
	})
	return ended, cause, again
}

func workers(t *testing.T, s *rig.Server) []perdure.WorkerInfo {
	t.Helper()
	ws, err := s.Engine.Workers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return ws
}

func TestAWorkerThatCannotRenewStopsItsTurnsBeforeItsLeaseLapses(t *testing.T) {
	ended, cause, again := fenced(t, true)
	rig.Fails(t, "O4: cause of ctx", cause, perdure.ErrLeaseLost)
	if ended >= lease {
		t.Errorf("O4: ctx ended after %v, want before %v", ended, lease)
	}
	rig.Is(t, "R4: recoveries of a turn whose handler returned", again.Recoveries, 0)
	rig.Is(t, "R1: entry", again.Entry, perdure.Recovered)
	_, _, again = fenced(t, false)
	rig.Is(t, "R4: recoveries of a turn whose handler stayed beyond the lapse", again.Recoveries, 0)
}

func TestAFencedHandlersWritesAreNotRepeated(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := perdure.NewFunc[int, int]("f", nil)
		st, broken := rig.Faulty(memstore.New())
		var saving rig.Box[error]
		s := rig.Serve(t, st, perdure.Options{Lease: lease}, f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
			if turn.Entry() == perdure.Recovered {
				var dirty bool
				_, err := turn.Metadata().Get("dirty", &dirty)
				return 0, errors.Join(err, map[bool]error{true: errors.New("kept what was not durable")}[dirty])
			}
			rig.After(time.Second)
			if err := turn.Metadata().Set("dirty", true); err != nil {
				return 0, err
			}
			saving.Set(turn.Checkpoint(context.Background()))
			return 0, ctx.Err()
		}))
		h := rig.Start(t, s.Client, f, 1, "t")
		synctest.Wait()
		broken.Set(func(c storetest.Call) storetest.Fault { return storetest.FailBefore })
		rig.After(lease)
		rig.Fails(t, "O4: a checkpoint with a context of its own", saving.Get(), perdure.ErrLeaseLost)
		broken.Set(nil)
		rig.Ends(t, "R6", h, perdure.Completed)
	})
}

// sqlite opens a store on a file for a test in a bubble.
func sqlite(t *testing.T) store.Store {
	t.Helper()
	st, err := sqlitestore.Open(t.Context(), filepath.Join(t.TempDir(), "t.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return st
}

func TestOnSQLiteNoLeaseLapsesWhileTheLockIsHeld(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := perdure.NewFunc[int, int]("f", nil)
		st, broken := rig.Faulty(sqlite(t))
		s := rig.Serve(t, st, perdure.Options{Lease: lease}, f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
			select {
			case <-time.After(7 * lease):
			case <-turn.Interrupt().Done():
			}
			return turn.Input(), ctx.Err()
		}))
		h := rig.Start(t, s.Client, f, 1, "t")
		synctest.Wait()
		broken.Set(func(c storetest.Call) storetest.Fault {
			if c.Op == "Heartbeat" {
				return storetest.FailBefore
			}
			return storetest.None
		})
		rig.After(6 * lease)
		broken.Set(nil)
		rig.Ends(t, "O3", h, perdure.Completed)
		rig.Is(t, "O3: recoveries", rig.Task(t, s.Client, "t").Turn.Recoveries, 0)
		rig.Is(t, "O4: fenced", s.Counter("fenced_total"), 0)
	})
}

func TestOnSQLiteASecondEngineIsRefusedAndARestartTakesOverAtOnce(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := perdure.NewFunc[int, int]("f", nil)
		file := sqlite(t)
		first := storetest.NewFaulty(file, nil)
		bind := f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
			if turn.Entry() == perdure.Recovered {
				return turn.Input(), nil
			}
			<-ctx.Done()
			return 0, ctx.Err()
		})
		a := rig.Serve(t, first.Store(), perdure.Options{Lease: lease}, bind)
		rig.Start(t, a.Client, f, 7, "t")
		synctest.Wait()
		other, err := perdure.New(file, nil)
		if err != nil {
			t.Fatal(err)
		}
		rig.Fails(t, "O5: a second Run", other.Run(t.Context()), perdure.ErrStoreInUse)
		if err := a.Engine.Run(t.Context()); err == nil {
			t.Error("a second Run of one engine: got nil, want an error")
		}
		first.Kill()
		began := time.Now()
		b := rig.Serve(t, file, perdure.Options{Lease: lease}, bind)
		h := rig.Attach(t, b.Client, f, "t")
		rig.Is(t, "R1: output", rig.Ends(t, "R1", h, perdure.Completed).Output, 7)
		if took := time.Since(began); took > time.Second {
			t.Errorf("O5: taken over after %v, want at once", took)
		}
		rig.Is(t, "R4: recoveries", rig.Task(t, b.Client, "t").Turn.Recoveries, 1)
	})
}

func TestRecoveryGivesBackWhatTheDeadAttemptHadAndOnlyThat(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		type order struct {
			At  time.Time
			Big int64
			Raw []byte
		}
		want := order{time.Unix(1, 2).UTC(), 1<<60 + 1, []byte{0, 255}}
		f := perdure.NewFunc[order, order]("f", &perdure.FuncOptions[order]{Retry: perdure.FixedRetry(3, time.Second), Timeout: time.Hour})
		var startedAt rig.Box[time.Time]
		bind := f.Bind(func(ctx context.Context, turn *perdure.Turn[order, order]) (order, error) {
			if turn.Attempt() == 1 {
				return order{}, errors.New("first attempt")
			}
			m := turn.Metadata()
			if turn.Entry() != perdure.Recovered {
				startedAt.Set(turn.StartedAt())
				m.Set("kept", 1)
				if err := turn.Checkpoint(ctx); err != nil {
					return order{}, err
				}
				m.Set("lost", 2)
				<-ctx.Done()
				return order{}, ctx.Err()
			}
			rig.Is(t, "R1: attempt", turn.Attempt(), 2)
			rig.Is(t, "R1: started at", turn.StartedAt(), startedAt.Get())
			rig.Is(t, "R4: recoveries", turn.Recoveries(), 1)
			kept, lost := 0, 0
			m.Get("kept", &kept)
			m.Get("lost", &lost)
			rig.Is(t, "R6: what was checkpointed", kept, 1)
			rig.Is(t, "R6: what was not", lost, 0)
			return turn.Input(), nil
		})
		mem := memstore.New()
		dying := storetest.NewFaulty(mem, nil)
		a := rig.Serve(t, dying, perdure.Options{Lease: lease}, bind)
		if _, err := f.Start(t.Context(), a.Client, want, &perdure.StartOptions{TaskID: "t"}); err != nil {
			t.Fatal(err)
		}
		rig.After(2 * time.Second)
		b := rig.Serve(t, mem, perdure.Options{Lease: lease}, bind)
		dying.Kill()
		began := time.Now()
		h := rig.Attach(t, b.Client, f, "t")
		r, err := h.Result(t.Context())
		if err != nil || !r.Output.At.Equal(want.At) || r.Output.Big != want.Big || string(r.Output.Raw) != string(want.Raw) {
			t.Errorf("R1: got %+v (%v), want %+v", r.Output, err, want)
		}
		if took := time.Since(began); took > lease+time.Second {
			t.Errorf("R2: recovered after %v, want lease + 1 s", took)
		}
	})
}
