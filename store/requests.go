package store

import "time"

// Lease is the right to write to a task: every write of a running turn carries it (rule O2).
type Lease struct {
	Incarnation int64  // the task; a deleted and re-created ID is another incarnation
	Worker      string // who holds it
	Epoch       int64  // raised by every entry; the fencing token
}

// OfferRequest gives a task an input.
type OfferRequest struct {
	TaskID   string
	Func     string
	InputID  string
	Input    []byte
	Digests  []Digest  // of the canonical input, one for every key held, the current one first
	Settings *Settings // of the caller's declaration; nil uses what workers have published for Func
	Retry    *Retry    // instead of the settings' policy; nil keeps that

	IfLastInputID string // when not empty, rule S3
	Attach        bool   // give the current turn's handle instead of a conflict; adds no input
	Deliver       Deliver

	// Labels of the task, used when it is created.
	Title, Description string
	Tags               map[string]string
	Session, Agent     string
	Source             Source

	// Worker is the caller's own worker, if it has one; with Lease it takes the turn if that can begin at
	// once. Request is a number that the worker never uses twice; Repeat says that an earlier try had an
	// unknown result.
	Worker  string
	Lease   bool
	Request int64
	Repeat  bool
}

// Digest identifies the canonical JSON of an input, under a key when payloads are encrypted.
type Digest struct {
	Key string // key ID; empty for an unkeyed digest
	Sum string
}

// Deliver says how an input reaches a task whose turn is still running.
type Deliver string

// Delivery policies. The zero value means DeliverInterrupt.
const (
	DeliverInterrupt Deliver = "interrupt" // queue, and interrupt the running turn
	DeliverEnqueue   Deliver = "enqueue"   // queue
	DeliverReject    Deliver = "reject"    // conflict
	DeliverReplace   Deliver = "replace"   // queue, interrupt, and refuse what was queued before
)

// Decision is what Offer did with an input.
type Decision string

// Decisions of rule S1.
const (
	Created  Decision = "created"
	Resumed  Decision = "resumed"
	Queued   Decision = "queued"
	Known    Decision = "known"    // the input ID had been accepted before
	Attached Decision = "attached" // nothing was added
)

// Offered is what became of an Offer.
type Offered struct {
	Decision    Decision
	TaskID      string
	Incarnation int64
	Func        string
	Status      Status // of the task
	Turn        int64
	InputID     string
	TurnStatus  Status // of the turn
	Epoch       int64  // of the task, then
	Version     int64  // of the task, then
	Behind      int    // inputs behind its current turn
	LastEvent   int64  // of the task's stream, then
	Due         bool   // a worker can claim the task now
	Steered     bool   // the running turn got the cause steered
	Replaced    []int64
	Entry       *Entry // the turn, leased to the request's Worker
}

// Entry is everything needed to enter a handler.
type Entry struct {
	Lease    Lease
	Task     *Task  // with its metadata as of the commit mark
	Input    []byte // of the current turn
	Previous []byte // input of the turn entered before; nil if there is none
}

// ClaimRequest asks for work.
type ClaimRequest struct {
	Worker  string
	Request int64 // a number that the worker never uses twice
	Repeat  bool  // an earlier try had an unknown result: return again what it leased
	Funcs   []ClaimFunc
	Limit   int      // tasks in all; 0 only puts back what dead workers held
	Suspect bool     // one of them may be a suspect (rule R4)
	Except  []string // task IDs to leave alone
}

// ClaimFunc names a func that the worker can run, and for how many tasks it has room.
type ClaimFunc struct {
	Name  string
	Limit int
}

// Claimed is the answer to a ClaimRequest.
type Claimed struct {
	Entries []*Entry
	More    bool      // more can be claimed, or put back, at once
	NextDue time.Time // when the next task of these funcs falls due; zero if unknown or none
	Now     time.Time // the store's clock
	Parked  int       // tasks that this call put into quarantine
	Ended   int       // turns that this call ended, because they are past their deadline
	Put     int       // tasks of dead workers that this call put back
}

// HeartbeatRequest registers or renews a worker.
type HeartbeatRequest struct {
	Worker   string
	Lease    time.Duration
	First    bool
	Replaces string // with First: a worker of the same process, which has stopped its turns: they are put back uncounted
	Leave    bool   // the worker has released everything and is gone
	Running  int
	Info     WorkerInfo // with First
	Funcs    []PublishedFunc
}

// PollRequest asks what there is for a worker.
type PollRequest struct {
	Worker  string
	Seen    []int64  // numbers of mail that may be forgotten
	Funcs   []string // for which the worker has room
	Suspect bool     // and for one suspect of them (rule R4)
}

// MailPage is how many pieces of mail one Poll returns at most.
const MailPage = 1000

// Polled is the answer to a PollRequest.
type Polled struct {
	Mail []Mail // the oldest first: causes to interrupt turns, and the news that their lease is gone
	Due  bool   // a task of these funcs is due, or a worker is dead whose tasks are to be put back
}

// PublishedFunc is a func that a worker runs.
type PublishedFunc struct {
	Name     string   `json:"name"`
	Settings Settings `json:"settings"`
}

// WorkerInfo describes the process of a worker.
type WorkerInfo struct {
	Host    string `json:"host"`
	PID     int    `json:"pid"`
	Program string `json:"program"`
	Version string `json:"version"` // of the program
}

// Beat is the answer to a heartbeat.
type Beat struct {
	Now time.Time // the store's clock
}

// Worker is one start of one process's engine.
type Worker struct {
	ID        string
	Info      WorkerInfo
	Funcs     []string
	Running   int
	StartedAt time.Time
	BeatAt    time.Time
	ExpiresAt time.Time
	Dead      bool
	Stopped   bool // its process lives on and has stopped its turns: they are put back uncounted
}

// MailKind says what a piece of mail is about.
type MailKind string

// Kinds of mail.
const (
	MailSteered    MailKind = "steered"
	MailQueue      MailKind = "queue" // what waits behind the turn has changed, and nothing else
	MailCancel     MailKind = "cancel"
	MailTerminated MailKind = "terminated"
	MailDeleted    MailKind = "deleted"
)

// Mail is news for the turn that a worker runs.
type Mail struct {
	Seq         int64
	Worker      string
	TaskID      string
	Incarnation int64
	Epoch       int64 // of the lease it concerns
	Kind        MailKind
	Reason      string
	Behind      int   // inputs behind the turn, then
	Version     int64 // of the task, then; 0 if the mail does not say
}

// CheckpointRequest writes to a running turn.
type CheckpointRequest struct {
	Lease      Lease
	Number     int64 // 1, 2, 3 … within the epoch
	Commit     bool  // move the commit mark: metadata and events up to here survive the try
	KeepEvents bool  // first write of the epoch only: keep the events of the try before
	Metadata   []Change
	Events     [][]byte
}

// Change sets a metadata key, or deletes it when Value is nil.
type Change struct {
	Key   string
	Value []byte
}

// Checkpointed is the answer to a CheckpointRequest.
type Checkpointed struct {
	LastEvent int64
}

// SettleKind says how a try ends.
type SettleKind string

// Kinds of Settle.
const (
	SettleEnd     SettleKind = "end"     // the turn ends with Outcome
	SettleRetry   SettleKind = "retry"   // another attempt after Delay
	SettleRelease SettleKind = "release" // another entry of the same attempt
	SettlePark    SettleKind = "park"    // quarantine, with Reason
)

// Release says why a lease is given back before the turn's end.
type Release string

// Releases. The zero value is that of a handler that has wrapped up for a shutdown.
const (
	ReleaseWrapped  Release = ""
	ReleaseAsked    Release = "asked"    // by the handler itself: it counts like a recovery (H2)
	ReleaseStopped  Release = "stopped"  // the engine has ended the handler's context: the third in a row makes a suspect (R4)
	ReleaseDeclined Release = "declined" // no handler was entered: the turn is as it was before the lease
)

// SettleRequest ends a try.
type SettleRequest struct {
	Lease Lease
	Kind  SettleKind

	// SettleEnd. Then is what the task becomes when no input is queued; Refuse ends queued inputs
	// refused instead of promoting the first.
	Outcome  Status
	Then     Status
	Refuse   bool
	Output   []byte
	Error    *TaskError // also with SettleRetry: why the attempt failed
	Reason   string
	Detail   string // what the handler returned as its error when it wrapped up
	IfQueued bool   // only while an input is queued: without one the turn is released and entered again

	Delay   time.Duration // SettleRetry
	Strict  bool          // SettleRetry: a steer does not shorten the delay (RetryAfter)
	Release Release       // SettleRelease

	Metadata []Change // SettleEnd only
	Events   [][]byte

	KeepLease bool  // lease the promoted turn to the same worker
	Request   int64 // with KeepLease: a number that the worker never uses twice
}

// Settled is the answer to a SettleRequest.
type Settled struct {
	Status  Status // of the task
	Ended   *Turn  // the turn that ended, nil if it did not
	Due     bool   // a worker can claim the task now
	Refused []int64
	Entry   *Entry // the next turn, leased to the same worker
}

// SignalKind says what is asked of a task from outside.
type SignalKind string

// Kinds of Signal.
const (
	Cancel    SignalKind = "cancel"
	Terminate SignalKind = "terminate"
	Resume    SignalKind = "resume"
)

// SignalRequest cancels, terminates or resumes.
type SignalRequest struct {
	TaskID      string
	Incarnation int64 // 0: whichever there is
	Kind        SignalKind
	Turn        int64  // Cancel: only this turn
	InputID     string // Cancel: only the turn of this input
	Reason      string
	Worker      string // the caller's own worker: it needs no mail
	RequestID   string // by which a repeat is recognised; empty: never
}

// RequestsKept is how long the request IDs of signals and deletes are remembered.
const RequestsKept = 24 * time.Hour

// Signalled is the answer to a SignalRequest.
type Signalled struct {
	Incarnation int64
	Status      Status // of the task, afterwards
	Epoch       int64  // of the task, then
	Version     int64  // of the task, afterwards
	Behind      int    // inputs behind its current turn
	Changed     bool
	Marked      bool    // the running turn has been asked to cancel
	Ended       []int64 // turns that ended
	Due         bool    // a worker can claim the task now
}

// DeleteRequest removes a task.
type DeleteRequest struct {
	TaskID      string
	Incarnation int64  // 0: whichever there is
	Version     int64  // when not 0, the version it must have
	Worker      string // the caller's own worker: it needs no mail
	RequestID   string // by which a repeat is recognised; empty: never
}

// Removed is the answer to a DeleteRequest.
type Removed struct {
	Incarnation int64 // of the task that was removed; 0 if there was none
}

// Swept is the answer to Sweep.
type Swept struct {
	Removed int // expired tasks
	Ended   int // turns that nobody ran
	Trimmed int // tasks whose streams were looked at
	Dropped int // rows that removed tasks had left
	More    bool
}

// PageBytes is how many bytes of payload a page holds, or one item.
const PageBytes = 4 << 20

// TurnQuery names a turn.
type TurnQuery struct {
	TaskID      string
	Incarnation int64 // 0: whichever there is
	Number      int64
	InputID     string
	Input       bool // with its input
	Output      bool // with its output
}

// TurnsQuery asks for a page of a task's turns.
type TurnsQuery struct {
	TaskID string
	After  int64
	Limit  int
}

// TurnPage is a page of a task's turns.
type TurnPage struct {
	Turns []*Turn
	More  bool // there are more after the last of them
}

// ListQuery asks for a page of tasks. Values within a field are alternatives, except Tags, which all hold.
type ListQuery struct {
	Funcs    []string
	Statuses []Status
	Session  string
	Agent    string
	Worker   string
	Tags     map[string]string
	Before   int64 // incarnation to continue below; 0 starts with the newest
	Limit    int
}

// TaskPage is a page of tasks.
type TaskPage struct {
	Tasks []*Task
	More  bool // there may be more below the last of them
}

// EventsQuery asks for a page of a task's stream.
type EventsQuery struct {
	TaskID      string
	Incarnation int64
	After       int64
	Limit       int
	Committed   bool // only what no rewind has taken back or will: no rewinds, and nothing above the mark
}

// EventPage is a page of a task's stream. Last and Mark are of the whole stream: events above Mark may
// still be rolled back.
type EventPage struct {
	Incarnation int64
	Func        string
	Events      []Event
	Next        int64 // the number to go on after
	First       int64 // the first number kept
	Last, Mark  int64
	Status      Status    // of the task
	Reason      string    // of the task
	EndedAt     time.Time // of the task
	Turn        int64     // the current turn, else the last
}

// ImportRequest moves a piece of a task here from another store. A task comes in one piece or in more: the first has
// Task, the last has Last, which is the same; each has Incarnation. Turns and events come in their order; the ends of
// turns are not among the events.
type ImportRequest struct {
	TaskID      string
	Incarnation int64
	Task        *Task // with its metadata
	Turns       []*Turn
	Events      []Event
	Last        *Task
}

// Imported is the answer to an ImportRequest.
type Imported struct {
	Known bool // the task is here already, as a whole: no more is needed
}
