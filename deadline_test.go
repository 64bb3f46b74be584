package perdure_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/store/memstore"
	"github.com/perdure/perdure/store/storetest"
)

func TestADeadlineInterruptsAndAfterItsGraceTerminates(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", &options{Timeout: time.Minute, TimeoutGrace: 10 * time.Second})
	d := &deaf{}
	var interrupted box[time.Duration]
	in(t, perdure.Options{}, func(t *testing.T, s *server) {
		began := time.Now()
		h := start(t, s.c, f, 1, "t")
		r := ends(t, "C5", h, perdure.Terminated)
		is(t, "C5: ended after", time.Since(began), 70*time.Second)
		is(t, "C5: reason", r.Reason, "deadline")
		is(t, "C5: interrupted after", interrupted.get(), time.Minute)
		synctest.Wait()
		fails(t, "C1: cause of ctx", d.cause.get(), perdure.ErrTerminated)
		fails(t, "C5: a checkpoint after it", d.saving.get(), perdure.ErrTerminated)
		after(time.Minute)
		is(t, "C4: leaks reported", s.counter("handlers_leaked_total"), 1)
		is(t, "slots taken", s.counter("turns_running"), 0)
		d.open()
		is(t, "C5: task", task(t, s.c, "t").Status, perdure.Terminated)
	}, f.Bind(func(ctx context.Context, turn *turnOf) (int, error) {
		<-turn.Interrupt().Done()
		interrupted.set(time.Since(turn.StartedAt()))
		if want := (perdure.Causes{Deadline: true}); turn.Causes() != want {
			t.Errorf("C2: causes: got %v, want %v", turn.Causes(), want)
		}
		return d.handle(ctx, turn)
	}))
}

func TestAHandlerThatReturnsAtItsDeadlineIsTerminatedOrHasItsWay(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", &options{Timeout: time.Minute, Retry: perdure.FixedRetry(9, time.Second)})
	in(t, perdure.Options{}, func(t *testing.T, s *server) {
		is(t, "C5: reason", ends(t, "T3", start(t, s.c, f, 1, "interrupt"), perdure.Terminated).Reason, "deadline")
		is(t, "C5: output", ends(t, "C5", start(t, s.c, f, 2, "value"), perdure.Completed).Output, 2)
		r := ends(t, "Y2", start(t, s.c, f, 3, "error"), perdure.Terminated)
		is(t, "Y2: reason of a retry past the deadline", r.Reason, "deadline")
		is(t, "Y2: attempts", task(t, s.c, "error").Turn.Attempt, 2)
	}, f.Bind(func(ctx context.Context, turn *turnOf) (int, error) {
		<-turn.Interrupt().Done()
		switch turn.Input() {
		case 1:
			return 0, context.Cause(turn.Interrupt())
		case 3:
			return 0, errors.New("late")
		}
		return turn.Input(), nil
	}))
}

func TestThePromotedTurnWaitsForAHandlerThatIgnoredItsDeadline(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", &options{Steerable: true, Timeout: time.Minute, TimeoutGrace: time.Second})
	d := &deaf{}
	in(t, perdure.Options{}, func(t *testing.T, s *server) {
		first, second := start(t, s.c, f, 1, "t"), start(t, s.c, f, -2, "t")
		ends(t, "C5", first, perdure.Terminated)
		after(time.Hour)
		is(t, "O1: the next turn while the handler runs", task(t, s.c, "t").Status, perdure.Pending)
		d.open()
		is(t, "Stops: output of the promoted turn", ends(t, "Stops", second, perdure.Completed).Output, -2)
	}, f.Bind(d.handle))
}

func TestADeadlineEndsWhileTheStoreIsAway(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		st, broken := faulty(memstore.New())
		f := perdure.NewFunc[int, int]("f", &options{Timeout: 3 * time.Second, TimeoutGrace: time.Second})
		var cause box[error]
		s := serve(t, st, perdure.Options{Lease: time.Hour}, f.Bind(func(ctx context.Context, turn *turnOf) (int, error) {
			_ = turn.Checkpoint(context.Background())
			cause.set(context.Cause(ctx))
			return 1, nil
		}))
		broken.set(func(c storetest.Call) storetest.Fault {
			if c.Op == "Checkpoint" || c.Op == "Settle" {
				return storetest.FailBefore
			}
			return storetest.None
		})
		h := start(t, s.c, f, 1, "t")
		after(10 * time.Second)
		fails(t, "C5: cause of ctx", cause.get(), perdure.ErrTerminated)
		after(time.Minute)
		is(t, "T2: status while nothing is stored", task(t, s.c, "t").Status, perdure.InProgress)
		broken.set(nil)
		is(t, "C5: reason", ends(t, "C5", h, perdure.Terminated).Reason, "deadline")
	})
}

// overdue crashes a process over a turn's deadline, and returns what the entries after that looked like.
func overdue(t *testing.T, crashes int) (entries []perdure.Causes, status perdure.Status) {
	t.Helper()
	f := perdure.NewFunc[int, int]("f", &options{Timeout: time.Minute, TimeoutGrace: 20 * time.Second})
	var seen box[[]perdure.Causes]
	handle := func(ctx context.Context, turn *turnOf) (int, error) {
		seen.set(append(seen.get(), turn.Causes()))
		<-ctx.Done()
		return 0, ctx.Err()
	}
	bubble.Test(t, func(t *testing.T) {
		mem := memstore.New()
		for range crashes {
			st := storetest.NewFaulty(mem, nil)
			s := serve(t, st, perdure.Options{Lease: time.Second}, f.Bind(handle))
			if seen.get() == nil {
				start(t, s.c, f, 1, "t")
				after(55 * time.Second)
			}
			after(4 * time.Second)
			st.Kill()
			after(2 * time.Second)
		}
		s := serve(t, mem, perdure.Options{Lease: time.Second}, f.Bind(handle))
		began := time.Now()
		h := attach(t, s.c, f, "t")
		status = ends(t, "C5", h, perdure.Terminated).Status
		if crashes == 1 {
			is(t, "C5: grace from the entry past the deadline", time.Since(began).Truncate(time.Second), 20*time.Second)
		}
	})
	return seen.get(), status
}

func TestATurnRecoveredPastItsDeadlineIsEnteredOnce(t *testing.T) {
	for crashes, want := range map[int][]perdure.Causes{
		1: {{}, {Deadline: true}},
		2: {{}, {Deadline: true}},
	} {
		entries, status := overdue(t, crashes)
		if len(entries) != len(want) || entries[0] != want[0] || entries[1] != want[1] {
			t.Errorf("C5: after %d crashes: got entries with causes %v, want %v", crashes, entries, want)
		}
		is(t, "C5: outcome", status, perdure.Terminated)
	}
}

func TestABackOffPastItsDeadlineIsEndedByAnyWorkerAndNeverEntered(t *testing.T) {
	for name, wait := range map[string]time.Duration{"long after": time.Hour, "just after": 60*time.Second + time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			f := perdure.NewFunc[int, int]("f", &options{Timeout: time.Minute, Retry: perdure.FixedRetry(9, wait)})
			bind := f.Bind(func(context.Context, *turnOf) (int, error) { return 0, errors.New("no") })
			bubble.Test(t, func(t *testing.T) {
				mem := memstore.New()
				s := serve(t, mem, perdure.Options{}, bind)
				after(300 * time.Millisecond) // off the beat of the sweep
				h := start(t, s.c, f, 1, "t")
				if name == "long after" {
					synctest.Wait()
					if err := s.stop(); err != nil {
						t.Fatal(err)
					}
					s = serve(t, mem, perdure.Options{}) // the func is not bound here
					var err error
					if h, err = f.Attach(t.Context(), s.c, "t", nil); err != nil {
						t.Fatal(err)
					}
				}
				began := time.Now()
				r := ends(t, "C5, Y2", h, perdure.Terminated)
				is(t, "Y2: reason", r.Reason, "deadline")
				if took := time.Since(began); took > 62*time.Second {
					t.Errorf("Y2: ended after %v, want a minute", took)
				}
				turn, err := s.c.Turn(t.Context(), perdure.TurnQuery{TaskID: "t"})
				if err != nil {
					t.Fatal(err)
				}
				is(t, "C5: attempts", turn.Attempt, 2)
				is(t, "Y3: the last attempt's error", turn.Error.Message, "no")
			})
		})
	}
}
