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

// Journal knows every handler entry, every accepted input, and every outcome that was told, and holds them against what
// is stored.
type Journal struct {
	t     *testing.T
	store store.Store // as it is: nothing of it is broken

	mu           sync.Mutex
	live         map[int64][]*visit // by incarnation: handlers that have not returned
	entries      int
	streams      int // of turns that have completed, compared
	inputs       map[key]*perdure.Accepted
	answers      map[key]*perdure.Outcome
	errs         map[key]error
	turns        map[key]*turnLog
	disturbances []time.Time // when what may have a turn entered again has happened: deaths, ends of engines, broken calls
	requests     int
	offers       map[string]time.Time // by task and input: when it was first offered
}

type key struct {
	incarnation int64
	turn        int64
}

type visit struct {
	ctx   context.Context
	epoch int64
}

// turnLog is what happened to a turn.
type turnLog struct {
	task    string
	script  Script
	entries int
	failed  int // how often a handler failed as its script says
	offered time.Time
}

func newJournal(t *testing.T, st store.Store) *Journal {
	return &Journal{t: t, store: st, live: map[int64][]*visit{}, inputs: map[key]*perdure.Accepted{},
		answers: map[key]*perdure.Outcome{}, errs: map[key]error{}, turns: map[key]*turnLog{}, offers: map[string]time.Time{}}
}

// offering notes that an input is about to be offered.
func (j *Journal) offering(task, input string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if at := task + "/" + input; j.offers[at].IsZero() {
		j.offers[at] = time.Now()
	}
}

// disturbedSince counts what may have had a turn entered again since it was offered: an answer that never comes may have
// been asked for before that. j.mu is held.
func (j *Journal) disturbedSince(offered time.Time) int {
	n := 0
	for _, at := range j.disturbances {
		if at.After(offered.Add(-3 * lease)) {
			n++
		}
	}
	return n
}

// disturbed notes that something has happened after which turns may be entered again.
func (j *Journal) disturbed() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.disturbances = append(j.disturbances, time.Now())
}

func (j *Journal) requestID() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.requests++
	return fmt.Sprint("r", j.requests)
}

// rooms are the handlers that run in one process, by func.
type rooms struct {
	mu    sync.Mutex
	count map[string]int
	tasks map[string]bool // whose handlers have not returned
}

// room bounds the handlers of one func in one process.
type room struct {
	all  *rooms
	fn   string
	most int
}

func (j *Journal) newProcess() *rooms {
	return &rooms{count: map[string]int{}, tasks: map[string]bool{}}
}

func (r *rooms) of(fn string, most int) *room { return &room{r, fn, most} }

// enter checks that a handler of the func may be entered in this process: there is room, and no earlier handler of the
// task is inside.
func (r *room) enter(j *Journal, s *perdure.Scope) (leave func()) {
	r.all.mu.Lock()
	defer r.all.mu.Unlock()
	r.all.count[r.fn]++
	if n := r.all.count[r.fn]; r.most > 0 && n > r.most {
		j.t.Errorf("limits: %d handlers of %s in one process, of %d", n, r.fn, r.most)
	}
	if r.all.tasks[s.TaskID()] {
		j.t.Errorf("O1: task %s is entered in a process in which an earlier handler of it has not returned", s.TaskID())
	}
	r.all.tasks[s.TaskID()] = true
	return func() {
		r.all.mu.Lock()
		defer r.all.mu.Unlock()
		r.all.count[r.fn]--
		delete(r.all.tasks, s.TaskID())
	}
}

// enter checks that no other handler of the task may write.
func (j *Journal) enter(ctx context.Context, s *perdure.Scope) (leave func()) {
	me := &visit{ctx, s.Epoch()}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.alone(s, me)
	j.live[s.Incarnation()] = append(j.live[s.Incarnation()], me)
	j.entries++
	log := j.log(s)
	log.entries++
	if s.Entry() == perdure.Fresh && log.entries > 1+log.failed {
		j.t.Errorf("fresh: turn %d of %s is entered %d times as fresh, and failed %d times", s.Number(), s.TaskID(), log.entries, log.failed)
	}
	return func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.alone(s, me)
		j.live[s.Incarnation()] = slices.DeleteFunc(slices.Clone(j.live[s.Incarnation()]), func(v *visit) bool { return v == me })
	}
}

// alone checks that the ctx of no other handler of a task is alive while this one's is.
func (j *Journal) alone(s *perdure.Scope, me *visit) {
	for _, other := range j.live[s.Incarnation()] {
		if other != me && me.ctx.Err() == nil && other.ctx.Err() == nil {
			j.t.Errorf("O1: task %s has two handlers whose contexts are alive, of epochs %d and %d", s.TaskID(), me.epoch, other.epoch)
		}
	}
}

// log returns the log of a turn. j.mu is held.
func (j *Journal) log(s *perdure.Scope) *turnLog {
	k := key{s.Incarnation(), s.Number()}
	if j.turns[k] == nil {
		j.turns[k] = &turnLog{task: s.TaskID(), offered: j.offers[s.TaskID()+"/"+s.InputID()]}
	}
	return j.turns[k]
}

// failing notes that a handler is about to fail, as its script says: nothing else makes a failure.
func (j *Journal) failing(s *perdure.Scope) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.log(s).failed++
}

func (j *Journal) accepted(a *perdure.Accepted) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.inputs[key{a.Incarnation, a.Turn}] = a
}

// told notes what a caller heard: what is stored at that moment, and what every other caller of the turn hears.
func (j *Journal) told(a *perdure.Accepted, o *perdure.Outcome, err error) {
	stored, gone := j.store.Turn(context.Background(), store.TurnQuery{TaskID: a.TaskID, Incarnation: a.Incarnation, Number: a.Turn})
	j.mu.Lock()
	defer j.mu.Unlock()
	k := key{a.Incarnation, a.Turn}
	j.errs[k] = err
	if err != nil {
		if errors.Is(err, perdure.ErrDeleted) {
			if gone == nil {
				j.t.Errorf("turn %d of %s is told to be deleted, and is there", a.Turn, a.TaskID)
			}
			return
		}
		if !errors.Is(err, perdure.ErrParked) && !errors.Is(err, perdure.ErrNotFound) {
			task, _ := j.store.Get(context.Background(), a.TaskID)
			workers, _ := j.store.Workers(context.Background())
			j.t.Errorf("turn %d of %s: no outcome: %v; the turn is %+v, its task %+v, the workers %+v", a.Turn, a.TaskID, err, stored, task, workers)
		}
		return
	}
	if gone == nil && stored.Status != o.Status {
		j.t.Errorf("T2: turn %d of %s is told as %s, and stored as %s at that moment", a.Turn, a.TaskID, o.Status, stored.Status)
	}
	if before := j.answers[k]; before != nil && before.Status != o.Status {
		j.t.Errorf("turn %d of %s was told as %s and as %s", a.Turn, a.TaskID, before.Status, o.Status)
	}
	if o.Status == perdure.Failed && (j.turns[k] == nil || j.turns[k].failed == 0) {
		j.t.Errorf("turn %d of %s has failed (%v), and no handler of it has", a.Turn, a.TaskID, o.Error)
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
func (j *Journal) check() {
	ctx := context.Background()
	j.mu.Lock()
	defer j.mu.Unlock()
	for k, a := range j.inputs {
		turn, err := j.store.Turn(ctx, store.TurnQuery{TaskID: a.TaskID, Incarnation: k.incarnation, Number: k.turn, Input: true})
		told := j.answers[k]
		switch {
		case errors.Is(err, store.ErrDeleted), errors.Is(err, store.ErrNotFound) && j.pruned(a):
		case err != nil:
			j.t.Errorf("accepted turn %d of %s is lost: %v", k.turn, a.TaskID, err)
		case told != nil && told.Status != turn.Status:
			j.t.Errorf("turn %d of %s was told as %s and is stored as %s", k.turn, a.TaskID, told.Status, turn.Status)
		default:
			j.checkTurn(k, turn, told)
		}
	}
	tasks, err := allTasks(ctx, j.store)
	if err != nil {
		j.t.Error(err)
	}
	for _, t := range tasks {
		if problem := illegal(t); problem != "" {
			j.t.Errorf("task %s (%s): %s", t.ID, t.Status, problem)
		}
		if t.Due && t.Func != Renamed {
			j.t.Errorf("task %s (%s, %s) is due, and nobody takes it", t.ID, t.Func, t.Status)
		}
		j.checkQueue(t)
		j.checkStream(t)
	}
}

// pruned reports whether a turn may have been forgotten because its task has had others since.
func (j *Journal) pruned(a *perdure.Accepted) bool {
	t, err := j.store.Get(context.Background(), a.TaskID)
	return err == nil && t.Settings.KeepTurns > 0 && t.LastTurn-a.Turn >= int64(t.Settings.KeepTurns)
}

// checkTurn holds a turn against what happened to it.
func (j *Journal) checkTurn(k key, turn *store.Turn, told *perdure.Outcome) {
	log := j.turns[k]
	if log == nil {
		return
	}
	s := j.script(turn)
	disturbed := j.disturbedSince(log.offered)
	explained := 1 + log.failed + s.Release + disturbed
	if log.entries > explained {
		j.t.Errorf("turn %d of %s was entered %d times; %d failures, %d releases and %d disturbances explain %d", k.turn, turn.TaskID,
			log.entries, log.failed, s.Release, disturbed, explained)
	}
	if turn.Attempt > 1+log.failed {
		j.t.Errorf("T3: turn %d of %s counts %d attempts, and its handlers have failed %d times", k.turn, turn.TaskID, turn.Attempt, log.failed)
	}
	if most := s.Release + disturbed; turn.Recoveries > most {
		j.t.Errorf("R4: turn %d of %s counts %d recoveries, and %d are explained", k.turn, turn.TaskID, turn.Recoveries, most)
	}
	if told != nil && told.Status == perdure.Completed {
		j.checkSteps(turn, told, s)
	}
}

// script reads what a turn was to do.
func (j *Journal) script(turn *store.Turn) (s Script) {
	plain, err := (&codec{}).Decode("", turn.Input)
	if err := errors.Join(err, json.Unmarshal(plain, &s)); err != nil {
		j.t.Error(err)
	}
	return s
}

// checkSteps holds the steps that a handler reported beside its input (R6).
func (j *Journal) checkSteps(turn *store.Turn, o *perdure.Outcome, s Script) {
	var d Done
	if err := json.Unmarshal(o.Output, &d); err != nil {
		j.t.Error(err)
	}
	if d.Steps != s.Steps {
		j.t.Errorf("R6: turn %d of %s reports %d steps of %d", turn.Number, turn.TaskID, d.Steps, s.Steps)
	}
}

// checkQueue counts again what waits behind a task's turn.
func (j *Journal) checkQueue(t *store.Task) {
	queued, nudging := 0, 0
	for q := (store.TurnsQuery{TaskID: t.ID, Limit: 100}); ; {
		page, err := j.store.Turns(context.Background(), q)
		if err != nil {
			j.t.Errorf("turns of %s: %v", t.ID, err)
			return
		}
		for _, turn := range page.Turns {
			q.After = turn.Number
			if turn.Status == store.TurnQueued {
				queued++
				if turn.Deliver != store.DeliverEnqueue {
					nudging++
				}
			}
		}
		if !page.More {
			break
		}
	}
	if queued != t.Queued || nudging != t.Nudging {
		j.t.Errorf("task %s counts %d queued and %d of them nudging; there are %d and %d", t.ID, t.Queued, t.Nudging, queued, nudging)
	}
}

// allTasks reads all tasks, page by page.
func allTasks(ctx context.Context, st store.Store) (all []*store.Task, err error) {
	for q := (store.ListQuery{Limit: 500}); ; {
		page, err := st.List(ctx, q)
		if err != nil || len(page.Tasks) == 0 {
			return all, err
		}
		all = append(all, page.Tasks...)
		q.Before = page.Tasks[len(page.Tasks)-1].Incarnation
	}
}

// illegal says what is wrong with a record, if anything.
func illegal(t *store.Task) string {
	idle := t.Status.Terminal() || t.Status == store.Suspended || t.Status == store.Parked
	switch {
	case idle && (t.Worker != "" || t.Due):
		return "it is leased or due"
	case t.Due && t.Worker != "":
		return "it is leased and due"
	case (t.Status.Terminal() || t.Status == store.Suspended) && t.Queued > 0:
		return "T1: inputs are queued"
	case (t.Status.Terminal() || t.Status == store.Suspended) && !t.Turn.Ended:
		return "its turn has not ended"
	case t.Status == store.InProgress && t.Worker == "" && !t.Due:
		return "nobody runs it and nobody will"
	case t.Status == store.Pending && !t.Due:
		return "it waits for ever"
	case t.Status.Terminal() && t.EndedAt.IsZero():
		return "it has no end time"
	case t.Queued < 0 || t.Nudging < 0 || t.Nudging > t.Queued:
		return "its queue is counted wrong"
	case t.Mark > t.LastEvent || t.FirstEvent > t.Mark+1:
		return "its stream is counted wrong"
	}
	return ""
}
