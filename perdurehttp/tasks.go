package perdurehttp

import (
	"fmt"
	"net/http"

	"github.com/perdure/perdure"
)

// start serves POST /v1/tasks.
func (h *Handler) start(c *call) error {
	if c.r.Header.Get(requestHeader) != "" {
		return invalid("header %s: a start is recognised by its \"task_id\" and \"input_id\": give these instead", requestHeader)
	}
	data, err := h.readBody(c.w, c.r)
	if err != nil {
		return err
	}
	var req perdure.StartRequest
	if err := decodeObject(data, startMembers(&req)); err != nil {
		return err
	}
	a, err := h.client.Start(c.unary(), &req)
	if err != nil {
		if identifier.MatchString(req.TaskID) {
			return problemOf(err, req.TaskID)
		}
		return err
	}
	return h.accepted(c, a)
}

// accepted answers a start, with the outcome if that was asked for and comes in time.
func (h *Handler) accepted(c *call, a *perdure.Accepted) error {
	status := http.StatusAccepted
	switch {
	case a.Created:
		status = http.StatusCreated
		c.w.Header().Set("Location", "tasks/"+a.TaskID)
	case a.Known, a.Attached:
		status = http.StatusOK
	}
	if c.wait > 0 {
		o, err := h.await(c, perdure.TurnQuery{TaskID: a.TaskID, Incarnation: a.Incarnation, Turn: a.Turn})
		if err != nil {
			return problemOf(err, a.TaskID)
		}
		if o != nil {
			c.w.Header().Del("Location")
			c.w.Header().Set("Content-Location", fmt.Sprintf("tasks/%s/result?turn=%d", a.TaskID, a.Turn))
			h.write(c.w, http.StatusOK, o)
			return nil
		}
	}
	h.write(c.w, status, a)
	return nil
}

// list serves GET /v1/tasks.
func (h *Handler) list(c *call) error {
	opts, err := listOptions(c)
	if err != nil {
		return err
	}
	limit := opts.Limit
	opts.Limit++ // one more tells whether there is a next page
	page := taskPage{Tasks: []*perdure.Info{}}
	for info, err := range h.client.Tasks(c.unary(), opts) {
		if err != nil {
			return err
		}
		if len(page.Tasks) == limit {
			page.NextCursor = formatCursor(page.Tasks[limit-1].Incarnation)
			break
		}
		page.Tasks = append(page.Tasks, info)
	}
	h.write(c.w, http.StatusOK, page)
	return nil
}

func listOptions(c *call) (opts *perdure.ListOptions, err error) {
	opts = &perdure.ListOptions{
		Funcs: c.query["func"], Session: c.query.Get("session"), Agent: c.query.Get("agent"),
		Limit: int(number(c.query, "limit", defaultLimit)),
	}
	for _, s := range c.query["status"] {
		opts.Statuses = append(opts.Statuses, perdure.Status(s))
	}
	if opts.Tags, err = parseTags(c.query["tag"]); err != nil {
		return nil, err
	}
	opts.Before, err = parseCursor(c.query.Get("cursor"))
	return opts, err
}

// get serves GET /v1/tasks/{id}.
func (h *Handler) get(c *call) error {
	info, err := h.client.Task(c.unary(), c.id)
	if err != nil {
		return err
	}
	c.w.Header().Set("ETag", formatETag(info.Incarnation, info.Version))
	h.write(c.w, http.StatusOK, info)
	return nil
}

// remove serves DELETE /v1/tasks/{id}.
func (h *Handler) remove(c *call) error {
	opts := &perdure.DeleteOptions{Version: number(c.query, "version", 0), Incarnation: number(c.query, "incarnation", 0)}
	incarnation, version, err := ifMatch(c.r.Header)
	if err != nil {
		return err
	}
	if opts.RequestID, err = requestID(c.r.Header, ""); err != nil {
		return err
	}
	if version != 0 {
		if opts.Version != 0 || opts.Incarnation != 0 {
			return invalid("header If-Match excludes the query parameters version and incarnation")
		}
		opts.Version, opts.Incarnation = version, incarnation
	}
	if err := h.client.Delete(c.unary(), c.id, opts); err != nil {
		return versionProblem(err)
	}
	if version != 0 {
		if err := h.made(c, incarnation); err != nil {
			return err
		}
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// made is the precondition of If-Match on a task that was made again since: that one was not deleted.
func (h *Handler) made(c *call, incarnation int64) error {
	info, err := h.client.Task(c.unary(), c.id)
	if err != nil || info.Incarnation == incarnation {
		return nil
	}
	return versionProblem(&perdure.PreconditionError{TaskID: c.id, Actual: fmt.Sprint(info.Version)})
}

// versionProblem is a failed precondition of a delete, which is about the version.
func versionProblem(err error) error {
	p := problemOf(err, "")
	p.ActualVersion, p.ActualLastInputID = p.ActualLastInputID, ""
	return p
}

// cancel serves POST /v1/tasks/{id}/cancel.
func (h *Handler) cancel(c *call) error {
	var body cancelBody
	known := members{"turn": &body.Turn, "input_id": &body.InputID}
	if err := h.readSignal(c, &body.signalBody, known, true); err != nil {
		return err
	}
	switch {
	case body.Turn < 0:
		return invalid("field \"turn\" must be at least 1")
	case body.Turn != 0 && body.InputID != "":
		return invalid("fields \"turn\" and \"input_id\" exclude each other")
	}
	status, err := h.client.Cancel(c.unary(), c.id, &perdure.CancelOptions{Turn: body.Turn, InputID: body.InputID,
		Incarnation: body.Incarnation, Reason: body.Reason, RequestID: body.RequestID})
	return h.asked(c, status, err)
}

// readSignal reads the body of what is asked of a task; only one that need not say anything may be empty.
func (h *Handler) readSignal(c *call, body *signalBody, known members, must bool) error {
	data, err := h.readBody(c.w, c.r)
	if err != nil {
		return err
	}
	known["incarnation"], known["request_id"] = &body.Incarnation, &body.RequestID
	if must {
		known["reason"] = &body.Reason
	}
	if must || len(data) > 0 {
		if err := decodeObject(data, known); err != nil {
			return err
		}
	}
	if body.Incarnation < 0 {
		return invalid("field \"incarnation\" must be at least 1")
	}
	body.RequestID, err = requestID(c.r.Header, body.RequestID)
	return err
}

// terminate serves POST /v1/tasks/{id}/terminate.
func (h *Handler) terminate(c *call) error {
	var body terminateBody
	if err := h.readSignal(c, &body.signalBody, members{}, true); err != nil {
		return err
	}
	status, err := h.client.Terminate(c.unary(), c.id, &perdure.TerminateOptions{Incarnation: body.Incarnation, Reason: body.Reason, RequestID: body.RequestID})
	return h.asked(c, status, err)
}

// resume serves POST /v1/tasks/{id}/resume.
func (h *Handler) resume(c *call) error {
	var body signalBody
	if err := h.readSignal(c, &body, members{}, false); err != nil {
		return err
	}
	status, err := h.client.Resume(c.unary(), c.id, &perdure.ResumeOptions{Incarnation: body.Incarnation, RequestID: body.RequestID})
	return h.asked(c, status, err)
}

func (h *Handler) asked(c *call, status perdure.Status, err error) error {
	if err != nil {
		return err
	}
	h.write(c.w, http.StatusAccepted, taskStatus{TaskID: c.id, Status: status})
	return nil
}
