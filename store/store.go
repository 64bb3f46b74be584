// Package store is the contract between perdure's engine and the place where tasks are kept.
//
// A store keeps tasks, their turns, their events and the workers that run them. Its operations are
// semantic: each is one atomic transition of the model (an accepted input, a lease, a checkpoint, the
// end of a turn together with the beginning of the next), decided by package rules and written by the
// store in one transaction. The engine never reads in order to decide what to write.
//
// # What every store guarantees
//
//   - An operation that returned nil is durable (rule P2). One that failed with an answer (see
//     [Definite]) left nothing behind. One that failed with any other error may or may not have been
//     applied; the engine repeats it and it is recognised (rule O6). One that will be met again, because of
//     what the operation says, is a [*ContentError], of reads, too; one that who runs the store can cure is a
//     [*TroubleError]; one after which no operation of this process succeeds any more is [ErrLost].
//   - Every write of a running turn names incarnation, worker and epoch, and is refused with
//     [ErrLeaseLost] when one of them is stale (rule O2).
//   - Time is the store's clock, in UTC, truncated to microseconds.
//   - A task past its ExpiresAt is treated as absent by every operation, swept or not.
//   - All methods may be called concurrently. An operation that waits when its context ends is left out and
//     returns the context's error. One that has begun goes to its end, whatever becomes of its context, and
//     returns its answer: what was written is always heard of. It has a bound of its own, so that it does not
//     take for ever. A read returns when its context ends. Callers never change a request that they have
//     passed.
//
// Stores contain no policy and no defensive code: the engine has validated identifiers, sizes and JSON
// before it calls. Payloads (inputs, outputs, metadata values, event data) are opaque bytes. A request with a
// text that not every store keeps (see [ValidText]) is refused, before anything is read for it, with the error
// of its method Valid; what is looked for by such a text is not found.
package store

import (
	"context"
	"time"
)

// Store keeps tasks. See the package documentation for what all methods have in common.
type Store interface {
	// Offer gives a task an input: the whole of rule S1 in one transaction, in the order func, known
	// input ID (S2), IfLastInputID (S3), status and policy, MaxPending (G2). With Lease, a turn that can
	// begin at once is leased to the caller's worker in the same write and returned as Offered.Entry.
	//
	// Errors: *ConflictError, *PreconditionError, ErrInputMismatch, ErrDigestKey, ErrQueueFull,
	// ErrUnknownFunc. None of them leaves a trace.
	Offer(ctx context.Context, req *OfferRequest) (*Offered, error)

	// Claim leases due tasks to a worker, in the order in which they began to wait (P5), and raises their
	// epochs (O2). In the same transaction it marks lapsed workers dead and puts their tasks back, counting
	// one recovery for each unless their process had stopped them itself (O3, R4), a bounded number at a
	// time: Claimed.More says that it should be called again at once.
	// It may leave out a task that somebody else is writing at the moment: the next call finds it.
	// The worker must be registered and alive, else ErrWorkerDead.
	Claim(ctx context.Context, req *ClaimRequest) (*Claimed, error)

	// Heartbeat registers a worker (First) or proves that it is alive; one row, whatever it runs (O3).
	// It fails with ErrWorkerDead when the worker has lapsed: a lapse is final.
	Heartbeat(ctx context.Context, req *HeartbeatRequest) (*Beat, error)

	// Poll tells a worker what there is for it: mail, and whether a Claim would find something. It is how a worker
	// that has nothing to do asks, in one round trip whatever the number of its funcs. Mail stays until a later
	// Poll says that it was seen.
	Poll(ctx context.Context, req *PollRequest) (*Polled, error)

	// Checkpoint writes events and, if Commit is set, metadata and the commit mark of a running turn.
	// It is recognised when repeated by epoch and Number. Errors: ErrLeaseLost, *ContentError.
	Checkpoint(ctx context.Context, req *CheckpointRequest) (*Checkpointed, error)

	// Settle ends a try: the turn's outcome and the beginning of the next queued turn in one write (T1),
	// or a retry, a release, or quarantine. It is recognised when repeated by epoch. Errors: ErrLeaseLost,
	// *ContentError.
	Settle(ctx context.Context, req *SettleRequest) (*Settled, error)

	// Signal cancels, terminates or resumes what is current when it is applied. With a RequestID it is
	// recognised when repeated: it changes nothing and returns the first answer, for RequestsKept, also when
	// the task is gone or has been made again (O6). Errors: ErrNotFound; ErrDeleted when another incarnation
	// is named; *ConflictError from Resume when the task is not parked, and when the RequestID was another
	// operation's. Cancel and Terminate of a task that has ended change nothing (C7).
	Signal(ctx context.Context, req *SignalRequest) (*Signalled, error)

	// Delete removes a task, its turns and events, and tells its owner (C6). For every operation it is gone
	// at once; what it leaves is removed by sweeps. Deleting an absent task is a no-op. It is recognised
	// when repeated as Signal is. Errors: *PreconditionError when Version is set and is not the task's;
	// *ConflictError when the RequestID was another operation's.
	Delete(ctx context.Context, req *DeleteRequest) (*Removed, error)

	// Sweep does a piece of housekeeping that holds up nobody for long: it removes expired tasks and what
	// deleted ones have left, ends what nobody runs and was cancelled or is past its deadline (C3, C5),
	// trims streams (E5), and forgets old request IDs. It looks at no more than limit tasks, and removes no
	// more than limit rows, of each kind. Swept.More says that there is more to do now.
	Sweep(ctx context.Context, limit int) (*Swept, error)

	// Get returns a task with its metadata. Errors: ErrNotFound.
	Get(ctx context.Context, id string) (*Task, error)

	// Turn returns one turn: by Number, else by InputID, else the current (else last) one.
	// Errors: ErrNotFound; ErrDeleted when Incarnation is set and is gone.
	Turn(ctx context.Context, q TurnQuery) (*Turn, error)

	// Turns returns a page of a task's turns in the order of their numbers. It ends early, but not before the
	// first turn, where the payloads would exceed PageBytes. Errors: ErrNotFound.
	Turns(ctx context.Context, q TurnsQuery) (*TurnPage, error)

	// List returns a page of tasks, newest first, without their metadata.
	List(ctx context.Context, q ListQuery) (*TaskPage, error)

	// Events returns a page of a task's stream: the events after a number that are kept. A page may be
	// empty although EventPage.Next has moved on, and ends early, but not before the first event, where the
	// data would exceed PageBytes. Errors: ErrNotFound; ErrDeleted.
	Events(ctx context.Context, q EventsQuery) (*EventPage, error)

	// Waiting returns how many tasks are due and held by nobody, of each func that is not among those named;
	// it counts no more than most of a func (R3).
	Waiting(ctx context.Context, except []string, most int) (map[string]int, error)

	// Workers returns the workers that are not dead, oldest first.
	Workers(ctx context.Context) ([]*Worker, error)

	// Close releases the store. Operations under way end; later ones fail with ErrClosed.
	Close() error
}

// Exclusive is implemented by stores that can prove that one engine at a time works on them (rule O5).
// While the lock is held no lease lapses, whatever the clocks say, and the holder's registration proves
// that all other workers are dead.
type Exclusive interface {
	// Lock takes the lock without waiting, or fails with ErrStoreInUse. The returned function gives it
	// back and may be called once.
	Lock() (unlock func(), err error)
}

// Transactional is implemented by stores in which an input can be accepted together with what else a
// transaction of the caller's writes.
type Transactional interface {
	// OfferTx is Offer within tx, whose type is the store's own choice: nothing has happened until tx
	// commits, and nothing will have if it does not. No lease is given. Errors: those of Offer, ErrTx
	// when tx is of another type, and what the database says.
	OfferTx(ctx context.Context, tx any, req *OfferRequest) (*Offered, error)
}

// Importer is implemented by stores into which the tasks of another can be moved.
type Importer interface {
	// Import takes a piece of a task. The task keeps its incarnation, and is held until its last piece is
	// there; after a break its import begins again with the first. Errors: *ConflictError when there is
	// another task with its ID; ErrNotFound for a later piece of a task that is not being imported any more.
	// No engine should run meanwhile.
	Import(ctx context.Context, req *ImportRequest) (*Imported, error)
}

// Uptimer is implemented by stores whose leases lapse while the machine of a worker sleeps.
type Uptimer interface {
	// Uptime returns how long this machine has been up, with the time that it slept. A worker compares it
	// with its own clock, which stands still meanwhile.
	Uptime() time.Duration
}

// Gauger is implemented by stores that have figures of their own for an engine's metrics.
type Gauger interface {
	// Gauges returns the figures as they are now, in a fixed order. It does not wait.
	Gauges() []Gauge
}

// Gauge is a figure that may rise and fall.
type Gauge struct {
	Name  string // a Prometheus name without its namespace
	Help  string
	Value int64
}

// Notifier is implemented by stores that can tell that somebody else has written. What it tells are
// hints: everything is right by polling alone.
type Notifier interface {
	// Listen calls hint after writes that did not come through this Store value, and after all while it
	// is called more than once, until ctx ends, and returns ctx's error. Its first hint says All: from then on until it returns, who waits may rely on
	// hints and look at the store seldom. Hints may be late, merged or lost. It fails with ErrClosed when
	// the store is closed, which ends the engine, and with other errors when hints do not come at present:
	// it may be called again, after a while.
	Listen(ctx context.Context, hint func(Hint)) error
}

// Hint says what may have changed.
type Hint struct {
	All   bool     // anything
	Due   bool     // a task may have become due
	Mail  []string // workers that may have mail
	Tasks []int64  // incarnations of tasks that may have changed, or are gone
}
