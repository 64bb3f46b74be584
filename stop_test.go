package perdure_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/store/memstore"
	"github.com/perdure/perdure/store/storetest"
)

// deaf is a handler that ignores every request to stop until the gate opens. It tells the cause with
// which its ctx ended, and what its checkpoint said then.
type deaf struct {
	opened box[bool]
	cause  box[error]
	saving box[error]
}

func (d *deaf) handle(ctx context.Context, turn *turnOf) (int, error) {
	if turn.Input() < 0 {
		return turn.Input(), nil
	}
	<-ctx.Done()
	d.cause.set(context.Cause(ctx))
	_ = turn.Metadata().Set("late", true)
	d.saving.set(turn.Checkpoint(context.Background()))
	for !d.opened.get() {
		after(time.Second)
	}
	return 0, nil
}

func (d *deaf) open() {
	d.opened.set(true)
	after(2 * time.Second)
}

func TestATerminatedTaskEndsWhateverItsHandlerDoes(t *testing.T) {
	d := &deaf{}
	f := perdure.NewFunc[int, int]("f", &options{Steerable: true})
	in(t, perdure.Options{}, func(t *testing.T, s *server) {
		first := start(t, s.c, f, 1, "t")
		second := startWith(t, s.c, f, 2, &perdure.StartOptions{TaskID: "t", Deliver: perdure.Enqueue})
		synctest.Wait()
		if err := first.Terminate(t.Context(), "enough"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		is(t, "C4: status at once", task(t, s.c, "t").Status, perdure.Terminated)
		is(t, "C4: reason of the turn", ends(t, "C4", first, perdure.Terminated).Reason, "enough")
		ends(t, "T4", second, perdure.Refused)
		_, err := first.Result(t.Context())
		fails(t, "C4: Result", err, perdure.ErrTerminated)
		fails(t, "C1: cause of ctx", d.cause.get(), perdure.ErrTerminated)
		fails(t, "C4: a later checkpoint", d.saving.get(), perdure.ErrTerminated)
		after(9 * time.Second)
		is(t, "C4: leaks reported before 10 s", s.counter("handlers_leaked_total"), 0)
		after(2 * time.Second)
		is(t, "C4: leaks reported after 10 s", s.counter("handlers_leaked_total"), 1)
		if got := s.logs.String(); !strings.Contains(got, "has not returned") || !strings.Contains(got, "task=t") {
			t.Errorf("C4: the leak is not logged: %s", got)
		}
		d.open()
		is(t, "C4: status after the handler returned", task(t, s.c, "t").Status, perdure.Terminated)
		is(t, "C4: metadata", len(task(t, s.c, "t").Metadata), 0)
		status, err := s.c.Terminate(t.Context(), "t", nil)
		is(t, "C7: terminate of an ended task", status, perdure.Terminated)
		is(t, "C7: error", err, nil)
		status, err = s.c.Cancel(t.Context(), "t", nil)
		is(t, "C7: cancel of an ended task", status, perdure.Terminated)
		is(t, "C7: error", err, nil)
	}, f.Bind(d.handle))
}

func TestADeletedTaskIsGoneAndItsHandlerCannotTouchTheNext(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d, mem := &deaf{}, memstore.New()
		f := perdure.NewFunc[int, int]("f", nil)
		s, other := serve(t, mem, perdure.Options{}, f.Bind(d.handle)), serve(t, mem, perdure.Options{})
		old := start(t, s.c, f, 1, "t")
		elsewhere, err := f.Attach(t.Context(), other.c, "t", nil)
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
		fails(t, "C6: a waiter", <-told, perdure.ErrDeleted)
		fails(t, "C6: another waiter", <-told, perdure.ErrDeleted)
		fails(t, "C1: cause of ctx", d.cause.get(), perdure.ErrTerminated)
		fails(t, "C6: a later checkpoint", d.saving.get(), perdure.ErrTerminated)

		anew := start(t, s.c, f, -7, "t")
		after(time.Minute)
		is(t, "O1: status while the old handler runs here", task(t, s.c, "t").Status, perdure.Pending)
		_, err = old.Result(t.Context())
		fails(t, "C6: Result of the old handle", err, perdure.ErrDeleted)
		fails(t, "C6: cancel by the old handle", old.Cancel(t.Context(), ""), perdure.ErrDeleted)
		d.open()
		is(t, "O1: output of the new task", ends(t, "O1", anew, perdure.Completed).Output, -7)
		is(t, "C6: metadata of the new task", len(task(t, s.c, "t").Metadata), 0)
		if err := old.Delete(t.Context()); err != nil {
			t.Errorf("C6: delete by the old handle: %v", err)
		}
		is(t, "C6: status after a delete by the old handle", task(t, s.c, "t").Status, perdure.Completed)
	})
}

func TestCancelEndsWhatIsNotEnteredAndAsksWhatIs(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", &options{Steerable: true})
	in(t, perdure.Options{}, func(t *testing.T, s *server) {
		first := start(t, s.c, f, 1, "t")
		queued := startWith(t, s.c, f, 2, &perdure.StartOptions{TaskID: "t", Deliver: perdure.Enqueue})
		other := startWith(t, s.c, f, 3, &perdure.StartOptions{TaskID: "t", Deliver: perdure.Enqueue})
		if err := queued.Cancel(t.Context(), "not you"); err != nil {
			t.Fatal(err)
		}
		is(t, "G3: reason", ends(t, "G3", queued, perdure.Cancelled).Reason, "not you")
		is(t, "G3: the running turn", task(t, s.c, "t").Turn.Cancel, false)
		status, err := s.c.Cancel(t.Context(), "t", &perdure.CancelOptions{Reason: "all of you"})
		is(t, "C3: status", status, perdure.InProgress)
		is(t, "C3: error", err, nil)
		is(t, "C3: reason", ends(t, "C3", first, perdure.Cancelled).Reason, "all of you")
		ends(t, "C3", other, perdure.Cancelled)
		is(t, "Stops: task", task(t, s.c, "t").Status, perdure.Cancelled)
		fails(t, "C3: cancel of an absent task", cancel(t, s, "absent"), perdure.ErrNotFound)
	}, f.Bind(stay))
}

func cancel(t *testing.T, s *server, id string) error {
	t.Helper()
	_, err := s.c.Cancel(t.Context(), id, nil)
	return err
}

func TestAHandlerDecidesWhatACancelDoes(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", &options{Retry: perdure.FixedRetry(5, time.Second)})
	in(t, perdure.Options{}, func(t *testing.T, s *server) {
		for _, c := range []struct {
			id   string
			in   int
			want perdure.Status
		}{{"value", 0, perdure.Completed}, {"cancelled", 1, perdure.Cancelled}, {"interrupt", 2, perdure.Cancelled},
			{"canceled", 3, perdure.Cancelled}, {"error", 4, perdure.Cancelled}} {
			h := start(t, s.c, f, c.in, c.id)
			if err := h.Cancel(t.Context(), "why"); err != nil {
				t.Fatal(err)
			}
			ends(t, "C3, Y4: "+c.id, h, c.want)
			is(t, "Y4: attempts of "+c.id, task(t, s.c, c.id).Turn.Attempt, 1)
		}
	}, f.Bind(func(_ context.Context, turn *turnOf) (int, error) {
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
		st, broken := faulty(mem)
		f := perdure.NewFunc[int, int]("f", nil)
		var causes box[perdure.Causes]
		bind := f.Bind(func(ctx context.Context, turn *turnOf) (int, error) {
			if turn.Entry() == perdure.Recovered {
				causes.set(turn.Causes())
				return stay(ctx, turn)
			}
			<-ctx.Done()
			return 0, ctx.Err()
		})
		first := serve(t, st, perdure.Options{Lease: time.Second}, bind)
		h := start(t, first.c, f, 1, "t")
		if err := h.Cancel(t.Context(), "why"); err != nil {
			t.Fatal(err)
		}
		broken.all(storetest.FailBefore)
		second := serve(t, mem, perdure.Options{Lease: time.Second}, bind)
		after(5 * time.Second)
		is(t, "C3: causes at entry", causes.get(), perdure.Causes{Cancel: true, CancelReason: "why"})
		again, err := f.Attach(t.Context(), second.c, "t", nil)
		if err != nil {
			t.Fatal(err)
		}
		ends(t, "C3", again, perdure.Cancelled)
		broken.all(storetest.None)
	})
}

func TestCancelOfASuspendedTaskEndsItAndOfItsEndedTurnDoesNothing(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", &options{MultiTurn: true})
	in(t, perdure.Options{}, func(t *testing.T, s *server) {
		h := start(t, s.c, f, 1, "t")
		ends(t, "T5", h, perdure.Completed)
		if err := h.Cancel(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		is(t, "C3: task after its ended turn was cancelled", task(t, s.c, "t").Status, perdure.Suspended)
		status, err := s.c.Cancel(t.Context(), "t", nil)
		is(t, "C7: status", status, perdure.Cancelled)
		is(t, "C7: error", err, nil)
		ends(t, "C7", h, perdure.Completed)
	}, f.Bind(echo))
}

func TestAStoppedTurnOfAMultiTurnFuncLeavesItsTaskSuspended(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", &options{MultiTurn: true, Steerable: true, Timeout: time.Minute})
	in(t, perdure.Options{}, func(t *testing.T, s *server) {
		h := start(t, s.c, f, 1, "t")
		h.Cancel(t.Context(), "")
		ends(t, "C3", h, perdure.Cancelled)
		is(t, "Stops: task after a cancel", task(t, s.c, "t").Status, perdure.Suspended)
		ends(t, "C5", start(t, s.c, f, 2, "t"), perdure.Terminated)
		is(t, "Stops: task after a deadline", task(t, s.c, "t").Status, perdure.Suspended)
		third := start(t, s.c, f, 3, "t")
		fourth := start(t, s.c, f, 4, "t")
		r := ends(t, "T3: steered", third, perdure.Cancelled)
		is(t, "T3: superseded", r.Superseded, true)
		fourth.Cancel(t.Context(), "")
		ends(t, "C3", fourth, perdure.Cancelled)
	}, f.Bind(stay))
}
