package clienttest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure"
)

func readTests() []test {
	return []test{
		{"a task is read with its turn", task},
		{"turns are read by number, by input ID, and the current one", turn},
		{"turns are listed in order, from any number", turns},
		{"tasks are listed newest first, by page and by filter", tasks},
		{"a list is stable while tasks are added", stable},
		{"T2 an outcome is waited for", waits},
		{"a wait ends with its context", waitEnds},
		{"outcomes are of the turn that was current when asked", currentOutcome},
		{"Y3 a failed turn tells why", failed},
		{"what is not there is not found", notFound},
		{"another incarnation is a deleted task", otherIncarnation},
	}
}

func task(t *testing.T, e *env) {
	a := e.start(t, request("gate", "t1", "i1", "x"))
	synctest.Wait()
	info, err := e.client.Task(t.Context(), "t1")
	if err != nil {
		t.Fatal(err)
	}
	if info.ID != "t1" || info.Func != "gate" || info.Status != perdure.InProgress || info.Incarnation != a.Incarnation || info.Version == 0 {
		t.Errorf("got %+v, want t1 of gate, in progress", info)
	}
	if tn := info.Turn; tn.Number != 1 || tn.InputID != "i1" || tn.Entry != perdure.Fresh || tn.Attempt != 1 || tn.StartedAt.IsZero() {
		t.Errorf("turn: got %+v, want the first attempt of turn 1, fresh", tn)
	}
	if info.Lease == nil || info.Lease.Worker == "" || !info.CreatedAt.Equal(time.Now().Truncate(time.Microsecond)) {
		t.Errorf("got lease %+v, created %v, want a lease, created now", info.Lease, info.CreatedAt)
	}
}

func turn(t *testing.T, e *env) {
	e.outcome(t, e.start(t, request("chat", "t1", "i1", "one")))
	e.outcome(t, e.start(t, request("chat", "t1", "i2", "two")))
	for name, tt := range map[string]struct {
		q    perdure.TurnQuery
		want int64
	}{
		"number": {perdure.TurnQuery{TaskID: "t1", Turn: 1}, 1}, "input": {perdure.TurnQuery{TaskID: "t1", InputID: "i1"}, 1},
		"both": {perdure.TurnQuery{TaskID: "t1", Turn: 2, InputID: "i1"}, 2}, "current": {perdure.TurnQuery{TaskID: "t1"}, 2},
	} {
		got, err := e.client.Turn(t.Context(), tt.q)
		if err != nil || got.Number != tt.want || text(t, got.Input) == "" || text(t, got.Output) == "" || got.Incarnation == 0 {
			t.Errorf("by %s: got %+v, %v, want turn %d with input and output", name, got, err, tt.want)
		}
		tt.q.NoPayload = true
		got, err = e.client.Turn(t.Context(), tt.q)
		if err != nil || got.Number != tt.want || got.Input != nil || got.Output != nil {
			t.Errorf("by %s: got %+v, %v, want turn %d without input and output", name, got, err, tt.want)
		}
	}
}

func turns(t *testing.T, e *env) {
	for i := range 120 {
		e.outcome(t, e.start(t, request("chat", "t1", fmt.Sprintf("i%d", i), "x")))
	}
	for _, after := range []int64{0, 1, 99, 100, 119, 120, 200} {
		next := after
		for got, err := range e.client.Turns(t.Context(), "t1", &perdure.TurnsOptions{After: after}) {
			if next++; err != nil || got.Number != next {
				t.Fatalf("after %d: got %+v, %v, want turn %d", after, got, err, next)
			}
		}
		if next != max(120, after) {
			t.Errorf("after %d: the last was %d, want %d", after, next, max(120, after))
		}
	}
}

// ids lists task IDs.
func (e *env) ids(t *testing.T, opts *perdure.ListOptions) []string {
	t.Helper()
	var got []string
	for info, err := range e.client.Tasks(t.Context(), opts) {
		if err != nil {
			t.Fatalf("Tasks: %v", err)
		}
		got = append(got, info.ID)
	}
	return got
}

func tasks(t *testing.T, e *env) {
	for i, fn := range []string{"echo", "gate", "chat", "echo", "fail"} {
		req := request(fn, fmt.Sprintf("t%d", i), "i1", "x")
		req.Tags = map[string]string{"n:": fmt.Sprint(i % 2), "all": "a:b"}
		if i > 2 {
			req.Session = "late"
		}
		e.start(t, req)
	}
	synctest.Wait()
	second, err := e.client.Task(t.Context(), "t2")
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		opts *perdure.ListOptions
		want []string
	}{
		"nil":      {nil, []string{"t4", "t3", "t2", "t1", "t0"}},
		"funcs":    {&perdure.ListOptions{Funcs: []string{"echo", "chat"}}, []string{"t3", "t2", "t0"}},
		"statuses": {&perdure.ListOptions{Statuses: []perdure.Status{perdure.Suspended, perdure.Failed}}, []string{"t4", "t2"}},
		"session":  {&perdure.ListOptions{Session: "late"}, []string{"t4", "t3"}},
		"agent":    {&perdure.ListOptions{Agent: "nobody"}, nil},
		"tags":     {&perdure.ListOptions{Tags: map[string]string{"n:": "1", "all": "a:b"}}, []string{"t3", "t1"}},
		"limit":    {&perdure.ListOptions{Limit: 2}, []string{"t4", "t3"}},
		"before":   {&perdure.ListOptions{Before: second.Incarnation}, []string{"t1", "t0"}},
		"together": {&perdure.ListOptions{Funcs: []string{"echo"}, Tags: map[string]string{"n:": "1"}}, []string{"t3"}},
	} {
		if got := e.ids(t, tt.opts); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %v, want %v", name, got, tt.want)
		}
	}
}

func stable(t *testing.T, e *env) {
	var want []string
	for i := range 250 {
		e.start(t, request("echo", fmt.Sprintf("t%d", i), "i1", "x"))
		want = append([]string{fmt.Sprintf("t%d", i)}, want...)
	}
	synctest.Wait()
	var got []string
	for info, err := range e.client.Tasks(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		if len(got) == 10 {
			e.start(t, request("echo", "new", "i1", "x"))
		}
		got = append(got, info.ID)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %d tasks, want the 250 of the beginning, newest first", len(got))
	}
}

func waits(t *testing.T, e *env) {
	a := e.start(t, request("gate", "t1", "i1", "x"))
	go func() {
		advance(2 * time.Minute)
		e.open <- struct{}{}
	}()
	begin := time.Now()
	if o := e.outcome(t, a); o.Status != perdure.Completed {
		t.Errorf("got %+v, want completed", o)
	}
	if took := time.Since(begin); took < 2*time.Minute || took > 2*time.Minute+time.Second {
		t.Errorf("the outcome came after %v, want 2 minutes", took)
	}
}

func waitEnds(t *testing.T, e *env) {
	e.start(t, request("gate", "t1", "i1", "x"))
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	if o, err := e.client.Outcome(ctx, perdure.TurnQuery{TaskID: "t1"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %+v, %v, want the context's error", o, err)
	}
}

func currentOutcome(t *testing.T, e *env) {
	e.start(t, request("chat", "t1", "i1", "hold"))
	got := make(chan *perdure.Outcome, 1)
	go func() { got <- e.outcome(t, &perdure.Accepted{TaskID: "t1"}) }()
	advance(70 * time.Second) // several polls of a client that polls
	e.start(t, request("chat", "t1", "i2", "hold"))
	e.open <- struct{}{}
	if o := <-got; o.Turn != 1 {
		t.Errorf("got %+v, want the outcome of turn 1", o)
	}
	synctest.Wait()
	e.open <- struct{}{}
}

func failed(t *testing.T, e *env) {
	o := e.outcome(t, e.start(t, request("fail", "t1", "i1", "x")))
	if o.Status != perdure.Failed || o.Error == nil || o.Error.Message != "no luck" || o.Error.Attempts != 1 {
		t.Errorf("got %+v, want failed with the error", o)
	}
	if err := o.Err(); !errors.Is(err, perdure.ErrFailed) {
		t.Errorf("Err: got %v, want a failed turn", err)
	}
}

func notFound(t *testing.T, e *env) {
	e.start(t, request("echo", "here", "i1", "x"))
	ctx := t.Context()
	for _, id := range []string{"absent", "", "..", "a b", "a/../b"} {
		_, taskErr := e.client.Task(ctx, id)
		_, turnErr := e.client.Turn(ctx, perdure.TurnQuery{TaskID: id})
		_, outcomeErr := e.client.Outcome(ctx, perdure.TurnQuery{TaskID: id})
		_, cancelErr := e.client.Cancel(ctx, id, nil)
		_, terminateErr := e.client.Terminate(ctx, id, nil)
		_, resumeErr := e.client.Resume(ctx, id, nil)
		var turnsErr error
		for _, turnsErr = range e.client.Turns(ctx, id, nil) {
		}
		for i, err := range []error{taskErr, turnErr, outcomeErr, cancelErr, terminateErr, resumeErr, turnsErr} {
			if !errors.Is(err, perdure.ErrNotFound) {
				t.Errorf("call %d of %q: got %v, want ErrNotFound", i, id, err)
			}
		}
		if err := e.client.Delete(ctx, id, nil); err != nil {
			t.Errorf("Delete %q: got %v, want nil", id, err)
		}
	}
	for _, q := range []perdure.TurnQuery{{TaskID: "here", Turn: 9}, {TaskID: "here", Turn: -1}, {TaskID: "here", InputID: "i9"}} {
		if _, err := e.client.Turn(ctx, q); !errors.Is(err, perdure.ErrNotFound) {
			t.Errorf("Turn %+v: got %v, want ErrNotFound", q, err)
		}
	}
}

func otherIncarnation(t *testing.T, e *env) {
	ctx := t.Context()
	old := e.start(t, request("gate", "t1", "i1", "x"))
	if err := e.client.Delete(ctx, "t1", nil); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	e.start(t, request("gate", "t1", "i1", "x"))
	q := perdure.TurnQuery{TaskID: "t1", Incarnation: old.Incarnation, Turn: 1}
	_, turnErr := e.client.Turn(ctx, q)
	_, inputErr := e.client.Turn(ctx, perdure.TurnQuery{TaskID: "t1", Incarnation: old.Incarnation, InputID: "i1"})
	_, outcomeErr := e.client.Outcome(ctx, q)
	_, cancelErr := e.client.Cancel(ctx, "t1", &perdure.CancelOptions{Turn: 1, Incarnation: old.Incarnation})
	_, terminateErr := e.client.Terminate(ctx, "t1", &perdure.TerminateOptions{Incarnation: old.Incarnation})
	for i, err := range []error{turnErr, inputErr, outcomeErr, cancelErr, terminateErr} {
		if !errors.Is(err, perdure.ErrDeleted) {
			t.Errorf("call %d: got %v, want ErrDeleted", i, err)
		}
	}
	if err := e.client.Delete(ctx, "t1", &perdure.DeleteOptions{Incarnation: old.Incarnation}); err != nil {
		t.Errorf("Delete of the old one: got %v, want nil", err)
	}
	if info, err := e.client.Task(ctx, "t1"); err != nil || info.Status != perdure.InProgress {
		t.Errorf("the new one: got %+v, %v, want it untouched", info, err)
	}
}
