package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/store"
)

// Script says what the handler of an input does: Steps checkpoints, each after a Pause and with an event before
// it; an event more; then the rest.
type Script struct {
	Steps   int           `json:"steps,omitempty"`
	Pause   time.Duration `json:"pause,omitempty"`
	Fail    int           `json:"fail,omitempty"`    // how many attempts fail
	Suspend bool          `json:"suspend,omitempty"` // leave by Suspend
	Finish  bool          `json:"finish,omitempty"`  // leave by Finish
	Release int           `json:"release,omitempty"` // leave by Release until it was re-entered so often
	Deaf    bool          `json:"deaf,omitempty"`    // ignore the interrupt
	Stay    bool          `json:"stay,omitempty"`    // wait for the interrupt after the steps
}

func (s Script) json() json.RawMessage {
	b, err := json.Marshal(s)
	if err != nil {
		return nil
	}
	return b
}

// Done is what a script returns: how many of its steps are in the metadata, which must be all of them.
type Done struct {
	Steps int `json:"steps"`
}

// Funcs that a world runs.
const (
	Job  = "job"  // ordinary, retried
	Talk = "talk" // multi-turn and steerable
	Ask  = "ask"  // ordinary, steerable
)

// Journal knows every handler entry, every accepted input, and every outcome that was told.
type Journal struct {
	t *testing.T

	mu      sync.Mutex
	live    map[int64][]*visit // by incarnation: handlers that have not returned
	entries int
	streams int // of turns that have completed, compared
	inputs  map[key]*perdure.Accepted
	answers map[key]*perdure.Outcome
	errs    map[key]error
}

type key struct {
	incarnation int64
	turn        int64
}

type visit struct {
	ctx   context.Context
	epoch int64
}

func newJournal(t *testing.T) *Journal {
	return &Journal{t: t, live: map[int64][]*visit{}, inputs: map[key]*perdure.Accepted{},
		answers: map[key]*perdure.Outcome{}, errs: map[key]error{}}
}

func (j *Journal) bindings() []perdure.Binding {
	retry := perdure.ExponentialRetry(4)
	return []perdure.Binding{
		perdure.NewFunc[Script, Done](Job, &perdure.FuncOptions[Script]{Retry: retry, Timeout: time.Hour}).Bind(j.handle),
		perdure.NewFunc[Script, Done](Talk, &perdure.FuncOptions[Script]{Retry: retry, MultiTurn: true, Steerable: true}).Bind(j.handle),
		perdure.NewFunc[Script, Done](Ask, &perdure.FuncOptions[Script]{Retry: retry, Steerable: true}).Bind(j.handle),
	}
}

// handle is the handler of all funcs: it follows the script, counting steps in the metadata.
func (j *Journal) handle(ctx context.Context, turn *perdure.Turn[Script, Done]) (Done, error) {
	leave := j.enter(ctx, turn.Scope)
	defer leave()
	s := turn.Input()
	steps, err := j.steps(ctx, turn)
	if err != nil {
		return Done{}, err
	}
	if s.Stay {
		<-turn.Interrupt().Done()
		return Done{}, context.Cause(turn.Interrupt())
	}
	switch done := (Done{steps}); {
	case turn.Attempt() <= s.Fail:
		return Done{}, fmt.Errorf("attempt %d fails", turn.Attempt())
	case turn.Recoveries() < s.Release:
		return turn.Release()
	case s.Suspend:
		return turn.Suspend(done, "asked to")
	case s.Finish:
		return turn.Finish(done)
	default:
		return done, nil
	}
}

func (j *Journal) steps(ctx context.Context, turn *perdure.Turn[Script, Done]) (int, error) {
	s := turn.Input()
	name := fmt.Sprintf("steps-%d", turn.Number())
	steps := 0
	if _, err := turn.Metadata().Get(name, &steps); err != nil {
		return 0, err
	}
	interrupt := turn.Interrupt()
	if s.Deaf {
		interrupt = ctx
	}
	for steps < s.Steps {
		select {
		case <-time.After(s.Pause):
		case <-interrupt.Done():
			return 0, context.Cause(interrupt)
		}
		n, err := turn.Metadata().Increment(name, 1)
		if err != nil {
			return 0, err
		}
		if err := errors.Join(turn.Emit(ctx, n), turn.Checkpoint(ctx)); err != nil {
			return 0, err
		}
		steps = int(n)
	}
	return steps, turn.Emit(ctx, lastWord) // taken back if the try does not come to its end
}

// lastWord is the event after the last step.
const lastWord = "done"

// said returns what the committed view of a turn that has completed must be: that of a run without crashes.
func (s Script) said() string {
	text := ""
	for n := range s.Steps {
		text += fmt.Sprintf("%d ", n+1)
	}
	return text + fmt.Sprintf("%q ", lastWord)
}

// enter checks that no other handler of the task may write.
func (j *Journal) enter(ctx context.Context, s *perdure.Scope) (leave func()) {
	me := &visit{ctx, s.Epoch()}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, other := range j.live[s.Incarnation()] {
		if other.ctx.Err() == nil {
			j.t.Errorf("O1: task %s is entered with epoch %d while the handler of epoch %d runs", s.TaskID(), me.epoch, other.epoch)
		}
	}
	j.live[s.Incarnation()] = append(j.live[s.Incarnation()], me)
	j.entries++
	return func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		rest := j.live[s.Incarnation()][:0:0]
		for _, v := range j.live[s.Incarnation()] {
			if v != me {
				rest = append(rest, v)
			}
		}
		j.live[s.Incarnation()] = rest
	}
}

func (j *Journal) accepted(a *perdure.Accepted) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.inputs[key{a.Incarnation, a.Turn}] = a
}

// told notes what a caller heard. Two callers of one turn must hear the same.
func (j *Journal) told(a *perdure.Accepted, o *perdure.Outcome, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	k := key{a.Incarnation, a.Turn}
	j.errs[k] = err
	if err != nil {
		if !errors.Is(err, perdure.ErrDeleted) && !errors.Is(err, perdure.ErrParked) {
			j.t.Errorf("turn %d of %s: no outcome: %v", a.Turn, a.TaskID, err)
		}
		return
	}
	if before := j.answers[k]; before != nil && before.Status != o.Status {
		j.t.Errorf("turn %d of %s was told as %s and as %s", a.Turn, a.TaskID, before.Status, o.Status)
	}
	j.answers[k] = o
}

// outcome returns what the callers of an input were told; nil if nothing.
func (j *Journal) outcome(task, input string) *perdure.Outcome {
	j.mu.Lock()
	defer j.mu.Unlock()
	var last *perdure.Outcome
	for _, o := range j.answers {
		if o.TaskID == task && o.InputID == input {
			last = o
		}
	}
	return last
}

// check holds what callers were told beside what is stored, and looks at every record.
func (j *Journal) check(st store.Store) {
	ctx := context.Background()
	j.mu.Lock()
	defer j.mu.Unlock()
	for k, a := range j.inputs {
		turn, err := st.Turn(ctx, store.TurnQuery{TaskID: a.TaskID, Incarnation: k.incarnation, Number: k.turn})
		told := j.answers[k]
		switch {
		case errors.Is(err, store.ErrDeleted):
		case err != nil:
			j.t.Errorf("accepted turn %d of %s is lost: %v", k.turn, a.TaskID, err)
		case told != nil && told.Status != turn.Status:
			j.t.Errorf("turn %d of %s was told as %s and is stored as %s", k.turn, a.TaskID, told.Status, turn.Status)
		case told != nil && told.Status == perdure.Completed:
			j.checkSteps(a, told, st)
		}
	}
	streams := map[int64]map[int64]string{} // committed messages by incarnation and turn
	tasks, err := st.List(ctx, store.ListQuery{Limit: 1 << 20})
	if err != nil {
		j.t.Error(err)
	}
	for _, t := range tasks {
		if problem := illegal(t); problem != "" {
			j.t.Errorf("task %s (%s): %s", t.ID, t.Status, problem)
		}
		streams[t.Incarnation] = j.checkStream(t, st)
	}
	for k, told := range j.answers {
		if said, there := streams[k.incarnation]; there && told.Status == perdure.Completed {
			j.checkSaid(told, k, said[k.turn], st)
		}
	}
}

// checkStream reads a task's whole stream in both views. Its numbers have no gap, and with the rewinds applied the
// one is the other. It returns the messages of each turn.
func (j *Journal) checkStream(t *store.Task, st store.Store) map[int64]string {
	raw, committed := j.events(t, st, false), j.events(t, st, true)
	var stands []store.Event
	for i, e := range raw {
		if e.Number != int64(i)+1 {
			j.t.Errorf("E1: task %s: event %d has number %d", t.ID, i+1, e.Number)
		}
		switch e.Kind {
		case store.EventRewind:
			stands = slices.DeleteFunc(stands, func(m store.Event) bool { return m.Kind == store.EventMessage && m.Number > e.To })
		default:
			if e.Number <= t.Mark {
				stands = append(stands, e)
			}
		}
	}
	same := func(a, b store.Event) bool {
		return a.Number == b.Number && a.Kind == b.Kind && string(a.Data) == string(b.Data)
	}
	if !slices.EqualFunc(stands, committed, same) {
		j.t.Errorf("E2: task %s: the stream with its rewinds applied is not the committed view:\n%v\n%v", t.ID, stands, committed)
	}
	said := map[int64]string{}
	for _, e := range committed {
		if e.Kind == store.EventMessage {
			said[e.Turn] += string(e.Data) + " "
		}
	}
	return said
}

func (j *Journal) events(t *store.Task, st store.Store, committed bool) (all []store.Event) {
	for after := int64(0); ; {
		page, err := st.Events(context.Background(), store.EventsQuery{TaskID: t.ID, Incarnation: t.Incarnation, After: after, Limit: 7, Committed: committed})
		if err != nil {
			j.t.Errorf("events of %s: %v", t.ID, err)
			return nil
		}
		if all = append(all, page.Events...); page.Next == after {
			return all
		}
		after = page.Next
	}
}

// checkSaid holds the committed view of a turn that has completed beside that of a run without crashes.
func (j *Journal) checkSaid(o *perdure.Outcome, k key, got string, st store.Store) {
	turn, err := st.Turn(context.Background(), store.TurnQuery{TaskID: o.TaskID, Incarnation: k.incarnation, Number: k.turn, Payload: true})
	var s Script
	if err := errors.Join(err, json.Unmarshal(turn.Input, &s)); err != nil {
		j.t.Error(err)
		return
	}
	if want := s.said(); got != want {
		j.t.Errorf("E2: turn %d of %s: the committed view is %q, without crashes it is %q", k.turn, o.TaskID, got, want)
	}
	j.streams++
}

// checkSteps holds the steps that a handler reported beside its input (R6).
func (j *Journal) checkSteps(a *perdure.Accepted, o *perdure.Outcome, st store.Store) {
	turn, err := st.Turn(context.Background(), store.TurnQuery{TaskID: a.TaskID, Incarnation: a.Incarnation, Number: a.Turn, Payload: true})
	if err != nil {
		j.t.Error(err)
		return
	}
	var s Script
	var d Done
	if err := errors.Join(json.Unmarshal(turn.Input, &s), json.Unmarshal(o.Output, &d)); err != nil {
		j.t.Error(err)
	}
	if d.Steps != s.Steps {
		j.t.Errorf("R6: turn %d of %s reports %d steps of %d", a.Turn, a.TaskID, d.Steps, s.Steps)
	}
}

// illegal says what is wrong with a record, if anything.
func illegal(t *store.Task) string {
	idle := t.Status.Terminal() || t.Status == store.Suspended || t.Status == store.Parked
	switch {
	case idle && (t.Worker != "" || !t.DueAt.IsZero()):
		return "it is leased or due"
	case (t.Status.Terminal() || t.Status == store.Suspended) && t.Queued > 0:
		return "T1: inputs are queued"
	case (t.Status.Terminal() || t.Status == store.Suspended) && !t.Turn.Ended:
		return "its turn has not ended"
	case t.Status == store.InProgress && t.Worker == "" && t.DueAt.IsZero():
		return "nobody runs it and nobody will"
	case t.Status == store.Pending && t.DueAt.IsZero():
		return "it waits for ever"
	case t.Status.Terminal() && t.EndedAt.IsZero():
		return "it has no end time"
	case t.Queued < 0 || t.Nudging < 0 || t.Nudging > t.Queued:
		return "its queue is counted wrong"
	}
	return ""
}
