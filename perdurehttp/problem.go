package perdurehttp

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/store"
)

// Code says what kind of problem an answer is. The list is closed.
type Code string

// Codes of problems.
const (
	CodeInvalid       Code = "invalid"
	CodeMediaType     Code = "media_type"
	CodeUnauthorized  Code = "unauthorized"
	CodeForbidden     Code = "forbidden"
	CodeNotFound      Code = "not_found"
	CodeUnknownFunc   Code = "unknown_func"
	CodeNoRoute       Code = "no_route"
	CodeMethod        Code = "method_not_allowed"
	CodeDeleted       Code = "deleted"
	CodeConflict      Code = "conflict"
	CodeInputMismatch Code = "input_mismatch"
	CodeParked        Code = "parked"
	CodePrecondition  Code = "precondition"
	CodeTooLarge      Code = "too_large"
	CodeQueueFull     Code = "queue_full"
	CodeInternal      Code = "internal"
	CodeDigestKey     Code = "digest_key"
	CodeShuttingDown  Code = "shutting_down"
	CodeUnavailable   Code = "unavailable"
	CodeStoreInUse    Code = "store_in_use"
	CodeClosed        Code = "closed"
)

// kind is a row of the table of errors.
type kind struct {
	code   Code
	status int
	title  string
	err    error // what errors.Is finds; nil for problems that only the wire knows
	quiet  bool  // the error's own text stays on the server
}

// kinds is the table sentinel ↔ code ↔ status. An error is of the first kind that it matches; what
// matches none is internal. Conflict and precondition errors are found by their types.
var kinds = [...]kind{
	{CodeInvalid, http.StatusBadRequest, "The request is not valid", perdure.ErrInvalid, false},
	{CodeMediaType, http.StatusUnsupportedMediaType, "The body must be application/json, without a Content-Encoding", perdure.ErrInvalid, false},
	{CodeUnauthorized, http.StatusUnauthorized, "Credentials are missing or not valid", nil, false},
	{CodeForbidden, http.StatusForbidden, "The request is not allowed", nil, false},
	{CodeDeleted, http.StatusGone, "The task was deleted", perdure.ErrDeleted, false},
	{CodeNotFound, http.StatusNotFound, "No such task or turn", perdure.ErrNotFound, false},
	{CodeUnknownFunc, http.StatusNotFound, "Nobody has declared the func", perdure.ErrUnknownFunc, false},
	{CodeNoRoute, http.StatusNotFound, "No such route", nil, false},
	{CodeMethod, http.StatusMethodNotAllowed, "The route does not take this method", nil, false},
	{CodeConflict, http.StatusConflict, "The task does not allow it", nil, false},
	{CodeInputMismatch, http.StatusConflict, "The input ID was accepted with another input", perdure.ErrInputMismatch, false},
	{CodeParked, http.StatusConflict, "The task is parked", perdure.ErrParked, false},
	{CodePrecondition, http.StatusPreconditionFailed, "The precondition does not hold", nil, false},
	{CodeTooLarge, http.StatusRequestEntityTooLarge, "A limit is exceeded", perdure.ErrTooLarge, false},
	{CodeQueueFull, http.StatusTooManyRequests, "The queue of waiting inputs is full", perdure.ErrQueueFull, false},
	{CodeDigestKey, http.StatusInternalServerError, "The key of the stored input's digest is not held", perdure.ErrDigestKey, false},
	{CodeShuttingDown, http.StatusServiceUnavailable, "The server is shutting down", perdure.ErrShuttingDown, false},
	{CodeStoreInUse, http.StatusServiceUnavailable, "Another engine works on the store", perdure.ErrStoreInUse, true},
	{CodeClosed, http.StatusServiceUnavailable, "The store has been closed", perdure.ErrClosed, true},
	{CodeUnavailable, http.StatusServiceUnavailable, "The store cannot be reached, or the server is busy", perdure.ErrUnavailable, true},
	{CodeInternal, http.StatusInternalServerError, "Internal error", nil, true},
}

// Problem is an error on the wire (RFC 9457). As an error it wraps what package perdure's own client
// would return, for errors.Is and errors.As. It names IDs, and never an input.
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	Code   Code   `json:"code"`
	TaskID string `json:"task_id,omitempty"`

	CurrentStatus     perdure.Status `json:"current_status,omitempty"`       // conflict, parked
	CurrentFunc       string         `json:"current_func,omitempty"`         // conflict: the task is of this func
	ActualLastInputID string         `json:"actual_last_input_id,omitempty"` // precondition of a start
	ActualVersion     string         `json:"actual_version,omitempty"`       // precondition of a delete
	Reason            string         `json:"reason,omitempty"`               // parked
	Turn              int64          `json:"turn,omitempty"`                 // parked: the turn that is in quarantine
	RequestID         string         `json:"request_id,omitempty"`           // conflict: it was another operation's
	Reasons           []string       `json:"reasons,omitempty"`              // of /readyz

	cause  error
	secret bool // the cause's text stays on the server, which logs it
}

// Error returns the detail, else the title.
func (p *Problem) Error() string {
	if p.Detail != "" {
		return p.Detail
	}
	return p.Title
}

// Unwrap returns the error of package perdure that the problem stands for; nil if there is none.
func (p *Problem) Unwrap() error { return p.cause }

// lookup returns the row of a code, and whether the list has it.
func lookup(code Code) (kind, bool) {
	for _, k := range kinds {
		if k.code == code {
			return k, true
		}
	}
	return kind{}, false
}

// kindOf returns the row of an error.
func kindOf(err error) kind {
	code := CodeInternal
	if _, ok := errors.AsType[*perdure.ConflictError](err); ok {
		code = CodeConflict
	} else if _, ok := errors.AsType[*perdure.PreconditionError](err); ok {
		code = CodePrecondition
	}
	for _, k := range kinds {
		if code == CodeInternal && k.err != nil && errors.Is(err, k.err) || k.code == code && code != CodeInternal {
			return k
		}
	}
	k, _ := lookup(CodeInternal)
	return k
}

// newProblem returns a problem that only the wire knows.
func newProblem(code Code, format string, args ...any) *Problem {
	k, _ := lookup(code)
	return k.problem(fmt.Sprintf(format, args...))
}

func (k kind) problem(detail string) *Problem {
	return &Problem{Type: "urn:perdure:problem:" + string(k.code), Title: k.title, Status: k.status, Detail: detail, Code: k.code, cause: k.err}
}

// problemOf returns an error as a problem, about the given task if it names none itself.
func problemOf(err error, taskID string) *Problem {
	p, ok := errors.AsType[*Problem](err)
	if !ok {
		k := kindOf(err)
		p = k.problem(err.Error())
		if k.quiet {
			p.Detail = ""
		}
		if _, ok := errors.AsType[*store.ContentError](err); ok {
			p.Detail, p.secret = "the store refuses what the request says; the server's log has the reason", true
		}
		p.cause = err
		p.extend(err)
	}
	if p.TaskID == "" {
		p.TaskID = taskID
	}
	return p
}

// extend fills in what carrying errors carry.
func (p *Problem) extend(err error) {
	if e, ok := errors.AsType[*perdure.ConflictError](err); ok {
		p.TaskID, p.CurrentStatus, p.CurrentFunc, p.RequestID = e.TaskID, e.Status, e.Func, e.RequestID
	}
	if e, ok := errors.AsType[*perdure.PreconditionError](err); ok {
		p.TaskID, p.ActualLastInputID = e.TaskID, e.Actual
	}
	if e, ok := errors.AsType[*perdure.ParkedError](err); ok {
		p.TaskID, p.CurrentStatus, p.Reason, p.Turn = e.TaskID, perdure.Parked, e.Reason, e.Turn
	}
}

// received makes a problem that came over the wire wrap what it stands for.
func (p *Problem) received() *Problem {
	switch k, _ := lookup(p.Code); p.Code {
	case CodeConflict:
		p.cause = &perdure.ConflictError{TaskID: p.TaskID, Status: p.CurrentStatus, Func: p.CurrentFunc, RequestID: p.RequestID}
	case CodePrecondition:
		p.cause = &perdure.PreconditionError{TaskID: p.TaskID, Actual: p.ActualLastInputID + p.ActualVersion}
	case CodeParked:
		p.cause = &perdure.ParkedError{TaskID: p.TaskID, Turn: p.Turn, Reason: p.Reason}
	default:
		p.cause = k.err
	}
	return p
}

// invalid returns an error of code invalid.
func invalid(format string, args ...any) error {
	return newProblem(CodeInvalid, format, args...)
}
