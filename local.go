package perdure

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/perdure/perdure/internal/engine"
	"github.com/perdure/perdure/store"
)

// local is the Client of an engine in the same process.
type local struct{ e *Engine }

// localWatch lets a handle wait for a turn that runs in this process without asking the store.
type localWatch struct{ a *engine.Attempt }

// Page sizes of reads that go through the whole of something.
const (
	taskPage = 200
	turnPage = 100
)

func (c *local) Start(ctx context.Context, start *StartRequest) (*Accepted, error) {
	if start == nil {
		return nil, fmt.Errorf("%w: no request", ErrInvalid)
	}
	req := *start
	req.Tags = maps.Clone(req.Tags)
	if !req.labelled {
		req.Input = bytes.Clone(req.Input)
	}
	req.defaultIDs()
	if err := req.validate(c.e.limits); err != nil {
		return nil, err
	}
	if err := c.describe(&req); err != nil {
		return nil, err
	}
	if err := req.validateLabels(c.e.limits); err != nil {
		return nil, err
	}
	o, a, err := c.accept(ctx, &req)
	if err != nil {
		return nil, err
	}
	if req.replaced {
		c.e.e.Replaced(req.TaskID, "labels")
	}
	accepted := &Accepted{
		TaskID: o.TaskID, InputID: o.InputID, Turn: o.Turn, Status: o.TurnStatus, Incarnation: o.Incarnation,
		Queued: o.TurnStatus == Queued, Attached: o.Decision == store.Attached,
		Known: o.Decision == store.Known, Created: o.Decision == store.Created,
	}
	if o.Decision == store.Resumed || o.Decision == store.Queued {
		accepted.StreamAfter = o.LastEvent
	}
	if a != nil {
		accepted.watch = &localWatch{a}
	}
	return accepted, nil
}

// accept offers the request, within the caller's transaction if it has one.
func (c *local) accept(ctx context.Context, req *StartRequest) (o *store.Offered, a *engine.Attempt, err error) {
	if req.Tx != nil {
		o, err = c.e.e.OfferTx(ctx, req.Tx, c.offer(req))
		return o, nil, err
	}
	return c.e.e.Offer(ctx, c.offer(req))
}

// describe checks and labels an untyped start with the func that is bound here, if there is one.
func (c *local) describe(req *StartRequest) error {
	b, ok := c.e.bindings[req.Func]
	if !ok || req.labelled {
		return nil
	}
	return b.desc(req.Input, req.TaskID, req)
}

func (c *local) offer(req *StartRequest) *store.OfferRequest {
	o := &store.OfferRequest{
		TaskID: req.TaskID, Func: req.Func, InputID: req.InputID, Input: req.Input,
		IfLastInputID: req.IfLastInputID, Attach: req.IfExists == Attach, Deliver: req.Deliver,
		Title: req.Title, Description: req.Description, Tags: req.Tags, Session: req.Session,
		Agent: c.e.agent, Source: c.e.source, Settings: c.settings(req),
	}
	if req.Retry != nil {
		retry := req.Retry.stored()
		o.Retry = &retry
	}
	return o
}

// settings are those of the caller's declaration, else of the func bound here; else the store knows.
func (c *local) settings(req *StartRequest) *store.Settings {
	if req.declared != nil {
		return c.e.complete(req.declared)
	}
	if b, ok := c.e.bindings[req.Func]; ok {
		return &b.fn.Settings
	}
	return nil
}

func (c *local) Outcome(ctx context.Context, q TurnQuery) (*Outcome, error) {
	var a *engine.Attempt
	if q.watch != nil {
		a = q.watch.a
	}
	turn, err := c.e.e.Await(ctx, store.TurnQuery{TaskID: q.TaskID, Incarnation: q.Incarnation, Number: q.Turn, InputID: q.InputID}, a)
	if errors.Is(err, ErrParked) {
		return nil, &ParkedError{TaskID: q.TaskID, Turn: turn.Parked, Reason: turn.Reason}
	}
	if err != nil {
		return nil, err
	}
	return &Outcome{TaskID: turn.TaskID, Turn: turn.Number, InputID: turn.InputID, Status: turn.Status,
		Superseded: turn.Superseded, Output: turn.Output, Error: taskError(turn.Error), Reason: turn.Reason, Detail: turn.Detail}, nil
}

func (c *local) Task(ctx context.Context, id string) (*Info, error) {
	t, unreadable, err := c.e.e.Get(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("task %s: %w", id, err)
	}
	info := taskInfo(t)
	info.Unreadable = unreadable
	if info.Lease != nil {
		info.Lease.ExpiresAt, err = c.leaseEnd(ctx, t.Worker)
	}
	return info, err
}

// leaseEnd returns when a worker's lease ends unless it is renewed; zero if the worker is not alive.
func (c *local) leaseEnd(ctx context.Context, worker string) (time.Time, error) {
	workers, err := c.e.e.Workers(ctx)
	for _, w := range workers {
		if w.ID == worker {
			return w.ExpiresAt, err
		}
	}
	return time.Time{}, err
}

func (c *local) Turn(ctx context.Context, q TurnQuery) (*TurnInfo, error) {
	turn, unreadable, err := c.e.e.Turn(ctx, store.TurnQuery{TaskID: q.TaskID, Incarnation: q.Incarnation, Number: q.Turn,
		InputID: q.InputID, Input: !q.NoPayload, Output: !q.NoPayload})
	if err != nil {
		return nil, fmt.Errorf("turn of task %s: %w", q.TaskID, err)
	}
	return turnInfo(turn, unreadable), nil
}

// pages counts what is left of a limit: 0 means that there is none.
type pages struct{ limit, page, left int }

func (p *pages) next() int {
	if p.limit > 0 {
		return min(p.page, p.left)
	}
	return p.page
}

func (c *local) Turns(ctx context.Context, id string, opts *TurnsOptions) iter.Seq2[*TurnInfo, error] {
	var o TurnsOptions
	if opts != nil {
		o = *opts
	}
	return func(yield func(*TurnInfo, error) bool) {
		p := pages{limit: o.Limit, page: turnPage, left: o.Limit}
		for q := (store.TurnsQuery{TaskID: id, After: o.After}); ; {
			if q.Limit = p.next(); q.Limit == 0 {
				return
			}
			page, unreadable, err := c.e.e.Turns(ctx, q)
			if err != nil {
				yield(nil, fmt.Errorf("turns of task %s: %w", id, err))
				return
			}
			for i, turn := range page.Turns {
				if !yield(turnInfo(turn, unreadable[i]), nil) {
					return
				}
				q.After = turn.Number
			}
			p.left -= len(page.Turns)
			if !page.More {
				return
			}
		}
	}
}

func (c *local) Tasks(ctx context.Context, opts *ListOptions) iter.Seq2[*Info, error] {
	if opts == nil {
		opts = &ListOptions{}
	}
	first := store.ListQuery{Funcs: slices.Clone(opts.Funcs), Statuses: slices.Clone(opts.Statuses), Session: opts.Session,
		Agent: opts.Agent, Tags: maps.Clone(opts.Tags), Before: opts.Before}
	limit, invalid := opts.Limit, opts.validate()
	return func(yield func(*Info, error) bool) {
		if invalid != nil {
			yield(nil, fmt.Errorf("list tasks: %w", invalid))
			return
		}
		p := pages{limit: limit, page: taskPage, left: limit}
		for q := first; ; {
			if q.Limit = p.next(); q.Limit == 0 {
				return
			}
			page, err := c.e.e.List(ctx, q)
			if err != nil {
				yield(nil, fmt.Errorf("list tasks: %w", err))
				return
			}
			for _, t := range page.Tasks {
				if !yield(taskInfo(t), nil) {
					return
				}
				q.Before = t.Incarnation
			}
			p.left -= len(page.Tasks)
			if !page.More {
				return
			}
		}
	}
}

func (c *local) Events(ctx context.Context, id string, opts *EventOptions) iter.Seq2[Event, error] {
	var o EventOptions
	if opts != nil {
		o = *opts
	}
	q := engine.EventsQuery{TaskID: id, Incarnation: o.Incarnation, After: o.After, Turn: o.Turn, Committed: o.Committed,
		NoWait: o.NoWait, Limit: o.Limit}
	return func(yield func(Event, error) bool) {
		if err := o.validate(); err != nil {
			yield(Event{}, fmt.Errorf("events of task %s: %w", id, err))
			return
		}
		if o.Limit > 0 {
			yield = atMost(o.Limit, yield)
		}
		custom, err := c.custom(ctx, id, o, yield)
		if err != nil {
			yield(Event{}, fmt.Errorf("events of task %s: %w", id, err))
		}
		if custom || err != nil {
			return
		}
		for e, err := range c.e.e.Events(ctx, q) {
			if err != nil {
				yield(Event{}, fmt.Errorf("events of task %s: %w", id, err))
				return
			}
			if !yield(eventOf(&e), nil) {
				return
			}
		}
	}
}

// atMost ends a sequence after n events; an error ends it anyway.
func atMost(n int, yield func(Event, error) bool) func(Event, error) bool {
	return func(e Event, err error) bool {
		n--
		return yield(e, err) && n > 0
	}
}

// custom reads the stream of a task whose func keeps its messages in a place of its own.
func (c *local) custom(ctx context.Context, id string, opts EventOptions, yield func(Event, error) bool) (bool, error) {
	if !c.e.customStreams {
		return false, nil
	}
	info, err := c.Task(ctx, id)
	if errors.Is(err, ErrNotFound) || err == nil && opts.Incarnation != 0 && info.Incarnation != opts.Incarnation {
		return false, nil // the store's reader tells
	}
	if err != nil {
		return false, err
	}
	b, ok := c.e.bindings[info.Func]
	if !ok || b.stream == nil {
		return false, nil
	}
	return true, c.customEvents(ctx, b, info, opts, yield)
}

func (c *local) Cancel(ctx context.Context, id string, opts *CancelOptions) (Status, error) {
	if opts == nil {
		opts = &CancelOptions{}
	}
	return c.signal(ctx, &store.SignalRequest{TaskID: id, Kind: store.Cancel, Turn: opts.Turn, InputID: opts.InputID,
		Incarnation: opts.Incarnation, Reason: opts.Reason, RequestID: opts.RequestID})
}

func (c *local) Terminate(ctx context.Context, id string, opts *TerminateOptions) (Status, error) {
	if opts == nil {
		opts = &TerminateOptions{}
	}
	return c.signal(ctx, &store.SignalRequest{TaskID: id, Kind: store.Terminate, Incarnation: opts.Incarnation, Reason: opts.Reason,
		RequestID: opts.RequestID})
}

func (c *local) Resume(ctx context.Context, id string, opts *ResumeOptions) (Status, error) {
	if opts == nil {
		opts = &ResumeOptions{}
	}
	return c.signal(ctx, &store.SignalRequest{TaskID: id, Kind: store.Resume, Incarnation: opts.Incarnation, RequestID: opts.RequestID})
}

func (c *local) signal(ctx context.Context, req *store.SignalRequest) (Status, error) {
	if err := errors.Join(validText("reason", req.Reason, c.e.limits.Description), validRequestID(req.RequestID)); err != nil {
		return "", err
	}
	s, err := c.e.e.Signal(ctx, req)
	if err != nil {
		return "", err
	}
	return s.Status, nil
}

func (c *local) Delete(ctx context.Context, id string, opts *DeleteOptions) error {
	if opts == nil {
		opts = &DeleteOptions{}
	}
	if err := validRequestID(opts.RequestID); err != nil {
		return err
	}
	return c.e.e.Delete(ctx, &store.DeleteRequest{TaskID: id, Version: opts.Version, Incarnation: opts.Incarnation, RequestID: opts.RequestID})
}

func taskError(e *store.TaskError) *TaskError {
	if e == nil {
		return nil
	}
	return &TaskError{Type: e.Type, Message: e.Message, Attempts: e.Attempts, Stack: e.Stack}
}

func turnInfo(t *store.Turn, unreadable []string) *TurnInfo {
	return &TurnInfo{
		TaskID: t.TaskID, Number: t.Number, InputID: t.InputID, Status: t.Status, Superseded: t.Superseded,
		Steered: t.Steered, Entry: t.Entry, Attempt: t.Attempt, Recoveries: t.Recoveries, Input: t.Input,
		Output: t.Output, Error: taskError(t.Error), Reason: t.Reason, Detail: t.Detail,
		AcceptedAt: t.AcceptedAt, StartedAt: t.StartedAt, EndedAt: t.EndedAt, Incarnation: t.Incarnation,
		Unreadable: unreadable,
	}
}

func taskSource(t *store.Task) Source {
	s := &t.Source
	return Source{Func: t.Func, Program: s.Program, Version: s.Version, Library: s.Library, Host: s.Host}
}

func taskInfo(t *store.Task) *Info {
	info := &Info{
		ID: t.ID, Func: t.Func, Status: t.Status, Reason: t.Reason, Title: t.Title, Description: t.Description,
		Tags: maps.Clone(t.Tags), Session: t.Session, Agent: t.Agent, Pending: t.Queued, LastInputID: t.LastInputID,
		Source: taskSource(t),
		Turn: CurrentTurn{
			Number: t.Turn.Number, InputID: t.Turn.InputID, Entry: t.Turn.Entry, Attempt: t.Turn.Attempt,
			Steered: t.Turn.Steered, Recoveries: t.Turn.Recoveries, StartedAt: t.Turn.StartedAt,
			Deadline: t.Turn.Deadline, Cancel: t.Turn.Cancel,
		},
		CreatedAt: t.CreatedAt, UpdatedAt: t.UpdatedAt, EndedAt: t.EndedAt, ExpiresAt: t.ExpiresAt,
		Version: t.Version, Incarnation: t.Incarnation,
	}
	if t.Worker != "" {
		info.Lease = &LeaseInfo{Worker: t.Worker, Epoch: t.Epoch}
	}
	if t.Status == Pending {
		info.NotBefore, info.WaitingFor = t.NotBefore, string(t.Wait)
	}
	if len(t.Metadata) > 0 {
		info.Metadata = make(map[string]json.RawMessage, len(t.Metadata))
		for k, v := range t.Metadata {
			info.Metadata[k] = v
		}
	}
	return info
}
