package store

import "time"

// Status is the status of a task, or of a turn.
type Status string

// Statuses of tasks. Completed, Failed, Cancelled and Terminated are terminal.
const (
	Pending    Status = "pending"
	InProgress Status = "in_progress"
	Suspended  Status = "suspended"
	Completed  Status = "completed"
	Failed     Status = "failed"
	Cancelled  Status = "cancelled"
	Terminated Status = "terminated"
	Parked     Status = "parked"
)

// Statuses of turns are Pending (its task is waiting), InProgress, TurnQueued, Parked, and the outcomes:
// Completed, Suspended, Failed, Cancelled, Terminated, and Refused: its task ended before its turn came.
const (
	TurnQueued Status = "queued"
	Refused    Status = "refused"
)

// Terminal reports whether a task of this status has ended.
func (s Status) Terminal() bool {
	switch s {
	case Completed, Failed, Cancelled, Terminated:
		return true
	}
	return false
}

// Outcome reports whether a turn of this status has ended.
func (s Status) Outcome() bool { return s.Terminal() || s == Suspended || s == Refused }

// EntryMode says why a handler is entered.
type EntryMode string

// Entry modes.
const (
	EntryFresh     EntryMode = "fresh"     // no turn of the task was entered before
	EntryResumed   EntryMode = "resumed"   // a later turn
	EntryRecovered EntryMode = "recovered" // the same turn again: its owner died or released it
)

// Wait says what a pending task waits for.
type Wait string

// What pending tasks wait for.
const (
	WaitCapacity Wait = "capacity" // a free slot, or any worker
	WaitRetry    Wait = "retry"    // the retry policy's delay; a steer ends it early
	WaitStrict   Wait = "strict"   // a delay the handler asked for
	WaitRecovery Wait = "recovery" // the delay of a suspect
)

// Settings are the parts of a func's options that are stored with a task and hold for its life.
// Settings are comparable; stores keep one copy of equal ones.
type Settings struct {
	MultiTurn     bool          `json:"multi_turn,omitempty"`
	Steerable     bool          `json:"steerable,omitempty"`
	MaxPending    int           `json:"max_pending,omitempty"`
	KeepTurns     int           `json:"keep_turns,omitempty"`      // 0: all
	KeepEvents    int           `json:"keep_events,omitempty"`     // 0: all
	KeepEventsFor time.Duration `json:"keep_events_for,omitempty"` // nanoseconds; 0: as long as the task
	Ephemeral     bool          `json:"ephemeral,omitempty"`
	Keep          time.Duration `json:"keep,omitempty"`    // how long an ended task is kept, nanoseconds; 0: for ever
	Timeout       time.Duration `json:"timeout,omitempty"` // of a turn; 0: none
	TimeoutGrace  time.Duration `json:"timeout_grace,omitempty"`
	MaxRecoveries int           `json:"max_recoveries,omitempty"`
	Retry         Retry         `json:"retry,omitzero"`
}

// Retry is a retry policy: after attempt n the delay is Initial·Factorⁿ⁻¹ + Step·(n-1), at most Max.
type Retry struct {
	Attempts int           `json:"attempts,omitempty"` // counting the first; 0 and 1: none
	Initial  time.Duration `json:"initial,omitempty"`
	Step     time.Duration `json:"step,omitempty"`
	Max      time.Duration `json:"max,omitempty"`    // 0: no limit
	Factor   float64       `json:"factor,omitempty"` // 0 counts as 1
	Jitter   float64       `json:"jitter,omitempty"` // 0 to 1: the share of a delay that is random
}

// Source says where a task came from (rule S9).
type Source struct {
	Program string `json:"program,omitempty"`
	Version string `json:"version,omitempty"` // of the program
	Library string `json:"library,omitempty"` // version of perdure
	Host    string `json:"host,omitempty"`
}

// TaskError is why a turn failed, the same stored as returned (rule Y3).
type TaskError struct {
	Type     string `json:"type"`
	Message  string `json:"message"`
	Attempts int    `json:"attempts,omitempty"`
	Stack    string `json:"stack,omitempty"`
}

// Task is a task as stored.
type Task struct {
	Incarnation        int64
	ID, Func           string
	Status             Status
	Reason             string // why it is suspended, parked, cancelled or terminated
	Title, Description string
	Tags               map[string]string
	Session, Agent     string
	Source             Source
	Settings           Settings
	Metadata           map[string][]byte

	Turn        Current // the current turn, else the last
	LastTurn    int64   // the highest turn number given
	LastInputID string
	Entered     bool // a handler has been entered for one of its turns
	Queued      int  // inputs behind the current turn
	Nudging     int  // those of them that interrupt it

	Worker       string // who holds the lease; empty if nobody
	Epoch        int64
	Request      int64     // the worker's request that was given the lease
	EnteredAt    time.Time // when the lease was given
	Due          bool      // it waits to be claimed
	NotBefore    time.Time // when Due: not before; zero: at once, whatever the clock says
	Place        int64     // its place in the line of those that wait: who began to wait later has a higher one
	EndBy        time.Time // when a sweep looks whether to end what nobody runs; zero: never
	Wait         Wait
	Suspect      bool
	SettledEpoch int64

	LastEvent   int64
	FirstEvent  int64     // the first number kept
	LastEmitted int64     // the last event that is not the end of a turn
	Mark        int64     // events up to here survive the try
	EventEpoch  int64     // who wrote the last event
	TrimAt      time.Time // when events may have to be removed; zero if none will

	CreatedAt, UpdatedAt, EndedAt, ExpiresAt time.Time
	Version                                  int64
}

// Current is what a task's row knows of its current (else last) turn.
type Current struct {
	Number       int64
	InputID      string
	Steered      bool
	Entry        EntryMode
	Attempt      int
	Recoveries   int // in all
	Streak       int // of them, since the last checkpoint
	Stops        int // how often the engine itself has stopped it, since the last checkpoint
	StartedAt    time.Time
	Deadline     time.Time
	Overdue      bool // it has been entered past its deadline
	Called       bool // a sweep has left it to the workers, to be entered once for its clean-up
	Checkpoint   int64
	Cancel       bool
	CancelReason string
	Error        *TaskError // of the attempt before
	Ended        bool
}

// Turn is the handling of one input, as stored.
type Turn struct {
	TaskID      string
	Incarnation int64
	Number      int64
	InputID     string
	Status      Status // as seen by its caller
	Deliver     Deliver
	Steered     bool
	Digest      Digest
	Input       []byte
	Output      []byte
	Error       *TaskError
	Reason      string
	Detail      string // what the handler returned as its error when it wrapped up
	Superseded  bool
	Entry       EntryMode
	Attempt     int
	Recoveries  int
	Epoch       int64 // of the entry that ended it
	EndEvent    int64 // number of its turn event
	TaskStatus  Status
	Parked      int64 // the turn of the task that is in quarantine, if this one has not ended; else 0

	AcceptedAt, StartedAt, EndedAt time.Time
}

// EventKind says what an event is.
type EventKind string

// Kinds of stored events.
const (
	EventMessage EventKind = "message"
	EventRewind  EventKind = "rewind" // readers drop what came after number To
	EventTurn    EventKind = "turn"   // the end of a turn
)

// Kinds of events that are made for a reader, and have no number.
const (
	EventGap EventKind = "gap" // what was asked for has been trimmed; To is the first number kept
	EventEnd EventKind = "end" // nothing follows; Status is the outcome, or Deleted
)

// Deleted is the status of an end that came by deletion.
const Deleted Status = "deleted"

// Event is one line of a task's stream. A rewind takes back the messages between number To and its own.
type Event struct {
	Number  int64
	Turn    int64
	Attempt int
	Epoch   int64
	Kind    EventKind
	At      time.Time
	Data    []byte // EventMessage
	To      int64  // EventRewind, EventGap
	Status  Status // EventTurn, EventEnd: the outcome
	Reason  string // EventTurn, EventEnd
}
