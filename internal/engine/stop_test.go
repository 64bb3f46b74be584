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

// deaf is a handler that ignores every request to stop until the gate opens. It tells the cause with
// which its ctx ended, and what its checkpoint said then.
type deaf struct {
	opened rig.Box[bool]
	cause  rig.Box[error]
	saving rig.Box[error]
}

func (d *deaf) handle(ctx context.Context, turn *rig.Turn) (int, error) {
	if turn.Input() < 0 {
		return turn.Input(), nil
	}
	<-ctx.Done()
	d.cause.Set(context.Cause(ctx))
	_ = turn.Metadata().Set("late", true)
	d.saving.Set(turn.Checkpoint(context.Background()))
	for !d.opened.Get() {
		rig.After(time.Second)
	}
	return 0, nil
}

func (d *deaf) open() {
	d.opened.Set(true)
	rig.After(2 * time.Second)
}

func TestATerminatedTaskEndsWhateverItsHandlerDoes(t *testing.T) {
	d := &deaf{}
	f := perdure.NewFunc[int, int]("f", &rig.Options{Steerable: true})
	rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
		first := rig.Start(t, s.Client, f, 1, "t")
		second := rig.StartWith(t, s.Client, f, 2, &perdure.StartOptions{TaskID: "t", Deliver: perdure.Enqueue})
		synctest.Wait()
		if err := first.Terminate(t.Context(), "enough"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		rig.Is(t, "C4: status at once", rig.Task(t, s.Client, "t").Status, perdure.Terminated)
		rig.Is(t, "C4: reason of the turn", rig.Ends(t, "C4", first, perdure.Terminated).Reason, "enough")
		rig.Ends(t, "T4", second, perdure.Refused)
		_, err := first.Result(t.Context())
		rig.Fails(t, "C4: Result", err, perdure.ErrTerminated)
		rig.Fails(t, "C1: cause of ctx", d.cause.Get(), perdure.ErrTerminated)
		rig.Fails(t, "C4: a later checkpoint", d.saving.Get(), perdure.ErrTerminated)
		rig.After(9 * time.Second)
		rig.Is(t, "C4: leaks reported before 10 s", s.Counter("handlers_leaked_total"), 0)
		rig.After(2 * time.Second)
		rig.Is(t, "C4: leaks reported after 10 s", s.Counter("handlers_leaked_total"), 1)
		if got := s.Logs.String(); !strings.Contains(got, "has not returned") || !strings.Contains(got, "task=t") {
			t.Errorf("C4: the leak is not logged: %s", got)
		}
		d.open()
		rig.Is(t, "C4: status after the handler returned", rig.Task(t, s.Client, "t").Status, perdure.Terminated)
		rig.Is(t, "C4: metadata", len(rig.Task(t, s.Client, "t").Metadata), 0)
		status, err := s.Client.Terminate(t.Context(), "t", nil)
		rig.Is(t, "C7: terminate of an ended task", status, perdure.Terminated)
		rig.Is(t, "C7: error", err, nil)
		status, err = s.Client.Cancel(t.Context(), "t", nil)
		rig.Is(t, "C7: cancel of an ended task", status, perdure.Terminated)
		rig.Is(t, "C7: error", err, nil)
	}, f.Bind(d.handle))
}

func TestADeletedTaskIsGoneAndItsHandlerCannotTouchTheNext(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d, mem := &deaf{}, memstore.New()
		f := perdure.NewFunc[int, int]("f", nil)
		s, other := rig.Serve(t, mem, perdure.Options{}, f.Bind(d.handle)), rig.Serve(t, mem, perdure.Options{})
		old := rig.Start(t, s.Client, f, 1, "t")
		elsewhere, err := f.Attach(t.Context(), other.Client, "t", nil)
		if err != nil {
			t.Fatal(err)
		}
		told := make(chan error, 2)
		for _, h := range []*perdure.Handle[int]{old, elsewhere} {
			go func() {
				_, err := h.Result(t.Context())
				told <- err
			}()
		}
		synctest.Wait() // the handler is entered and both wait
		for range 2 {
			if err := old.Delete(t.Context()); err != nil {
				t.Errorf("C6: delete: %v", err)
			}
		}
		rig.Fails(t, "C6: a waiter", <-told, perdure.ErrDeleted)
		rig.Fails(t, "C6: another waiter", <-told, perdure.ErrDeleted)
		rig.Fails(t, "C1: cause of ctx", d.cause.Get(), perdure.ErrTerminated)
		rig.Fails(t, "C6: a later checkpoint", d.saving.Get(), perdure.ErrTerminated)

		anew := rig.Start(t, s.Client, f, -7, "t")
		rig.After(time.Minute)
		rig.Is(t, "O1: status while the old rig.Handler runs here", rig.Task(t, s.Client, "t").Status, perdure.Pending)
		_, err = old.Result(t.Context())
		rig.Fails(t, "C6: Result of the old handle", err, perdure.ErrDeleted)
		rig.Fails(t, "C6: cancel by the old handle", old.Cancel(t.Context(), ""), perdure.ErrDeleted)
		d.open()
		rig.Is(t, "O1: output of the new task", rig.Ends(t, "O1", anew, perdure.Completed).Output, -7)
		rig.Is(t, "C6: metadata of the new task", len(rig.Task(t, s.Client, "t").Metadata), 0)
		if err := old.Delete(t.Context()); err != nil {
			t.Errorf("C6: delete by the old handle: %v", err)
		}
		rig.Is(t, "C6: status after a delete by the old handle", rig.Task(t, s.Client, "t").Status, perdure.Completed)
	})
}

func TestCancelEndsWhatIsNotEnteredAndAsksWhatIs(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", &rig.Options{Steerable: true})
	rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
		first := rig.Start(t, s.Client, f, 1, "t")
		queued := rig.StartWith(t, s.Client, f, 2, &perdure.StartOptions{TaskID: "t", Deliver: perdure.Enqueue})
		other := rig.StartWith(t, s.Client, f, 3, &perdure.StartOptions{TaskID: "t", Deliver: perdure.Enqueue})
		if err := queued.Cancel(t.Context(), "not you"); err != nil {
			t.Fatal(err)
		}
		rig.Is(t, "G3: reason", rig.Ends(t, "G3", queued, perdure.Cancelled).Reason, "not you")
		rig.Is(t, "G3: the running turn", rig.Task(t, s.Client, "t").Turn.Cancel, false)
		status, err := s.Client.Cancel(t.Context(), "t", &perdure.CancelOptions{Reason: "all of you"})
		rig.Is(t, "C3: status", status, perdure.InProgress)
		rig.Is(t, "C3: error", err, nil)
		rig.Is(t, "C3: reason", rig.Ends(t, "C3", first, perdure.Cancelled).Reason, "all of you")
		rig.Ends(t, "C3", other, perdure.Cancelled)
		rig.Is(t, "Stops: task", rig.Task(t, s.Client, "t").Status, perdure.Cancelled)
		rig.Fails(t, "C3: cancel of an absent task", cancel(t, s, "absent"), perdure.ErrNotFound)
	}, f.Bind(rig.Stay))
}

func cancel(t *testing.T, s *rig.Server, id string) error {
	t.Helper()
	_, err := s.Client.Cancel(t.Context(), id, nil)
	return err
}

func TestAHandlerDecidesWhatACancelDoes(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", &rig.Options{Retry: perdure.FixedRetry(5, time.Second)})
	rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
		for _, c := range []struct {
			id   string
			in   int
			want perdure.Status
		}{{"value", 0, perdure.Completed}, {"cancelled", 1, perdure.Cancelled}, {"interrupt", 2, perdure.Cancelled},
			{"canceled", 3, perdure.Cancelled}, {"error", 4, perdure.Cancelled}} {
			h := rig.Start(t, s.Client, f, c.in, c.id)
			if err := h.Cancel(t.Context(), "why"); err != nil {
				t.Fatal(err)
			}
			rig.Ends(t, "C3, Y4: "+c.id, h, c.want)
			rig.Is(t, "Y4: attempts of "+c.id, rig.Task(t, s.Client, c.id).Turn.Attempt, 1)
		}
	}, f.Bind(func(_ context.Context, turn *rig.Turn) (int, error) {
		<-turn.Interrupt().Done()
		switch turn.Input() {
		case 1:
			return 0, perdure.ErrCancelled
		case 2:
			return 0, context.Cause(turn.Interrupt())
		case 3:
			return 0, turn.Interrupt().Err()
		case 4:
			return 0, errors.New("other")
		}
		return 0, nil
	}))
}

func TestACancelSurvivesACrashOfTheOwner(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		mem := memstore.New()
		st, broken := rig.Faulty(mem)
		f := perdure.NewFunc[int, int]("f", nil)
		var causes rig.Box[perdure.Causes]
		bind := f.Bind(func(ctx context.Context, turn *rig.Turn) (int, error) {
			if turn.Entry() == perdure.Recovered {
				causes.Set(turn.Causes())
				return rig.Stay(ctx, turn)
			}
			<-ctx.Done()
			return 0, ctx.Err()
		})
		first := rig.Serve(t, st, perdure.Options{Lease: time.Second}, bind)
		h := rig.Start(t, first.Client, f, 1, "t")
		if err := h.Cancel(t.Context(), "why"); err != nil {
			t.Fatal(err)
		}
		broken.All(storetest.FailBefore)
		second := rig.Serve(t, mem, perdure.Options{Lease: time.Second}, bind)
		rig.After(5 * time.Second)
		rig.Is(t, "C3: causes at entry", causes.Get(), perdure.Causes{Cancel: true, CancelReason: "why"})
		again, err := f.Attach(t.Context(), second.Client, "t", nil)
		if err != nil {
			t.Fatal(err)
		}
		rig.Ends(t, "C3", again, perdure.Cancelled)
		broken.All(storetest.None)
	})
}

func TestCancelOfASuspendedTaskEndsItAndOfItsEndedTurnDoesNothing(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", &rig.Options{MultiTurn: true})
	rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
		h := rig.Start(t, s.Client, f, 1, "t")
		rig.Ends(t, "T5", h, perdure.Completed)
		if err := h.Cancel(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		rig.Is(t, "C3: task after its ended turn was cancelled", rig.Task(t, s.Client, "t").Status, perdure.Suspended)
		status, err := s.Client.Cancel(t.Context(), "t", nil)
		rig.Is(t, "C7: status", status, perdure.Cancelled)
		rig.Is(t, "C7: error", err, nil)
		rig.Ends(t, "C7", h, perdure.Completed)
	}, f.Bind(rig.Echo))
}

func TestAStoppedTurnOfAMultiTurnFuncLeavesItsTaskSuspended(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", &rig.Options{MultiTurn: true, Steerable: true, Timeout: time.Minute})
	rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
		h := rig.Start(t, s.Client, f, 1, "t")
		h.Cancel(t.Context(), "")
		rig.Ends(t, "C3", h, perdure.Cancelled)
		rig.Is(t, "Stops: task after a cancel", rig.Task(t, s.Client, "t").Status, perdure.Suspended)
		rig.Ends(t, "C5", rig.Start(t, s.Client, f, 2, "t"), perdure.Terminated)
		rig.Is(t, "Stops: task after a deadline", rig.Task(t, s.Client, "t").Status, perdure.Suspended)
		third := rig.Start(t, s.Client, f, 3, "t")
		fourth := rig.Start(t, s.Client, f, 4, "t")
		r := rig.Ends(t, "T3: steered", third, perdure.Cancelled)
		rig.Is(t, "T3: superseded", r.Superseded, true)
		fourth.Cancel(t.Context(), "")
		rig.Ends(t, "C3", fourth, perdure.Cancelled)
	}, f.Bind(rig.Stay))
}
