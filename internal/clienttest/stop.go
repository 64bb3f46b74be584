package clienttest

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure"
)

func stopTests() []test {
	return []test{
		{"C3 cancel ends a running turn that heeds it, and what is queued", cancel},
		{"G3 a queued input is cancelled by turn or by input ID", cancelOne},
		{"C7 cancel and terminate of an ended task do nothing", stopEnded},
		{"C4 terminate ends a task at once", terminate},
		{"C6 delete ends its waiters, and again does nothing", remove},
		{"delete honours the version", removeVersion},
		{"R4 a parked task tells why, and resume lets it go on", parked},
		{"resume of a task that is not parked conflicts", resumeConflict},
		{"a reason that is too long is refused", longReason},
		{"O6 a repeated cancel leaves alone what came later", repeatedCancel},
		{"O6 a repeated terminate or delete leaves alone what came later", repeatedEnd},
		{"O6 a repeated resume leaves alone what was parked again", repeatedResume},
		{"O6 the request ID of one operation is refused for another", requestOfAnother},
		{"O6 without a request ID each call is another one", unnamed},
	}
}

func cancel(t *testing.T, e *env) {
	a := e.start(t, request("gate", "t1", "i1", "x"))
	status, err := e.client.Cancel(t.Context(), "t1", &perdure.CancelOptions{Reason: "enough"})
	if err != nil || status != perdure.InProgress {
		t.Errorf("Cancel: got %v, %v, want in_progress: it is asked to stop", status, err)
	}
	o := e.outcome(t, a)
	if o.Status != perdure.Cancelled || o.Reason != "enough" || !errors.Is(o.Err(), perdure.ErrCancelled) {
		t.Errorf("got %+v, want cancelled with the reason", o)
	}
}

func cancelOne(t *testing.T, e *env) {
	e.start(t, request("chat", "t1", "i1", "hold"))
	second := e.start(t, request("chat", "t1", "i2", "two"))
	third := e.start(t, request("chat", "t1", "i3", "three"))
	for _, opts := range []*perdure.CancelOptions{{Turn: second.Turn, Incarnation: second.Incarnation}, {InputID: "i3"}} {
		if _, err := e.client.Cancel(t.Context(), "t1", opts); err != nil {
			t.Errorf("Cancel %+v: %v", opts, err)
		}
	}
	if o := e.outcome(t, second); o.Status != perdure.Cancelled {
		t.Errorf("second: got %+v, want cancelled", o)
	}
	if o := e.outcome(t, third); o.Status != perdure.Cancelled {
		t.Errorf("third: got %+v, want cancelled", o)
	}
	if info, err := e.client.Task(t.Context(), "t1"); err != nil || info.Status != perdure.InProgress || info.Turn.Cancel {
		t.Errorf("the running turn: got %+v, %v, want it unasked", info, err)
	}
	e.open <- struct{}{}
}

func stopEnded(t *testing.T, e *env) {
	e.outcome(t, e.start(t, request("echo", "t1", "i1", "x")))
	if status, err := e.client.Cancel(t.Context(), "t1", nil); err != nil || status != perdure.Completed {
		t.Errorf("Cancel: got %v, %v, want completed", status, err)
	}
	if status, err := e.client.Terminate(t.Context(), "t1", &perdure.TerminateOptions{Reason: "late"}); err != nil || status != perdure.Completed {
		t.Errorf("Terminate: got %v, %v, want completed", status, err)
	}
}

func terminate(t *testing.T, e *env) {
	running := e.start(t, request("chat", "t1", "i1", "hold"))
	queued := e.start(t, request("chat", "t1", "i2", "two"))
	status, err := e.client.Terminate(t.Context(), "t1", &perdure.TerminateOptions{Reason: "stop it"})
	if err != nil || status != perdure.Terminated {
		t.Errorf("Terminate: got %v, %v, want terminated", status, err)
	}
	if o := e.outcome(t, running); o.Status != perdure.Terminated || o.Reason != "stop it" || !errors.Is(o.Err(), perdure.ErrTerminated) {
		t.Errorf("running: got %+v, want terminated with the reason", o)
	}
	if o := e.outcome(t, queued); o.Status != perdure.Refused || !errors.Is(o.Err(), perdure.ErrRefused) {
		t.Errorf("queued: got %+v, want refused", o)
	}
}

func remove(t *testing.T, e *env) {
	a := e.start(t, request("gate", "t1", "i1", "x"))
	got := make(chan error, 1)
	go func() {
		_, err := e.client.Outcome(t.Context(), perdure.TurnQuery{TaskID: "t1", Incarnation: a.Incarnation, Turn: 1})
		got <- err
	}()
	synctest.Wait()
	for range 2 {
		if err := e.client.Delete(t.Context(), "t1", nil); err != nil {
			t.Errorf("Delete: %v", err)
		}
	}
	if err := <-got; !errors.Is(err, perdure.ErrDeleted) {
		t.Errorf("waiter: got %v, want ErrDeleted", err)
	}
	if _, err := e.client.Task(t.Context(), "t1"); !errors.Is(err, perdure.ErrNotFound) {
		t.Errorf("Task: got %v, want ErrNotFound", err)
	}
}

func removeVersion(t *testing.T, e *env) {
	e.outcome(t, e.start(t, request("echo", "t1", "i1", "x")))
	info, err := e.client.Task(t.Context(), "t1")
	if err != nil {
		t.Fatal(err)
	}
	err = e.client.Delete(t.Context(), "t1", &perdure.DeleteOptions{Version: info.Version + 1})
	p, ok := errors.AsType[*perdure.PreconditionError](err)
	if !ok || p.TaskID != "t1" || p.Actual == "" {
		t.Errorf("got %v, want a PreconditionError with the version", err)
	}
	if err := e.client.Delete(t.Context(), "t1", &perdure.DeleteOptions{Version: info.Version, Incarnation: info.Incarnation}); err != nil {
		t.Errorf("Delete of the right version: %v", err)
	}
}

func parked(t *testing.T, e *env) {
	a := e.start(t, request("loop", "t1", "i1", "loop"))
	_, err := e.client.Outcome(t.Context(), perdure.TurnQuery{TaskID: "t1", Incarnation: a.Incarnation, Turn: 1})
	p, ok := errors.AsType[*perdure.ParkedError](err)
	if !ok || !errors.Is(err, perdure.ErrParked) || p.TaskID != "t1" || p.Reason == "" {
		t.Fatalf("got %v, want a ParkedError with a reason", err)
	}
	_, err = e.client.Start(t.Context(), request("loop", "t1", "i2", "x"))
	if c, ok := errors.AsType[*perdure.ConflictError](err); !ok || c.Status != perdure.Parked {
		t.Errorf("Start: got %v, want a ConflictError, parked", err)
	}
	if turn, err := e.client.Turn(t.Context(), perdure.TurnQuery{TaskID: "t1"}); err != nil || turn.Status != perdure.Parked || turn.Reason != p.Reason {
		t.Errorf("Turn: got %+v, %v, want it parked with the reason", turn, err)
	}
	before := e.entries.Load()
	if status, err := e.client.Resume(t.Context(), "t1", nil); err != nil || status != perdure.Pending && status != perdure.InProgress {
		t.Errorf("Resume: got %v, %v, want it due", status, err)
	}
	advance(time.Minute)
	if e.entries.Load() == before {
		t.Errorf("the handler was not entered again")
	}
}

func resumeConflict(t *testing.T, e *env) {
	e.outcome(t, e.start(t, request("echo", "t1", "i1", "x")))
	_, err := e.client.Resume(t.Context(), "t1", nil)
	if c, ok := errors.AsType[*perdure.ConflictError](err); !ok || c.Status != perdure.Completed {
		t.Errorf("got %v, want a ConflictError, completed", err)
	}
}

func longReason(t *testing.T, e *env) {
	e.start(t, request("gate", "t1", "i1", "x"))
	long := strings.Repeat("x", 1025)
	if _, err := e.client.Cancel(t.Context(), "t1", &perdure.CancelOptions{Reason: long}); !errors.Is(err, perdure.ErrTooLarge) {
		t.Errorf("Cancel: got %v, want ErrTooLarge", err)
	}
	if _, err := e.client.Terminate(t.Context(), "t1", &perdure.TerminateOptions{Reason: "\xff"}); !errors.Is(err, perdure.ErrInvalid) {
		t.Errorf("Terminate: got %v, want ErrInvalid", err)
	}
}

func repeatedCancel(t *testing.T, e *env) {
	first := e.start(t, request("gate", "t1", "i1", "x"))
	opts := &perdure.CancelOptions{RequestID: "r1", Reason: "enough"}
	status, err := e.client.Cancel(t.Context(), "t1", opts)
	if err != nil {
		t.Fatal(err)
	}
	e.outcome(t, first)
	if err := e.client.Delete(t.Context(), "t1", nil); err != nil {
		t.Fatal(err)
	}
	e.start(t, request("gate", "t1", "i2", "x"))
	again, err := e.client.Cancel(t.Context(), "t1", opts)
	if err != nil || again != status {
		t.Errorf("repeat: got %v, %v, want the first answer, %v", again, err, status)
	}
	synctest.Wait()
	if info, err := e.client.Task(t.Context(), "t1"); err != nil || info.Status != perdure.InProgress || info.Turn.Cancel {
		t.Errorf("what came later: got %+v, %v, want it unasked", info, err)
	}
	e.open <- struct{}{}
}

func repeatedEnd(t *testing.T, e *env) {
	a := e.start(t, request("chat", "t1", "i1", "hold"))
	end := func() error {
		_, err := e.client.Terminate(t.Context(), "t1", &perdure.TerminateOptions{RequestID: "r1"})
		return err
	}
	remove := func() error { return e.client.Delete(t.Context(), "t1", &perdure.DeleteOptions{RequestID: "r2"}) }
	for _, do := range []func() error{end, remove} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	later := e.start(t, request("chat", "t1", "i2", "hold"))
	if later.Incarnation == a.Incarnation {
		t.Fatal("it is the same task")
	}
	for _, do := range []func() error{remove, end} {
		if err := do(); err != nil {
			t.Errorf("repeat: %v", err)
		}
	}
	synctest.Wait()
	if info, err := e.client.Task(t.Context(), "t1"); err != nil || info.Status != perdure.InProgress || info.Incarnation != later.Incarnation {
		t.Errorf("what came later: got %+v, %v, want it as it was", info, err)
	}
	e.open <- struct{}{}
}

func repeatedResume(t *testing.T, e *env) {
	e.start(t, request("loop", "t1", "i1", "loop"))
	opts := &perdure.ResumeOptions{RequestID: "r1"}
	var first perdure.Status
	for try := range 2 {
		advance(time.Hour)
		if info, err := e.client.Task(t.Context(), "t1"); err != nil || info.Status != perdure.Parked {
			t.Fatalf("got %+v, %v, want it parked", info, err)
		}
		status, err := e.client.Resume(t.Context(), "t1", opts)
		if try == 0 {
			first = status
		}
		if err != nil || status != first {
			t.Errorf("got %v, %v, want the first answer, %v", status, err, first)
		}
	}
	before := e.entries.Load()
	advance(time.Hour)
	if n := e.entries.Load(); n != before {
		t.Errorf("the repeat has let it go on: %d entries", n-before)
	}
}

func requestOfAnother(t *testing.T, e *env) {
	e.start(t, request("gate", "t1", "i1", "x"))
	if _, err := e.client.Cancel(t.Context(), "t1", &perdure.CancelOptions{RequestID: "r1", Turn: 7}); !errors.Is(err, perdure.ErrNotFound) {
		t.Errorf("cancel of a turn that is not there: got %v", err)
	}
	if _, err := e.client.Cancel(t.Context(), "t1", &perdure.CancelOptions{RequestID: "r1"}); err != nil {
		t.Errorf("the ID of a request that was refused: %v", err)
	}
	_, err := e.client.Terminate(t.Context(), "t1", &perdure.TerminateOptions{RequestID: "r1"})
	if _, ok := errors.AsType[*perdure.ConflictError](err); !ok {
		t.Errorf("the ID of another operation: got %v, want a *ConflictError", err)
	}
}

func unnamed(t *testing.T, e *env) {
	for _, input := range []string{"i1", "i2"} {
		a := e.start(t, request("gate", "t"+input, input, "x"))
		if _, err := e.client.Cancel(t.Context(), a.TaskID, nil); err != nil {
			t.Error(err)
		}
		if o := e.outcome(t, a); o.Status != perdure.Cancelled {
			t.Errorf("%s: got %+v, want cancelled", input, o)
		}
	}
}
