package engine_test

import (
	"context"
	"errors"
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

func TestAShutdownInterruptsDrainsAndReleases(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		mem := memstore.New()
		f := perdure.NewFunc[int, int]("f", &rig.Options{Retry: perdure.FixedRetry(3, time.Second)})
		bind := f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
			if turn.Entry() == perdure.Recovered {
				return turn.Input(), nil
			}
			<-turn.Interrupt().Done()
			rig.Is(t, "C2: causes", turn.Causes(), perdure.Causes{Shutdown: true})
			switch turn.TaskID() {
			case "value":
				return 1, nil
			case "release":
				return turn.Release()
			case "late":
				<-ctx.Done()
				rig.Fails(t, "H1: cause of ctx", context.Cause(ctx), perdure.ErrLeaseLost)
				return 7, nil
			}
			return 0, context.Cause(turn.Interrupt())
		})
		s := rig.Serve(t, mem, perdure.Options{Drain: 20 * time.Second}, bind)
		for _, id := range []string{"value", "release", "late", "interrupt"} {
			rig.Start(t, s.Client, f, 5, id)
		}
		synctest.Wait()
		began := time.Now()
		ended := make(chan error, 1)
		go func() { ended <- s.Stop() }()
		synctest.Wait()
		_, err := f.Start(t.Context(), s.Client, 1, nil)
		rig.Fails(t, "H1: a start", err, perdure.ErrShuttingDown)
		rig.Fails(t, "R5: Ready", s.Engine.Ready(), perdure.ErrShuttingDown)
		rig.Is(t, "H3: Run", <-ended, nil)
		rig.Is(t, "H1: it took", time.Since(began), 20*time.Second)
		rig.Is(t, "H3: workers", len(workers(t, s)), 0)
		rig.Is(t, "H1: status", rig.Task(t, s.Client, "value").Status, perdure.Completed)
		for _, id := range []string{"release", "late", "interrupt"} {
			info := rig.Task(t, s.Client, id)
			rig.Is(t, "H1: status of "+id, info.Status, perdure.InProgress)
			rig.Is(t, "H1: lease of "+id, info.Lease, nil)
			rig.Is(t, "R4: recoveries of "+id, info.Turn.Recoveries, 0)
		}
		next := rig.Serve(t, mem, perdure.Options{}, bind)
		for _, id := range []string{"release", "late", "interrupt"} {
			h := rig.Attach(t, next.Client, f, id)
			rig.Is(t, "H1: output of "+id+" elsewhere", rig.Ends(t, "H1", h, perdure.Completed).Output, 5)
		}
	})
}

func TestAHandlerThatIgnoresAShutdownIsLeftAndReported(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		mem := memstore.New()
		f := perdure.NewFunc[int, int]("f", nil)
		var opened, entered rig.Box[bool]
		var saving rig.Box[error]
		bind := f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
			if turn.Entry() == perdure.Recovered {
				return 2, nil
			}
			entered.Set(true)
			for !opened.Get() {
				rig.After(time.Second)
			}
			saving.Set(turn.Checkpoint(context.Background()))
			return 1, nil
		})
		s := rig.Serve(t, mem, perdure.Options{Drain: 5 * time.Second, Lease: lease}, bind)
		h := rig.Start(t, s.Client, f, 1, "t")
		synctest.Wait()
		told := make(chan error, 1)
		go func() {
			_, err := h.Result(t.Context())
			told <- err
		}()
		began := time.Now()
		var left *perdure.LeftError
		if err := s.Stop(); !errors.As(err, &left) || len(left.Tasks) != 1 || left.Tasks[0] != "t" {
			t.Errorf("H3: Run: got %v, want a LeftError with t", err)
		}
		if took := time.Since(began); took > 8*time.Second {
			t.Errorf("H1: the shutdown took %v", took)
		}
		rig.Is(t, "H1: status", rig.Task(t, s.Client, "t").Status, perdure.InProgress)
		rig.Fails(t, "a waiter at the engine that left its handler", <-told, perdure.ErrShuttingDown)
		next := rig.Serve(t, mem, perdure.Options{Lease: lease}, bind)
		rig.Is(t, "the same elsewhere: output", rig.Ends(t, "R2", rig.Attach(t, next.Client, f, "t"), perdure.Completed).Output, 2)
		opened.Set(true)
		rig.After(2 * time.Second)
		rig.Fails(t, "H3: a checkpoint after Run", saving.Get(), perdure.ErrLeaseLost)
		rig.Is(t, "R4: recoveries", rig.Task(t, s.Client, "t").Turn.Recoveries, 1)
	})
}

func TestAStoreThatHangsDoesNotHoldUpAShutdown(t *testing.T) {
	for name, fault := range map[string]storetest.Fault{"hangs": storetest.Hang, "fails": storetest.FailBefore} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				mem := memstore.New()
				for name, open := range map[string]func() store.Store{
					"memory": func() store.Store { return mem }, "SQLite": func() store.Store { return sqlite(t) },
				} {
					st, broken := rig.Faulty(open())
					f := perdure.NewFunc[int, int]("f", nil)
					s := rig.Serve(t, st, perdure.Options{Drain: 5 * time.Second}, f.Bind(rig.Stay))
					rig.Start(t, s.Client, f, 1, "t")
					synctest.Wait()
					broken.All(fault)
					rig.After(time.Second)
					began := time.Now()
					rig.Is(t, "H3: Run on "+name, s.Stop(), nil)
					if took := time.Since(began); took > 10*time.Second {
						t.Errorf("H3: the shutdown on %s took %v, want the drain time and a little", name, took)
					}
					broken.Set(nil)
				}
			})
		})
	}
}

func TestAStoreThatIsClosedEndsItsEngine(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		st := memstore.New()
		f := perdure.NewFunc[int, int]("f", nil)
		s := rig.Serve(t, st, perdure.Options{}, f.Bind(rig.Stay))
		h := rig.Start(t, s.Client, f, 1, "t")
		synctest.Wait()
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
		rig.Fails(t, "Run", s.Ended(), perdure.ErrClosed)
		_, err := h.Result(t.Context())
		rig.Fails(t, "Result", err, perdure.ErrClosed)
	})
}

func TestATurnIsNotPromotedIntoAShutdown(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		mem := memstore.New()
		f := perdure.NewFunc[int, int]("f", &rig.Options{Steerable: true})
		s := rig.Serve(t, mem, perdure.Options{}, f.Bind(func(_ context.Context, turn *rig.Turn) (int, error) {
			<-turn.Interrupt().Done()
			return turn.Input(), nil
		}))
		first := rig.Start(t, s.Client, f, 1, "t")
		second := rig.StartWith(t, s.Client, f, 2, &perdure.StartOptions{TaskID: "t", Deliver: perdure.Enqueue})
		synctest.Wait()
		rig.Is(t, "H1: Run", s.Stop(), nil)
		rig.Ends(t, "H1", first, perdure.Completed)
		info := rig.Task(t, s.Client, "t")
		rig.Is(t, "G4: status", info.Status, perdure.Pending)
		rig.Is(t, "G4: current turn", info.Turn.Number, second.Turn())
		rig.Is(t, "H1: entry", info.Turn.Entry, "")
	})
}

// A claim that the store does not take does not hold up the end of an engine that runs nothing.
func TestAClaimThatFailsDoesNotHoldUpAShutdown(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := perdure.NewFunc[int, int]("f", nil)
		st, broken := rig.Faulty(memstore.New())
		s := rig.Serve(t, st, perdure.Options{}, f.Bind(rig.Echo))
		broken.Set(func(c storetest.Call) storetest.Fault {
			if c.Op == "Claim" {
				return storetest.FailBefore
			}
			return storetest.None
		})
		rig.After(5 * time.Second)
		began := time.Now()
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
		if d := time.Since(began); d > 2*time.Second {
			t.Errorf("H1: with nothing to drain the shutdown took %v", d)
		}
	})
}

func TestAReaderIsToldThatItsEngineHasStopped(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := perdure.NewFunc[int, int]("f", nil)
		s := rig.Serve(t, memstore.New(), perdure.Options{}, f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
			if err := turn.Emit(ctx, "one"); err != nil {
				return 0, err
			}
			return rig.Stay(ctx, turn)
		}))
		rig.Start(t, s.Client, f, 1, "t")
		read := func() (events int, err error) {
			for _, err := range s.Client.Events(t.Context(), "t", nil) {
				if err != nil {
					return events, err
				}
				events++
			}
			return events, nil
		}
		type got struct {
			events int
			err    error
		}
		reading := make(chan got, 1)
		go func() {
			n, err := read()
			reading <- got{n, err}
		}()
		synctest.Wait()
		rig.Is(t, "Run", s.Stop(), nil)
		n, err := read()
		for when, g := range map[string]got{"while it reads": <-reading, "afterwards": {n, err}} {
			if g.events != 1 || !errors.Is(g.err, perdure.ErrShuttingDown) {
				t.Errorf("H1: %s: got %d events, %v, want the one there is, and ErrShuttingDown", when, g.events, g.err)
			}
		}
	})
}

func TestWhatAHandlerReturnsAtAReleaseIsLogged(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := perdure.NewFunc[int, int]("f", nil)
		s := rig.Serve(t, memstore.New(), perdure.Options{}, f.Bind(func(_ context.Context, turn *rig.Turn) (int, error) {
			<-turn.Interrupt().Done()
			return 0, errors.New("the model hung up")
		}))
		rig.Start(t, s.Client, f, 1, "t")
		synctest.Wait()
		rig.Is(t, "Run", s.Stop(), nil)
		rig.Is(t, "records", strings.Count(s.Logs.String(), "the model hung up"), 1)
	})
}
