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
	"github.com/perdure/perdure/store/memstore"
	"github.com/perdure/perdure/store/storetest"
)

func TestADeadlineInterruptsAndAfterItsGraceTerminates(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", &rig.Options{Timeout: time.Minute, TimeoutGrace: 10 * time.Second})
	d := &deaf{}
	var interrupted rig.Box[time.Duration]
	rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
		began := time.Now()
		h := rig.Start(t, s.Client, f, 1, "t")
		r := rig.Ends(t, "C5", h, perdure.Terminated)
		rig.Is(t, "C5: ended after", time.Since(began), 70*time.Second)
		rig.Is(t, "C5: reason", r.Reason, "deadline")
		rig.Is(t, "C5: interrupted after", interrupted.Get(), time.Minute)
		synctest.Wait()
		rig.Fails(t, "C1: cause of ctx", d.cause.Get(), perdure.ErrTerminated)
		rig.Fails(t, "C5: a checkpoint after it", d.saving.Get(), perdure.ErrTerminated)
		rig.After(time.Minute)
		rig.Is(t, "C4: leaks reported", s.Counter("handlers_leaked_total"), 1)
		rig.Is(t, "slots taken", s.Counter("turns_running"), 0)
		d.open()
		rig.Is(t, "C5: task", rig.Task(t, s.Client, "t").Status, perdure.Terminated)
	}, f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
		<-turn.Interrupt().Done()
		interrupted.Set(time.Since(turn.StartedAt()))
		if want := (perdure.Causes{Deadline: true}); turn.Causes() != want {
			t.Errorf("C2: causes: got %v, want %v", turn.Causes(), want)
		}
		return d.handle(ctx, turn)
	}))
}

func TestAHandlerThatReturnsAtItsDeadlineIsTerminatedOrHasItsWay(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", &rig.Options{Timeout: time.Minute, Retry: perdure.FixedRetry(9, time.Second)})
	rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
		rig.Is(t, "C5: reason", rig.Ends(t, "T3", rig.Start(t, s.Client, f, 1, "interrupt"), perdure.Terminated).Reason, "deadline")
		rig.Is(t, "C5: output", rig.Ends(t, "C5", rig.Start(t, s.Client, f, 2, "value"), perdure.Completed).Output, 2)
		r := rig.Ends(t, "T3", rig.Start(t, s.Client, f, 3, "error"), perdure.Terminated)
		rig.Is(t, "T3: reason of an error after the deadline", r.Reason, "deadline")
		rig.Is(t, "T3: detail", r.Detail, "late")
		rig.Is(t, "T3: attempts", rig.Task(t, s.Client, "error").Turn.Attempt, 1)
	}, f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
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
	f := perdure.NewFunc[int, int]("f", &rig.Options{Steerable: true, Timeout: time.Minute, TimeoutGrace: time.Second})
	d := &deaf{}
	rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
		first, second := rig.Start(t, s.Client, f, 1, "t"), rig.Start(t, s.Client, f, -2, "t")
		rig.Ends(t, "C5", first, perdure.Terminated)
		rig.After(time.Hour)
		rig.Is(t, "O1: the next turn while the handler runs", rig.Task(t, s.Client, "t").Status, perdure.Pending)
		d.open()
		rig.Is(t, "Stops: output of the promoted turn", rig.Ends(t, "Stops", second, perdure.Completed).Output, -2)
	}, f.Bind(d.handle))
}

func TestADeadlineEndsWhileTheStoreIsAway(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		st, broken := rig.Faulty(memstore.New())
		f := perdure.NewFunc[int, int]("f", &rig.Options{Timeout: 3 * time.Second, TimeoutGrace: time.Second})
		var cause rig.Box[error]
		s := rig.Serve(t, st, perdure.Options{Lease: time.Hour}, f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
			_ = turn.Checkpoint(context.Background())
			cause.Set(context.Cause(ctx))
			return 1, nil
		}))
		broken.Set(func(c storetest.Call) storetest.Fault {
			if c.Op == "Checkpoint" || c.Op == "Settle" {
				return storetest.FailBefore
			}
			return storetest.None
		})
		h := rig.Start(t, s.Client, f, 1, "t")
		rig.After(10 * time.Second)
		rig.Fails(t, "C5: cause of ctx", cause.Get(), perdure.ErrTerminated)
		rig.After(time.Minute)
		rig.Is(t, "T2: status while nothing is stored", rig.Task(t, s.Client, "t").Status, perdure.InProgress)
		broken.Set(nil)
		rig.Is(t, "C5: reason", rig.Ends(t, "C5", h, perdure.Terminated).Reason, "deadline")
	})
}

// overdue crashes a process over a turn's deadline, and returns what the entries after that looked like.
func overdue(t *testing.T, crashes int) (entries []perdure.Causes, status perdure.Status) {
	t.Helper()
	f := perdure.NewFunc[int, int]("f", &rig.Options{Timeout: time.Minute, TimeoutGrace: 20 * time.Second})
	var seen rig.Box[[]perdure.Causes]
	handle := func(ctx context.Context, turn *rig.Turn) (int, error) {
		seen.Set(append(seen.Get(), turn.Causes()))
		<-ctx.Done()
		return 0, ctx.Err()
	}
	bubble.Test(t, func(t *testing.T) {
		mem := memstore.New()
		for range crashes {
			st := storetest.NewFaulty(mem, nil)
			s := rig.Serve(t, st, perdure.Options{Lease: time.Second}, f.Bind(handle))
			if seen.Get() == nil {
				rig.Start(t, s.Client, f, 1, "t")
				rig.After(55 * time.Second)
			}
			rig.After(4 * time.Second)
			st.Kill()
			rig.After(2 * time.Second)
		}
		s := rig.Serve(t, mem, perdure.Options{Lease: time.Second}, f.Bind(handle))
		began := time.Now()
		h := rig.Attach(t, s.Client, f, "t")
		status = rig.Ends(t, "C5", h, perdure.Terminated).Status
		if crashes == 1 {
			rig.Is(t, "C5: grace from the entry past the deadline", time.Since(began).Truncate(time.Second), 20*time.Second)
		}
	})
	return seen.Get(), status
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
		rig.Is(t, "C5: outcome", status, perdure.Terminated)
	}
}

func TestABackOffPastItsDeadlineIsEndedByAnyWorkerAndNeverEntered(t *testing.T) {
	for name, wait := range map[string]time.Duration{"long after": time.Hour, "just after": 60*time.Second + time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			f := perdure.NewFunc[int, int]("f", &rig.Options{Timeout: time.Minute, Retry: perdure.FixedRetry(9, wait)})
			bind := f.Bind(func(context.Context, *rig.Turn) (int, error) { return 0, errors.New("no") })
			bubble.Test(t, func(t *testing.T) {
				mem := memstore.New()
				s := rig.Serve(t, mem, perdure.Options{}, bind)
				rig.After(300 * time.Millisecond) // off the beat of the sweep
				h := rig.Start(t, s.Client, f, 1, "t")
				if name == "long after" {
					synctest.Wait()
					if err := s.Stop(); err != nil {
						t.Fatal(err)
					}
					s = rig.Serve(t, mem, perdure.Options{}) // the func is not bound here
					var err error
					if h, err = f.Attach(t.Context(), s.Client, "t", nil); err != nil {
						t.Fatal(err)
					}
				}
				began := time.Now()
				r := rig.Ends(t, "C5, Y2", h, perdure.Terminated)
				rig.Is(t, "Y2: reason", r.Reason, "deadline")
				if took := time.Since(began); took > 62*time.Second {
					t.Errorf("Y2: ended after %v, want a minute", took)
				}
				turn, err := s.Client.Turn(t.Context(), perdure.TurnQuery{TaskID: "t"})
				if err != nil {
					t.Fatal(err)
				}
				rig.Is(t, "C5: attempts", turn.Attempt, 2)
				rig.Is(t, "Y3: the last attempt's error", turn.Error.Message, "no")
			})
		})
	}
}

type stuckCodec struct{ word chan struct{} }

func (c *stuckCodec) Encode(label string, plain []byte) ([]byte, error) {
	if strings.HasPrefix(label, "metadata") {
		<-c.word
	}
	return plain, nil
}
func (c *stuckCodec) Decode(_ string, stored []byte) ([]byte, error) { return stored, nil }

func (c *stuckCodec) Digests(b []byte) []perdure.Digest { return []perdure.Digest{{Sum: string(b)}} }

// A codec that hangs in a checkpoint does not keep a turn from its end by force.
func TestACodecThatHangsDoesNotKeepATurnFromItsEnd(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := perdure.NewFunc[int, int]("f", &rig.Options{Timeout: time.Second, TimeoutGrace: time.Second})
		c := &stuckCodec{make(chan struct{})}
		s := rig.Serve(t, memstore.New(), perdure.Options{Codec: c}, f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
			if err := turn.Metadata().Set("k", 1); err != nil {
				return 0, err
			}
			return 1, turn.Checkpoint(ctx)
		}))
		rig.Start(t, s.Client, f, 1, "t")
		rig.After(10 * time.Minute)
		rig.Is(t, "C5: status after deadline and grace", rig.Task(t, s.Client, "t").Status, perdure.Terminated)
		close(c.word)
	})
}
