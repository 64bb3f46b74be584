package perdure_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/memstore"
	"github.com/perdure/perdure/store/storetest"
)

func TestAShutdownInterruptsDrainsAndReleases(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		mem := memstore.New()
		f := perdure.NewFunc[int, int]("f", &options{Retry: perdure.FixedRetry(3, time.Second)})
		bind := f.Bind(func(ctx context.Context, turn *turnOf) (int, error) {
			if turn.Entry() == perdure.Recovered {
				return turn.Input(), nil
			}
			<-turn.Interrupt().Done()
			is(t, "C2: causes", turn.Causes(), perdure.Causes{Shutdown: true})
			switch turn.TaskID() {
			case "value":
				return 1, nil
			case "release":
				return turn.Release()
			case "late":
				<-ctx.Done()
				fails(t, "H1: cause of ctx", context.Cause(ctx), perdure.ErrLeaseLost)
				return 7, nil
			}
			return 0, context.Cause(turn.Interrupt())
		})
		s := serve(t, mem, perdure.Options{Drain: 20 * time.Second}, bind)
		for _, id := range []string{"value", "release", "late", "interrupt"} {
			start(t, s.c, f, 5, id)
		}
		synctest.Wait()
		began := time.Now()
		ended := make(chan error, 1)
		go func() { ended <- s.stop() }()
		synctest.Wait()
		_, err := f.Start(t.Context(), s.c, 1, nil)
		fails(t, "H1: a start", err, perdure.ErrShuttingDown)
		fails(t, "R5: Ready", s.eng.Ready(), perdure.ErrShuttingDown)
		is(t, "H3: Run", <-ended, nil)
		is(t, "H1: it took", time.Since(began), 20*time.Second)
		is(t, "H3: workers", len(workers(t, s)), 0)
		is(t, "H1: status", task(t, s.c, "value").Status, perdure.Completed)
		for _, id := range []string{"release", "late", "interrupt"} {
			info := task(t, s.c, id)
			is(t, "H1: status of "+id, info.Status, perdure.InProgress)
			is(t, "H1: lease of "+id, info.Lease, nil)
			is(t, "R4: recoveries of "+id, info.Turn.Recoveries, 0)
		}
		next := serve(t, mem, perdure.Options{}, bind)
		for _, id := range []string{"release", "late", "interrupt"} {
			h := attach(t, next.c, f, id)
			is(t, "H1: output of "+id+" elsewhere", ends(t, "H1", h, perdure.Completed).Output, 5)
		}
	})
}

func TestAHandlerThatIgnoresAShutdownIsLeftAndReported(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		mem := memstore.New()
		f := perdure.NewFunc[int, int]("f", nil)
		var opened, entered box[bool]
		var saving box[error]
		bind := f.Bind(func(ctx context.Context, turn *turnOf) (int, error) {
			if turn.Entry() == perdure.Recovered {
				return 2, nil
			}
			entered.set(true)
			for !opened.get() {
				after(time.Second)
			}
			saving.set(turn.Checkpoint(context.Background()))
			return 1, nil
		})
		s := serve(t, mem, perdure.Options{Drain: 5 * time.Second, Lease: lease}, bind)
		h := start(t, s.c, f, 1, "t")
		synctest.Wait()
		told := make(chan error, 1)
		go func() {
			r, err := h.Result(t.Context())
			is(t, "a waiter at the engine that left its handler: output", r.Output, 2)
			told <- err
		}()
		began := time.Now()
		var left *perdure.LeftError
		if err := s.stop(); !errors.As(err, &left) || len(left.Tasks) != 1 || left.Tasks[0] != "t" {
			t.Errorf("H3: Run: got %v, want a LeftError with t", err)
		}
		if took := time.Since(began); took > 8*time.Second {
			t.Errorf("H1: the shutdown took %v", took)
		}
		is(t, "H1: status", task(t, s.c, "t").Status, perdure.InProgress)
		serve(t, mem, perdure.Options{Lease: lease}, bind)
		is(t, "a waiter at the engine that left its handler", <-told, nil)
		opened.set(true)
		after(2 * time.Second)
		fails(t, "H3: a checkpoint after Run", saving.get(), perdure.ErrLeaseLost)
		is(t, "R4: recoveries", task(t, s.c, "t").Turn.Recoveries, 1)
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
					st, broken := faulty(open())
					f := perdure.NewFunc[int, int]("f", nil)
					s := serve(t, st, perdure.Options{Drain: 5 * time.Second}, f.Bind(stay))
					start(t, s.c, f, 1, "t")
					synctest.Wait()
					broken.all(fault)
					after(time.Second)
					began := time.Now()
					is(t, "H3: Run on "+name, s.stop(), nil)
					if took := time.Since(began); took > 10*time.Second {
						t.Errorf("H3: the shutdown on %s took %v, want the drain time and a little", name, took)
					}
					broken.set(nil)
				}
			})
		})
	}
}

func TestAStoreThatIsClosedEndsItsEngine(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		st := memstore.New()
		f := perdure.NewFunc[int, int]("f", nil)
		s := serve(t, st, perdure.Options{}, f.Bind(stay))
		h := start(t, s.c, f, 1, "t")
		synctest.Wait()
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
		fails(t, "Run", <-s.done, perdure.ErrClosed)
		s.done <- nil
		_, err := h.Result(t.Context())
		fails(t, "Result", err, perdure.ErrClosed)
	})
}

func TestATurnIsNotPromotedIntoAShutdown(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		mem := memstore.New()
		f := perdure.NewFunc[int, int]("f", &options{Steerable: true})
		s := serve(t, mem, perdure.Options{}, f.Bind(func(_ context.Context, turn *turnOf) (int, error) {
			<-turn.Interrupt().Done()
			return turn.Input(), nil
		}))
		first := start(t, s.c, f, 1, "t")
		second := startWith(t, s.c, f, 2, &perdure.StartOptions{TaskID: "t", Deliver: perdure.Enqueue})
		synctest.Wait()
		is(t, "H1: Run", s.stop(), nil)
		ends(t, "H1", first, perdure.Completed)
		info := task(t, s.c, "t")
		is(t, "G4: status", info.Status, perdure.Pending)
		is(t, "G4: current turn", info.Turn.Number, second.Turn())
		is(t, "H1: entry", info.Turn.Entry, "")
	})
}
