// Package rules holds the decisions that all stores share: what an Offer, a Claim, a Settle … does to the
// rows of one task. Each function is one operation of store.Store; it reads and writes through [Rows] and
// knows nothing of where the rows are kept, so that memory, SQLite and Postgres cannot differ in what they
// decide.
//
// A function that returns an error of package store (store.Definite) has written nothing. After any
// other error the caller rolls back.
package rules

import (
	"time"

	"github.com/perdure/perdure/store"
)

// Rows is one transaction on a store, with the rows it touches locked against others. Rows that are
// returned belong to the caller; absent ones are nil. Tasks are returned without their metadata.
type Rows interface {
	// Sole reports whether a lock proves that there is one engine, so that no lease lapses by time.
	Sole() bool

	TaskByID(id string) (*store.Task, error)
	Task(incarnation int64) (*store.Task, error)
	// InsertTask sets t.Incarnation, higher than any before; one that is set already is kept.
	InsertTask(t *store.Task) error
	UpdateTask(t *store.Task) error // all but what InsertTask alone sets: identity, labels, settings
	DeleteTask(incarnation int64) error
	// NextPlace returns the next place in the line of those that wait: higher than any before, and than the given one.
	NextPlace(above int64) (int64, error)

	// What a task has beside its own row, its turns, metadata and events, may stay for a while when that
	// is deleted. Abandon notes that it is there to be removed, Abandoned returns such tasks, and DropRows
	// removes up to limit of the rows, more or fewer where they are large, and reports how many and whether
	// there are more. A note goes with the last row.
	Abandon(incarnation int64) error
	Abandoned(limit int) ([]int64, error)
	DropRows(incarnation int64, limit int) (dropped int, more bool, err error)

	Turn(incarnation, number int64) (*store.Turn, error)
	TurnByInput(incarnation int64, inputID string) (*store.Turn, error) // payloads may be left out
	Queued(incarnation, after int64, limit int) ([]*store.Turn, error)  // not ended, in order, without inputs
	LastEntered(incarnation, before int64) (*store.Turn, error)
	InsertTurn(t *store.Turn) error
	EndTurn(t *store.Turn) error                                     // writes all but identity and input
	PruneTurns(incarnation, upTo int64) (lastEvent int64, err error) // the highest EndEvent of those removed

	Metadata(incarnation int64) (map[string][]byte, error)
	SetMetadata(incarnation int64, changes []store.Change) error
	AppendEvents(incarnation int64, events []store.Event) error
	// DropEvents removes emitted events below a number, oldest first, in at most limit pieces of the
	// store's own, and reports how many pieces and whether there are more.
	DropEvents(incarnation, below int64, limit int) (dropped int, more bool, err error)
	// EmittedBefore looks at no more than the first pieces of a stream, limit of them. It returns the number
	// of the last event there that was emitted at or before a time (0 if there is none), and the time of the
	// one after it (zero if it has not seen one).
	EmittedBefore(incarnation int64, at time.Time, limit int) (number int64, next time.Time, err error)

	Worker(id string) (*store.Worker, error)
	PutWorker(w *store.Worker) error
	DeleteWorker(id string) error
	Lapsed(now time.Time) ([]*store.Worker, error) // all that may be dead, and some that are not
	// Served reports whether a worker that is alive runs a func.
	Served(fn string, now time.Time) (bool, error)
	AddMail(m store.Mail) error
	Published(name string) (*store.Settings, error)
	Publish(f store.PublishedFunc) error

	// Request returns what a request ID stands for, Remember notes it, and Forget removes those noted before
	// a time, up to limit, and reports whether there are more.
	Request(task, id string) (*Request, error)
	Remember(r *Request) error
	Forget(before time.Time, limit int) (more bool, err error)

	// LeasedTo returns tasks that are leased to a worker, and whether they are all: some may be left out because
	// somebody else is writing them.
	LeasedTo(worker string, limit int) (tasks []*store.Task, all bool, err error)
	LeasedBy(worker string, request int64) ([]*store.Task, error) // those given to one request, not to be written
	// Due returns the first in the line of each func, as many as each may have: of those that are no suspects, and
	// of suspects.
	Due(now time.Time, plain, suspects []store.ClaimFunc) ([]*store.Task, error)
	NextDue(now time.Time, funcs []string) (time.Time, error) // when the first falls due after now
	Expired(now time.Time, limit int) ([]*store.Task, error)
	Ending(now time.Time, limit int) ([]*store.Task, error) // whose EndBy has come
	Trimmable(now time.Time, limit int) ([]*store.Task, error)
}

// Request is an operation that was applied, as it is recognised when it is repeated.
type Request struct {
	Task, ID string
	Op       string // what was asked for
	Answer   []byte // JSON
	At       time.Time
}
