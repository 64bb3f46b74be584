package perdurehttp

import (
	"net/http"
	"slices"

	"github.com/perdure/perdure"
)

// route is a row of the table that the mux, the checks of parameters and the OpenAPI document are made of.
type route struct {
	method, path string
	summary      string
	params       []param
	waits        bool           // Prefer: wait is honoured
	streams      bool           // answers with Server-Sent Events if that is asked for
	always       bool           // served whatever the load
	body         any            // what is taken, as a value of its type; nil: nothing
	bodyless     bool           // it may be left out
	named        bool           // Idempotency-Key is honoured
	answers      map[int]answer // by status
	codes        []Code         // of problems, beside those that every route has
	serve        func(*Handler, *call) error
}

// answer is what a route answers with: a value of its type, or text of a media type, or nothing. With both,
// the caller's Accept decides.
type answer struct {
	about string
	body  any
	media string
}

// commonCodes are of problems that every route has.
var commonCodes = [...]Code{CodeInvalid, CodeForbidden, CodeInternal, CodeUnavailable}

// taskPage is an answer of GET /v1/tasks.
type taskPage struct {
	Tasks      []*perdure.Info `json:"tasks"`
	NextCursor string          `json:"next_cursor,omitempty"`
}

// turnPage is an answer of GET …/turns.
type turnPage struct {
	Turns     []*perdure.TurnInfo `json:"turns"`
	NextAfter int64               `json:"next_after,omitempty"`
}

// eventPage is an answer of GET …/events that is no stream.
type eventPage struct {
	Events    []perdure.Event `json:"events"`
	NextAfter int64           `json:"next_after"`
	Ended     bool            `json:"ended"` // nothing will follow: the last event is the end
}

// taskStatus is the answer of what is asked of a task.
type taskStatus struct {
	TaskID string         `json:"task_id"`
	Status perdure.Status `json:"status"`
}

type funcList struct {
	Funcs []perdure.FuncInfo `json:"funcs"`
}

type workerList struct {
	Workers []perdure.WorkerInfo `json:"workers"`
}

type health struct {
	Status string `json:"status"`
}

type readiness struct {
	Ready bool `json:"ready"`
}

// Statuses of tasks, as the list filters by them.
var taskStatuses = [...]perdure.Status{perdure.Pending, perdure.InProgress, perdure.Suspended, perdure.Completed,
	perdure.Failed, perdure.Cancelled, perdure.Terminated, perdure.Parked}

// noPayload is the value of the parameter payload.
const noPayload = "none"

// Page sizes.
const (
	defaultLimit = 50
	maxLimit     = 500
)

func statusNames() []string {
	var names []string
	for _, s := range taskStatuses {
		names = append(names, string(s))
	}
	return names
}

var (
	incarnationParam = param{name: "incarnation", about: "the task must be of this incarnation, else it was deleted", number: true, min: 1}
	turnParam        = param{name: "turn", about: "the number of a turn", number: true, min: 1}
	inputIDParam     = param{name: "input_id", about: "the input ID of a turn"}
	payloadParam     = param{name: "payload", about: "none leaves out the input and the output", oneOf: []string{noPayload}}
	limitParam       = param{name: "limit", about: "entries in all: default 50", number: true, min: 1, max: maxLimit}
)

// routes returns the table of routes.
func routes() []route {
	return slices.Concat(taskRoutes(), turnRoutes(), eventRoutes(), systemRoutes())
}

func taskRoutes() []route {
	handle := func(about string) answer { return answer{about: about, body: perdure.Accepted{}} }
	return []route{{
		method: http.MethodPost, path: "/v1/tasks", serve: (*Handler).start, waits: true, body: perdure.StartRequest{},
		summary: "Give a task an input: create it, resume it or queue the input",
		answers: map[int]answer{
			http.StatusCreated: handle("The task was created."), http.StatusAccepted: handle("The task was resumed, or the input queued."),
			http.StatusOK: {about: "The input ID was known, or the handle attached; or, with Prefer: wait, the outcome, named by Content-Location.", body: handleOrOutcome{}},
		},
		codes: []Code{CodeMediaType, CodeUnknownFunc, CodeConflict, CodeInputMismatch, CodeParked, CodeDeleted, CodePrecondition, CodeTooLarge, CodeQueueFull, CodeDigestKey, CodeShuttingDown},
	}, {
		method: http.MethodGet, path: "/v1/tasks", serve: (*Handler).list, summary: "List tasks, newest first",
		params: []param{
			{name: "func", about: "of this func; several are alternatives", repeat: true},
			{name: "status", about: "of this status; several are alternatives", repeat: true, oneOf: statusNames()},
			{name: "session", about: "of this session"}, {name: "agent", about: "of this agent"},
			{name: "tag", about: "with the tag key:value; several must all be there", repeat: true},
			limitParam, {name: "cursor", about: "next_cursor of the page before"},
		},
		answers: map[int]answer{http.StatusOK: {about: "A page of tasks, without their metadata.", body: taskPage{}}},
	}, {
		method: http.MethodGet, path: "/v1/tasks/{id}", serve: (*Handler).get, summary: "Get a task",
		answers: map[int]answer{http.StatusOK: {about: "The task; its ETag names the version.", body: perdure.Info{}}},
		codes:   []Code{CodeNotFound},
	}, {
		method: http.MethodDelete, path: "/v1/tasks/{id}", serve: (*Handler).remove, named: true,
		summary: "Delete a task with its turns and events; If-Match is honoured",
		params:  []param{incarnationParam, {name: "version", about: "the version the task must have", number: true, min: 1}},
		answers: map[int]answer{http.StatusNoContent: {about: "There is no such task, or no longer."}},
		codes:   []Code{CodeConflict, CodePrecondition},
	}, {
		method: http.MethodPost, path: "/v1/tasks/{id}/cancel", serve: (*Handler).cancel, body: cancelBody{}, named: true,
		summary: "Ask a task's current turn to stop, and end what is queued; or one turn only",
		answers: map[int]answer{http.StatusAccepted: {about: "The request is stored; nothing, if the task has ended.", body: taskStatus{}}},
		codes:   []Code{CodeMediaType, CodeNotFound, CodeDeleted, CodeConflict, CodeTooLarge},
	}, {
		method: http.MethodPost, path: "/v1/tasks/{id}/terminate", serve: (*Handler).terminate, body: terminateBody{}, named: true,
		summary: "End a task by force",
		answers: map[int]answer{http.StatusAccepted: {about: "The task has ended.", body: taskStatus{}}},
		codes:   []Code{CodeMediaType, CodeNotFound, CodeDeleted, CodeConflict, CodeTooLarge},
	}, {
		method: http.MethodPost, path: "/v1/tasks/{id}/resume", serve: (*Handler).resume, body: resumeBody{}, bodyless: true, named: true,
		summary: "Let a parked task go on",
		answers: map[int]answer{http.StatusAccepted: {about: "The task is due.", body: taskStatus{}}},
		codes:   []Code{CodeMediaType, CodeNotFound, CodeDeleted, CodeConflict, CodeTooLarge},
	}}
}

func turnRoutes() []route {
	return []route{{
		method: http.MethodGet, path: "/v1/tasks/{id}/turns", serve: (*Handler).turns, summary: "List a task's turns, oldest first",
		params: []param{
			{name: "after", about: "begin after this number", number: true}, limitParam,
			{name: "input_id", about: "only the turn of this input"}, incarnationParam, payloadParam,
		},
		answers: map[int]answer{http.StatusOK: {about: "A page of turns, shorter than its limit if they are large.", body: turnPage{}}},
		codes:   []Code{CodeNotFound, CodeDeleted},
	}, {
		method: http.MethodGet, path: "/v1/tasks/{id}/turns/{n}", serve: (*Handler).turn, params: []param{incarnationParam, payloadParam},
		summary: "Get a turn, by its number; current is the current (else last) one",
		answers: map[int]answer{http.StatusOK: {about: "The turn.", body: perdure.TurnInfo{}}},
		codes:   []Code{CodeNotFound, CodeDeleted},
	}, {
		method: http.MethodGet, path: "/v1/tasks/{id}/result", serve: (*Handler).result, waits: true,
		summary: "Get how a turn ended: by number, by input ID, else the current (else last) one",
		params:  []param{turnParam, inputIDParam, incarnationParam},
		answers: map[int]answer{
			http.StatusOK:       {about: "The turn has ended.", body: perdure.Outcome{}},
			http.StatusAccepted: {about: "The turn is still open.", body: perdure.Accepted{}},
		},
		codes: []Code{CodeNotFound, CodeDeleted, CodeParked},
	}}
}

func eventRoutes() []route {
	return []route{{
		method: http.MethodGet, path: "/v1/tasks/{id}/events", serve: (*Handler).events, streams: true,
		summary: "Read a task's stream after a number: as Server-Sent Events, live, or as a page of what is there",
		params: []param{
			{name: "after", about: "begin after this number: default 0. Last-Event-ID, if given, wins", number: true},
			{name: "until", about: "end with the task (the default) or with a turn", oneOf: []string{untilTask, untilTurn}},
			{name: "turn", about: "with until=turn: the turn, by default the current (else last) one", number: true, min: 1},
			{name: "view", about: "committed leaves out what may be taken back, or has been", oneOf: []string{viewLive, viewCommitted}},
			{name: "limit", about: "of a page: default 100", number: true, min: 1, max: maxLimit}, incarnationParam,
		},
		answers: map[int]answer{
			http.StatusOK: {about: "Events: id is the number, event the kind, data an Event. A page, unless text/event-stream is accepted.",
				body: eventPage{}, media: eventStream},
			http.StatusNoContent: {about: "To a request with Last-Event-ID: the reader has had everything, and nothing will follow."},
		},
		codes: []Code{CodeNotFound, CodeDeleted},
	}}
}

func systemRoutes() []route {
	return []route{{
		method: http.MethodGet, path: "/v1/funcs", serve: (*Handler).funcs, summary: "List the funcs that are bound to this server's engine",
		answers: map[int]answer{http.StatusOK: {about: "The funcs, by name.", body: funcList{}}},
	}, {
		method: http.MethodGet, path: "/v1/workers", serve: (*Handler).workers, summary: "List the workers that are alive on the store",
		answers: map[int]answer{http.StatusOK: {about: "The workers, oldest first.", body: workerList{}}},
	}, {
		method: http.MethodGet, path: "/healthz", serve: (*Handler).health, always: true, summary: "Tell that the process is alive",
		answers: map[int]answer{http.StatusOK: {about: "It is.", body: health{}}},
	}, {
		method: http.MethodGet, path: "/readyz", serve: (*Handler).ready, always: true, summary: "Tell whether the engine takes work",
		answers: map[int]answer{http.StatusOK: {about: "It does.", body: readiness{}}},
		codes:   []Code{CodeShuttingDown},
	}, {
		method: http.MethodGet, path: "/metrics", serve: (*Handler).metrics, always: true, summary: "Tell the engine's figures",
		answers: map[int]answer{http.StatusOK: {about: "Prometheus text.", media: metricsMedia}},
	}, {
		method: http.MethodGet, path: "/v1/openapi.json", serve: (*Handler).describe, summary: "Describe this API",
		answers: map[int]answer{http.StatusOK: {about: "An OpenAPI 3.1 document.", media: "application/json"}},
	}}
}
