package perdure

import (
	"context"
	"encoding/json"
	"iter"
	"time"

	"github.com/perdure/perdure/store"
)

// Client reaches tasks wherever they run. [Engine.Client] and perdurehttp.Client implement it, held to
// one suite of tests. Programs mostly use it through [Func] and [Handle]; its own methods are untyped.
// All methods may be called concurrently.
type Client interface {
	// Start gives a task an input, and returns when the input is durable (S1, S7). Errors:
	// *ConflictError, *PreconditionError, ErrInvalid, ErrInputMismatch, ErrQueueFull, ErrUnknownFunc,
	// ErrTooLarge, ErrShuttingDown; ErrUnavailable, after which the input may have been accepted:
	// start again with the same task and input ID.
	Start(ctx context.Context, req *StartRequest) (*Accepted, error)

	// Outcome waits until a turn has ended, and returns how. A turn that failed, or was cancelled, is no
	// error here. Errors: ErrNotFound; ErrDeleted; a *ParkedError when the turn, or one before it, is in
	// quarantine; ErrShuttingDown when the engine has stopped before the turn ended: ask elsewhere; ctx's own.
	Outcome(ctx context.Context, q TurnQuery) (*Outcome, error)

	// Task returns a task with its metadata. Errors: ErrNotFound.
	Task(ctx context.Context, id string) (*Info, error)

	// Turn returns one turn as it is now, without waiting. Errors: ErrNotFound, ErrDeleted.
	Turn(ctx context.Context, q TurnQuery) (*TurnInfo, error)

	// Turns returns a task's turns in the order of their numbers; opts may be nil. The error, if any, comes
	// last.
	Turns(ctx context.Context, id string, opts *TurnsOptions) iter.Seq2[*TurnInfo, error]

	// Tasks returns tasks, newest first, without their metadata. The error, if any, comes last. The
	// sequence is stable while tasks are added.
	Tasks(ctx context.Context, opts *ListOptions) iter.Seq2[*Info, error]

	// Events reads a task's stream after a number: first what is stored, then what comes, until the task, or
	// the turn of the options, has ended; the last event is then of kind EventEnd (E3). It can be joined
	// at any number, from any process, before and after crashes, and never repeats nor leaves out a number:
	// after an error go on with the last number that was read. A reader who is slow slows nobody. A parked
	// task's stream stays open. Leaving the loop releases everything. The error, if any, comes last:
	// ErrNotFound, ErrInvalid, ErrUnavailable, ErrShuttingDown when the engine has stopped: read on elsewhere; ctx's own.
	Events(ctx context.Context, id string, opts *EventOptions) iter.Seq2[Event, error]

	// Cancel asks a task's current turn to stop, and ends what is queued or waiting (C3): what is current
	// when it is applied. It returns the task's status afterwards; on a task that has ended it does nothing.
	// A repeat with the same RequestID changes nothing that came later, and returns the first answer; true of
	// Terminate, Resume and Delete too. Errors: ErrNotFound; ErrDeleted when the options name an incarnation
	// that is gone; *ConflictError when the RequestID was another operation's.
	Cancel(ctx context.Context, id string, opts *CancelOptions) (Status, error)

	// Terminate ends a task by force (C4). On a task that has ended it does nothing. Errors: ErrNotFound;
	// ErrDeleted when the options name an incarnation that is gone.
	Terminate(ctx context.Context, id string, opts *TerminateOptions) (Status, error)

	// Resume gives a parked task another chance; its deadline counts from the next entry. Errors: ErrNotFound;
	// *ConflictError when not parked.
	Resume(ctx context.Context, id string, opts *ResumeOptions) (Status, error)

	// Delete removes a task with its turns and events; deleting again does nothing (C6). Errors:
	// *PreconditionError when the options name a version that is not the task's.
	Delete(ctx context.Context, id string, opts *DeleteOptions) error
}

// Status is the status of a task or of a turn.
type Status = store.Status

// Statuses. A task is Pending, InProgress, Suspended, Parked, or has ended Completed, Failed, Cancelled
// or Terminated. A turn is Pending, InProgress, Parked or Queued, or has ended Completed, Suspended,
// Failed, Cancelled, Terminated or Refused.
const (
	Pending    = store.Pending
	InProgress = store.InProgress
	Suspended  = store.Suspended
	Completed  = store.Completed
	Failed     = store.Failed
	Cancelled  = store.Cancelled
	Terminated = store.Terminated
	Parked     = store.Parked
	Queued     = store.TurnQueued
	Refused    = store.Refused
)

// EntryMode says why a handler is entered.
type EntryMode = store.EntryMode

// Entry modes.
const (
	Fresh     = store.EntryFresh     // the task's first turn
	Resumed   = store.EntryResumed   // a later turn
	Recovered = store.EntryRecovered // the same turn again: its owner died or released it
)

// IfExists says what Start does when the task cannot take the input.
type IfExists string

// Attach gives the current (else last) turn's handle and adds no input, in every status.
const Attach IfExists = "attach"

// Deliver says how an input reaches a task whose turn is still running.
type Deliver = store.Deliver

// Delivery policies; the zero value is Interrupt.
const (
	Interrupt = store.DeliverInterrupt // queue it, and interrupt the running turn
	Enqueue   = store.DeliverEnqueue   // queue it
	Reject    = store.DeliverReject    // refuse it with a *ConflictError
	Replace   = store.DeliverReplace   // queue it in place of those that are queued, and interrupt the running turn
)

// StartRequest is an untyped start.
type StartRequest struct {
	Func          string            `json:"func"`
	Input         json.RawMessage   `json:"input"`
	TaskID        string            `json:"task_id,omitempty"`  // default: a UUIDv7
	InputID       string            `json:"input_id,omitempty"` // default: a UUIDv7
	IfLastInputID string            `json:"if_last_input_id,omitempty"`
	IfExists      IfExists          `json:"if_exists,omitempty"`
	Deliver       Deliver           `json:"deliver,omitempty"`
	Session       string            `json:"session,omitempty"`
	Title         string            `json:"title,omitempty"`
	Description   string            `json:"description,omitempty"`
	Tags          map[string]string `json:"tags,omitempty"`
	Retry         *RetryPolicy      `json:"retry,omitempty"` // instead of the func's; holds for the task's life
	Tx            any               `json:"-"`               // a transaction of the caller's: see StartOptions

	declared *store.Settings // of a typed caller's declaration
	labelled bool            // a typed caller has applied the declaration's label functions
	replaced bool            // what they gave is not stored as it was
}

// Accepted says what became of a start.
type Accepted struct {
	TaskID      string `json:"task_id"`
	InputID     string `json:"input_id"`
	Turn        int64  `json:"turn"`
	Status      Status `json:"status"` // of the turn
	Queued      bool   `json:"queued"`
	Attached    bool   `json:"attached"` // no input was added
	Known       bool   `json:"known"`    // the input ID had been accepted before
	Created     bool   `json:"created"`  // the task is new
	Incarnation int64  `json:"incarnation"`
	StreamAfter int64  `json:"stream_after"` // the turn's events all have higher numbers; 0 if that is not known

	watch *localWatch // set by the local client
}

// TurnQuery names a turn: by Turn, else by InputID, else the task's current (else last) one. Incarnation
// may be 0; otherwise a task that was deleted, or made again, since is ErrDeleted.
type TurnQuery struct {
	TaskID      string
	Incarnation int64
	Turn        int64
	InputID     string
	NoPayload   bool // of Client.Turn: without its input and output

	watch *localWatch
}

// Outcome is how a turn ended.
type Outcome struct {
	TaskID     string          `json:"task_id"`
	Turn       int64           `json:"turn"`
	InputID    string          `json:"input_id"`
	Status     Status          `json:"status"`
	Superseded bool            `json:"superseded"` // a newer input was waiting when the turn ended
	Output     json.RawMessage `json:"output,omitempty"`
	Error      *TaskError      `json:"error,omitempty"`
	Reason     string          `json:"reason,omitempty"`
	Detail     string          `json:"detail,omitempty"` // the error with which the handler wrapped up
}

// Err returns the outcome as an error: a *TaskError, an *OutcomeError, or nil if the turn completed or
// suspended.
func (o *Outcome) Err() error {
	switch o.Status {
	case Completed, Suspended:
		return nil
	case Failed:
		if o.Error != nil {
			return o.Error
		}
		return &TaskError{Type: "error", Message: o.Reason}
	}
	return &OutcomeError{Status: o.Status, Reason: o.Reason}
}

// Info is a task.
type Info struct {
	ID          string            `json:"task_id"`
	Func        string            `json:"func"`
	Status      Status            `json:"status"`
	Reason      string            `json:"reason,omitempty"`
	Title       string            `json:"title,omitempty"`
	Description string            `json:"description,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
	Session     string            `json:"session,omitempty"`
	Agent       string            `json:"agent,omitempty"`
	Source      Source            `json:"source"`
	Turn        CurrentTurn       `json:"turn"`
	Pending     int               `json:"pending"` // inputs behind the current turn
	LastInputID string            `json:"last_input_id"`
	Lease       *LeaseInfo        `json:"lease,omitempty"`       // nil when nobody runs it
	NotBefore   time.Time         `json:"not_before,omitzero"`   // when pending for a time
	WaitingFor  string            `json:"waiting_for,omitempty"` // capacity, retry, strict or recovery, when pending
	CreatedAt   time.Time         `json:"created_at"`
	UpdatedAt   time.Time         `json:"updated_at"`
	EndedAt     time.Time         `json:"ended_at,omitzero"`
	ExpiresAt   time.Time         `json:"expires_at,omitzero"`
	Version     int64             `json:"version"`
	Incarnation int64             `json:"incarnation"`

	Metadata map[string]json.RawMessage `json:"metadata,omitempty"`
	// Unreadable are keys of metadata that are there and cannot be decoded: the codec does not hold their key, or they
	// are damaged. They are not in Metadata.
	Unreadable []string `json:"unreadable,omitempty"`
}

// Source says where a task came from; no caller can set it (S9).
type Source struct {
	Func    string `json:"func"`
	Program string `json:"program,omitempty"`
	Version string `json:"version,omitempty"` // of the program
	Library string `json:"perdure,omitempty"` // version of perdure
	Host    string `json:"host,omitempty"`
}

// CurrentTurn is a task's current (else last) turn.
type CurrentTurn struct {
	Number     int64     `json:"number"`
	InputID    string    `json:"input_id"`
	Entry      EntryMode `json:"entry,omitempty"` // empty until it is entered
	Attempt    int       `json:"attempt"`
	Steered    bool      `json:"steered"`
	Recoveries int       `json:"recoveries"`
	StartedAt  time.Time `json:"started_at,omitzero"`
	Deadline   time.Time `json:"deadline,omitzero"`
	Cancel     bool      `json:"cancel_requested,omitempty"`
}

// LeaseInfo says who runs a task.
type LeaseInfo struct {
	Worker    string    `json:"worker"`
	Epoch     int64     `json:"epoch"`
	ExpiresAt time.Time `json:"expires_at,omitzero"` // when it ends unless the worker renews it, or a lock keeps it; only from Client.Task
}

// TurnInfo is a turn.
type TurnInfo struct {
	TaskID     string          `json:"task_id"`
	Number     int64           `json:"number"`
	InputID    string          `json:"input_id"`
	Status     Status          `json:"status"`
	Superseded bool            `json:"superseded,omitempty"`
	Steered    bool            `json:"steered,omitempty"`
	Entry      EntryMode       `json:"entry,omitempty"`
	Attempt    int             `json:"attempt,omitempty"`
	Recoveries int             `json:"recoveries,omitempty"`
	Input      json.RawMessage `json:"input,omitempty"`
	Output     json.RawMessage `json:"output,omitempty"`
	Error      *TaskError      `json:"error,omitempty"`
	Reason     string          `json:"reason,omitempty"`
	Detail     string          `json:"detail,omitempty"` // the error with which the handler wrapped up
	AcceptedAt time.Time       `json:"accepted_at"`
	StartedAt  time.Time       `json:"started_at,omitzero"`
	EndedAt    time.Time       `json:"ended_at,omitzero"`

	Incarnation int64 `json:"incarnation"` // of its task

	// Unreadable says of "input" and "output" what is there and cannot be decoded: the codec does not hold its key, or
	// it is damaged. It is left out then.
	Unreadable []string `json:"unreadable,omitempty"`
}

// ListOptions choose tasks. Values within Funcs and Statuses are alternatives; Tags must all be there. More than 100 of one
// of them are ErrInvalid.
type ListOptions struct {
	Funcs    []string
	Statuses []Status
	Session  string
	Agent    string
	Tags     map[string]string
	Limit    int   // tasks in all; 0: all there are
	Before   int64 // incarnation to continue below; 0: begin with the newest
}

// TurnsOptions say which turns to return.
type TurnsOptions struct {
	After int64 // begin after this number
	Limit int   // turns in all; 0: all there are
}

// CancelOptions say what to cancel; nil, or the zero value: the current turn and all that is queued.
type CancelOptions struct {
	Turn        int64  // only this turn
	InputID     string // only the turn of this input
	Incarnation int64  // only of this incarnation, else ErrDeleted
	Reason      string // told to the handler and stored
	RequestID   string // by which a repeat is recognised for a day: default a UUIDv7
}

// TerminateOptions say more of a terminate; nil is the zero value.
type TerminateOptions struct {
	Incarnation int64  // only of this incarnation, else ErrDeleted
	Reason      string // stored
	RequestID   string // by which a repeat is recognised for a day: default a UUIDv7
}

// ResumeOptions say more of a resume; nil is the zero value.
type ResumeOptions struct {
	Incarnation int64  // only of this incarnation, else ErrDeleted
	RequestID   string // by which a repeat is recognised for a day: default a UUIDv7
}

// DeleteOptions restrict a delete.
type DeleteOptions struct {
	Version     int64  // when not 0, the version the task must have
	Incarnation int64  // when not 0, the incarnation it must be
	RequestID   string // by which a repeat is recognised for a day: default a UUIDv7
}
