package clienttest

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure"
)

func startTests() []test {
	return []test{
		{"S1 an absent task is created and its output delivered", created},
		{"S1 a suspended task is resumed", resumed},
		{"S1 a running turn of a steerable func is steered", steered},
		{"S1 a running task of another func conflicts", conflict},
		{"S1 attach gives the running turn's handle", attached},
		{"S1 another func conflicts and names the task's", otherFunc},
		{"S1 a func that nobody declared is unknown", unknownFunc},
		{"S2 the same input ID is the same input", known},
		{"S2 the same input ID with another input is a mismatch", mismatch},
		{"S3 IfLastInputID is checked", precondition},
		{"S4 of 50 concurrent starts one creates", concurrent},
		{"S4 50 concurrent starts that attach share one turn", concurrentAttach},
		{"S5 IDs are given, and bad ones refused", identifiers},
		{"S6 an input that is not the func's is refused", badInput},
		{"S6 an input over the limit is too large", tooLarge},
		{"G2 a full queue refuses", queueFull},
		{"H1 a server that shuts down refuses starts", shutdown},
		{"typed funcs work through the client", typed},
	}
}

func created(t *testing.T, e *env) {
	a := e.start(t, request("echo", "t1", "i1", "<hello>"))
	if !a.Created || a.Known || a.Attached || a.Queued || a.TaskID != "t1" || a.InputID != "i1" || a.Turn != 1 || a.Incarnation == 0 {
		t.Errorf("accepted: got %+v, want turn 1 of t1, created", a)
	}
	o := e.outcome(t, a)
	if o.Status != perdure.Completed || text(t, o.Output) != "<hello>" || o.TaskID != "t1" || o.InputID != "i1" || o.Turn != 1 {
		t.Errorf("outcome: got %+v, want completed with the input", o)
	}
}

func resumed(t *testing.T, e *env) {
	e.outcome(t, e.start(t, request("chat", "t1", "i1", "one")))
	a := e.start(t, request("chat", "t1", "i2", "two"))
	if a.Created || a.Queued || a.Turn != 2 {
		t.Errorf("accepted: got %+v, want turn 2, neither created nor queued", a)
	}
	if o := e.outcome(t, a); text(t, o.Output) != "two" {
		t.Errorf("output: got %s, want two", o.Output)
	}
}

func steered(t *testing.T, e *env) {
	first := e.start(t, request("chat", "t1", "i1", "hold"))
	a := e.start(t, request("chat", "t1", "i2", "two"))
	if !a.Queued || a.Turn != 2 || a.Status != perdure.Queued {
		t.Errorf("accepted: got %+v, want turn 2, queued", a)
	}
	e.open <- struct{}{}
	if o := e.outcome(t, first); !o.Superseded || o.Status != perdure.Completed {
		t.Errorf("first outcome: got %+v, want completed and superseded", o)
	}
	if o := e.outcome(t, a); o.Superseded || text(t, o.Output) != "two" {
		t.Errorf("second outcome: got %+v, want two, not superseded", o)
	}
}

func conflict(t *testing.T, e *env) {
	e.start(t, request("gate", "t1", "i1", ""))
	_, err := e.client.Start(t.Context(), request("gate", "t1", "i2", ""))
	c, ok := errors.AsType[*perdure.ConflictError](err)
	if !ok || c.Status != perdure.InProgress || c.TaskID != "t1" || c.Func != "" {
		t.Errorf("got %v, want a ConflictError of t1, in_progress", err)
	}
}

func attached(t *testing.T, e *env) {
	e.start(t, request("gate", "t1", "i1", "one"))
	req := request("gate", "t1", "i2", "two")
	req.IfExists = perdure.Attach
	a := e.start(t, req)
	if !a.Attached || a.InputID != "i1" || a.Turn != 1 {
		t.Errorf("accepted: got %+v, want the handle of i1, attached", a)
	}
	e.open <- struct{}{}
	if o := e.outcome(t, a); text(t, o.Output) != "one" {
		t.Errorf("output: got %s, want one", o.Output)
	}
	if a = e.start(t, req); !a.Attached || a.Status != perdure.Completed {
		t.Errorf("accepted after the end: got %+v, want the handle of i1", a)
	}
}

func otherFunc(t *testing.T, e *env) {
	e.start(t, request("gate", "t1", "i1", ""))
	_, err := e.client.Start(t.Context(), request("echo", "t1", "i1", ""))
	if c, ok := errors.AsType[*perdure.ConflictError](err); !ok || c.Func != "gate" || c.TaskID != "t1" {
		t.Errorf("got %v, want a ConflictError of t1 that names gate", err)
	}
}

func unknownFunc(t *testing.T, e *env) {
	e.refused(t, request("nobody", "t1", "i1", ""), perdure.ErrUnknownFunc)
	if _, err := e.client.Task(t.Context(), "t1"); !errors.Is(err, perdure.ErrNotFound) {
		t.Errorf("Task: got %v, want ErrNotFound: a refused start leaves nothing", err)
	}
}

func known(t *testing.T, e *env) {
	first := e.start(t, request("echo", "t1", "i1", "one"))
	e.outcome(t, first)
	again := e.start(t, request("echo", "t1", "i1", "one"))
	if !again.Known || again.Created || again.Turn != 1 || again.Incarnation != first.Incarnation {
		t.Errorf("accepted again: got %+v, want the known turn 1", again)
	}
	if o := e.outcome(t, again); text(t, o.Output) != "one" || e.entries.Load() != 1 {
		t.Errorf("got %+v after %d entries, want the same outcome after one", o, e.entries.Load())
	}
}

func mismatch(t *testing.T, e *env) {
	e.start(t, request("echo", "t1", "i1", "one"))
	err := e.refused(t, request("echo", "t1", "i1", "secret"), perdure.ErrInputMismatch)
	if err != nil && strings.Contains(err.Error(), "secret") {
		t.Errorf("the message quotes the input: %v", err)
	}
}

func precondition(t *testing.T, e *env) {
	req := request("chat", "t1", "i1", "one")
	req.IfLastInputID = "none" // there is none yet: it passes
	e.outcome(t, e.start(t, req))
	req = request("chat", "t1", "i2", "two")
	req.IfLastInputID = "i0"
	_, err := e.client.Start(t.Context(), req)
	if p, ok := errors.AsType[*perdure.PreconditionError](err); !ok || p.Actual != "i1" || p.TaskID != "t1" {
		t.Errorf("got %v, want a PreconditionError of t1 with i1", err)
	}
	req.IfLastInputID = "i1"
	e.start(t, req)
}

// race starts one task 50 times at once and counts what came of it.
func race(t *testing.T, e *env, ifExists perdure.IfExists) (created, attached, conflicts int64) {
	var wg sync.WaitGroup
	var made, joined, refused atomic.Int64
	for range 50 {
		wg.Go(func() {
			req := request("gate", "t1", "", "")
			req.IfExists = ifExists
			a, err := e.client.Start(t.Context(), req)
			_, isConflict := errors.AsType[*perdure.ConflictError](err)
			switch {
			case err == nil && a.Created:
				made.Add(1)
			case err == nil && a.Attached:
				joined.Add(1)
			case isConflict:
				refused.Add(1)
			default:
				t.Errorf("Start: got %+v, %v", a, err)
			}
		})
	}
	wg.Wait()
	synctest.Wait()
	return made.Load(), joined.Load(), refused.Load()
}

func concurrent(t *testing.T, e *env) {
	created, attached, conflicts := race(t, e, "")
	if created != 1 || attached != 0 || conflicts != 49 || e.entries.Load() != 1 {
		t.Errorf("got %d created, %d attached, %d conflicts, %d entries, want 1, 0, 49, 1", created, attached, conflicts, e.entries.Load())
	}
}

func concurrentAttach(t *testing.T, e *env) {
	created, attached, conflicts := race(t, e, perdure.Attach)
	if created != 1 || attached != 49 || conflicts != 0 || e.entries.Load() != 1 {
		t.Errorf("got %d created, %d attached, %d conflicts, %d entries, want 1, 49, 0, 1", created, attached, conflicts, e.entries.Load())
	}
}

func identifiers(t *testing.T, e *env) {
	a := e.start(t, request("echo", "", "", "x"))
	if len(a.TaskID) != 36 || len(a.InputID) != 36 || a.TaskID == a.InputID {
		t.Errorf("got IDs %q and %q, want two UUIDs", a.TaskID, a.InputID)
	}
	for _, id := range []string{"with space", "..", ".", "-x", "a/b", "ä", strings.Repeat("x", 300), "a\x00"} {
		e.refused(t, request("echo", id, "i1", "x"), perdure.ErrInvalid)
		e.refused(t, request("echo", "t1", id, "x"), perdure.ErrInvalid)
		e.refused(t, request(id, "t1", "i1", "x"), perdure.ErrInvalid)
		if _, err := e.client.Task(t.Context(), id); !errors.Is(err, perdure.ErrNotFound) {
			t.Errorf("Task %.20q: got %v, want ErrNotFound", id, err)
		}
	}
	e.start(t, request("echo", "a.b:c_d-e", strings.Repeat("x", 128), "x"))
}

func badInput(t *testing.T, e *env) {
	for _, input := range []string{``, ` `, `{`, `NaN`, `{"text":1}`, `{"text":"a","more":1}`, `[]`, `{"text":"a"} {}`, "{\"text\":\"\xff\"}"} {
		req := request("echo", "t1", "i1", "")
		req.Input = json.RawMessage(input)
		e.refused(t, req, perdure.ErrInvalid)
	}
	req := request("echo", "t1", "i1", "")
	req.IfExists = "what"
	e.refused(t, req, perdure.ErrInvalid)
	req.IfExists, req.Deliver = "", "what"
	e.refused(t, req, perdure.ErrInvalid)
	req.Deliver, req.Retry = "", &perdure.RetryPolicy{Attempts: -1}
	e.refused(t, req, perdure.ErrInvalid)
	req.Retry = &perdure.RetryPolicy{Attempts: 3, Initial: time.Second, Factor: 2}
	e.start(t, req)
}

func tooLarge(t *testing.T, e *env) {
	for _, mib := range []int{10, 20} {
		req := request("echo", "t1", "i1", "")
		req.Input = bytes.Join([][]byte{[]byte(`{"text":"`), bytes.Repeat([]byte("x"), mib<<20), []byte(`"}`)}, nil)
		e.refused(t, req, perdure.ErrTooLarge)
	}
}

func queueFull(t *testing.T, e *env) {
	e.start(t, request("chat", "t1", "i1", "hold"))
	e.start(t, request("chat", "t1", "i2", "two"))
	e.start(t, request("chat", "t1", "i3", "three"))
	e.refused(t, request("chat", "t1", "i4", "four"), perdure.ErrQueueFull)
	e.open <- struct{}{}
}

func shutdown(t *testing.T, e *env) {
	a := e.start(t, request("echo", "t1", "i1", "one"))
	e.outcome(t, a)
	e.stop()
	e.refused(t, request("echo", "t2", "i1", "x"), perdure.ErrShuttingDown)
	if o := e.outcome(t, a); o.Status != perdure.Completed {
		t.Errorf("reading after the shutdown: got %+v, want the outcome", o)
	}
}

func typed(t *testing.T, e *env) {
	r, err := chat.Run(t.Context(), e.client, Note{Text: "hi"}, &perdure.StartOptions{TaskID: "t1"})
	if err != nil || r.Output.Text != "hi" {
		t.Errorf("Run: got %+v, %v, want hi", r, err)
	}
	h, err := chat.Attach(t.Context(), e.client, "t1", nil)
	if err != nil {
		t.Fatal(err)
	}
	if r, err = h.Result(t.Context()); err != nil || r.Output.Text != "hi" || r.Status != perdure.Completed {
		t.Errorf("Result of the attached handle: got %+v, %v, want hi", r, err)
	}
}
