package perdure

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"

	"github.com/perdure/perdure/internal/engine"
	"github.com/perdure/perdure/internal/payload"
)

// StartOptions are the options of a start. The zero value of each field is its default.
type StartOptions struct {
	TaskID  string // default: a new UUIDv7. IDs match [A-Za-z0-9][A-Za-z0-9._:-]{0,127} (S5)
	InputID string // default: a new UUIDv7. The same ID again is the same input (S2)

	// IfLastInputID accepts the input only if the task's last accepted input has this ID, or the task has
	// none (S3); else *PreconditionError.
	IfLastInputID string
	// IfExists as Attach gives the current turn's handle where there would be a conflict (S1).
	IfExists IfExists
	// Deliver says how the input reaches a running turn of a steerable func: Interrupt by default.
	Deliver Deliver

	// Labels, stored when the task is created. Empty ones are made by the func's own functions.
	Session     string
	Title       string
	Description string
	Tags        map[string]string // laid over the func's

	// Retry replaces the func's policy for the life of a task that this call creates.
	Retry *RetryPolicy

	// Tx makes the start a part of a transaction of the caller's: with a pgstore, a pgx.Tx of the same database.
	// Nothing has been accepted until it commits; before, and without that, the handle says ErrDeleted. The error of
	// such a start leaves the transaction as it was. Other stores, and clients over HTTP, refuse it with ErrTx.
	Tx any
}

// Start gives a task an input, and returns when that is durable (S1, S7). Which task is up to
// opts.TaskID: an absent one is created, a suspended one resumed, a running one of a steerable func is
// steered. An input with bytes that are no UTF-8 is ErrInvalid; see [Client.Start] for other errors.
func (f *Func[In, Out]) Start(ctx context.Context, c Client, in In, opts *StartOptions) (*Handle[Out], error) {
	if f.err != nil {
		return nil, f.err
	}
	if c == nil {
		return nil, fmt.Errorf("func %s: %w: no client", f.name, ErrInvalid)
	}
	if opts == nil {
		opts = &StartOptions{}
	}
	input, replaced, err := engine.Marshal(in)
	switch {
	case err != nil:
		return nil, fmt.Errorf("func %s: %w: input cannot be encoded as JSON: %w", f.name, ErrInvalid, err)
	case replaced:
		return nil, fmt.Errorf("func %s: %w: input %w", f.name, ErrInvalid, payload.ErrUTF8)
	}
	req := &StartRequest{
		Func: f.name, Input: input, TaskID: opts.TaskID, InputID: opts.InputID, IfLastInputID: opts.IfLastInputID,
		IfExists: opts.IfExists, Deliver: opts.Deliver, Session: opts.Session, Title: opts.Title,
		Description: opts.Description, Tags: maps.Clone(opts.Tags), Retry: opts.Retry, Tx: opts.Tx, declared: &f.settings, labelled: true,
	}
	req.defaultIDs()
	if err := f.label(in, req.TaskID, req); err != nil {
		return nil, err
	}
	a, err := c.Start(ctx, req)
	if err != nil {
		return nil, err
	}
	return &Handle[Out]{c: c, a: *a}, nil
}

// Run is Start, then Result.
func (f *Func[In, Out]) Run(ctx context.Context, c Client, in In, opts *StartOptions) (Result[Out], error) {
	h, err := f.Start(ctx, c, in, opts)
	if err != nil {
		return Result[Out]{}, err
	}
	return h.Result(ctx)
}

// AttachOptions name a turn: by Turn, else by InputID, else the task's current (else last) one.
type AttachOptions struct {
	Turn    int64
	InputID string
}

// Attach returns the handle of a turn that was started before, by anybody. Errors: ErrNotFound;
// *ConflictError when the task is of another func.
func (f *Func[In, Out]) Attach(ctx context.Context, c Client, taskID string, opts *AttachOptions) (*Handle[Out], error) {
	if f.err != nil {
		return nil, f.err
	}
	q := TurnQuery{TaskID: taskID, NoPayload: true}
	if opts != nil {
		q.Turn, q.InputID = opts.Turn, opts.InputID
	}
	info, err := c.Task(ctx, taskID)
	if err != nil {
		return nil, err
	}
	if info.Func != f.name {
		return nil, &ConflictError{TaskID: taskID, Status: info.Status, Func: info.Func}
	}
	q.Incarnation = info.Incarnation
	turn, err := c.Turn(ctx, q)
	if err != nil {
		return nil, err
	}
	return &Handle[Out]{c: c, a: Accepted{
		TaskID: taskID, InputID: turn.InputID, Turn: turn.Number, Status: turn.Status,
		Queued: turn.Status == Queued, Attached: true, Incarnation: info.Incarnation,
	}}, nil
}

// Get returns a task.
func Get(ctx context.Context, c Client, taskID string) (*Info, error) { return c.Task(ctx, taskID) }

// describeRaw is the describer of an untyped start: the input must decode into In, without fields that
// In does not have, and with those that it has named as In names them.
func (f *Func[In, Out]) describeRaw(input json.RawMessage, taskID string, req *StartRequest) error {
	if err := payload.Fields(input, reflect.TypeFor[In]()); err != nil {
		return invalid("input of func %s: %w", f.name, err)
	}
	var in In
	dec := json.NewDecoder(bytes.NewReader(input))
	dec.DisallowUnknownFields()
	err := engine.Guard(func() error { return dec.Decode(&in) })
	if p, ok := errors.AsType[*PanicError](err); ok {
		return fmt.Errorf("func %s: input cannot be decoded: %w", f.name, p)
	}
	if err != nil {
		return invalid("input of func %s: %s", f.name, inputProblem(err))
	}
	return f.label(in, taskID, req)
}

// label applies the func's label functions to a request (S8). Their errors come back as ErrInvalid, and
// wrapped; their panics are no fault of the input.
func (f *Func[In, Out]) label(in In, taskID string, req *StartRequest) error {
	o := &f.opts
	if o.Title != nil && req.Title == "" {
		title, err := made(o.Title, in, taskID)
		if err != nil {
			return f.badLabel("title", err)
		}
		req.Title = req.plain(title)
	}
	if o.Description != nil && req.Description == "" {
		description, err := made(o.Description, in, taskID)
		if err != nil {
			return f.badLabel("description", err)
		}
		req.Description = req.plain(description)
	}
	if o.Tags == nil {
		return nil
	}
	tags, err := made(o.Tags, in, taskID)
	if err != nil {
		return f.badLabel("tags", err)
	}
	all := map[string]string{}
	for k, v := range tags {
		all[req.plain(k)] = req.plain(v)
	}
	maps.Copy(all, req.Tags)
	req.Tags = all
	return nil
}

// plain returns the text that is stored for a label function's: one that cuts a character in two costs no start.
func (r *StartRequest) plain(made string) string {
	text := engine.PlainText(made)
	r.replaced = r.replaced || text != made
	return text
}

func (f *Func[In, Out]) badLabel(label string, err error) error {
	if p, ok := err.(*PanicError); ok {
		return fmt.Errorf("func %s: %s: %w", f.name, label, p)
	}
	return fmt.Errorf("%w: func %s: %s: %w", ErrInvalid, f.name, label, err)
}

// made calls a label function. A panic in it is its error.
func made[In, T any](label func(In, string) (T, error), in In, taskID string) (v T, err error) {
	err = engine.Guard(func() (err error) {
		v, err = label(in, taskID)
		return err
	})
	return v, err
}
