package perdurehttp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/perdure/perdure"
)

// maxPageBytes ends a page of turns, or events, early.
const maxPageBytes = 4 << 20

// turns serves GET /v1/tasks/{id}/turns.
func (h *Handler) turns(c *call) error {
	incarnation, without := number(c.query, "incarnation", 0), c.query.Get("payload") == noPayload
	if id := c.query.Get("input_id"); id != "" {
		turn, err := h.client.Turn(c.unary(), perdure.TurnQuery{TaskID: c.id, Incarnation: incarnation, InputID: id, NoPayload: without})
		if err != nil {
			return err
		}
		h.write(c.w, http.StatusOK, turnPage{Turns: []*perdure.TurnInfo{turn}})
		return nil
	}
	page, size := turnPage{Turns: []*perdure.TurnInfo{}}, 0
	opts := &perdure.TurnsOptions{After: number(c.query, "after", 0), Limit: int(number(c.query, "limit", defaultLimit))}
	var last *perdure.TurnInfo
	for turn, err := range h.client.Turns(c.unary(), c.id, opts) {
		if err == nil && incarnation != 0 && turn.Incarnation != incarnation {
			err = fmt.Errorf("task %s: %w", c.id, perdure.ErrDeleted)
		}
		if err != nil {
			return err
		}
		if last = turn; without {
			turn.Input, turn.Output = nil, nil
		}
		page.Turns = append(page.Turns, turn)
		if size += len(turn.Input) + len(turn.Output); size > maxPageBytes {
			break
		}
	}
	if last != nil && (len(page.Turns) == opts.Limit || size > maxPageBytes) {
		var err error
		if page.NextAfter, err = h.follows(c, last); err != nil {
			return err
		}
	}
	h.write(c.w, http.StatusOK, page)
	return nil
}

// follows returns the number of a turn if there is one after it; else 0. Turns are numbered without gaps.
func (h *Handler) follows(c *call, turn *perdure.TurnInfo) (int64, error) {
	_, err := h.client.Turn(c.unary(), perdure.TurnQuery{TaskID: c.id, Incarnation: turn.Incarnation, Turn: turn.Number + 1, NoPayload: true})
	switch {
	case errors.Is(err, perdure.ErrNotFound), errors.Is(err, perdure.ErrDeleted):
		return 0, nil
	case err != nil:
		return 0, err
	}
	return turn.Number, nil
}

// turn serves GET /v1/tasks/{id}/turns/{n}.
func (h *Handler) turn(c *call) error {
	q := perdure.TurnQuery{TaskID: c.id, Incarnation: number(c.query, "incarnation", 0), NoPayload: c.query.Get("payload") == noPayload}
	if n := c.r.PathValue("n"); n != "current" {
		var err error
		if q.Turn, err = strconv.ParseInt(n, 10, 64); err != nil || q.Turn < 1 {
			return fmt.Errorf("turn %s of task %s: %w", quote(n), c.id, perdure.ErrNotFound)
		}
	}
	turn, err := h.client.Turn(c.unary(), q)
	if err != nil {
		return err
	}
	h.write(c.w, http.StatusOK, turn)
	return nil
}

// result serves GET /v1/tasks/{id}/result.
func (h *Handler) result(c *call) error {
	q := perdure.TurnQuery{TaskID: c.id, Incarnation: number(c.query, "incarnation", 0),
		Turn: number(c.query, "turn", 0), InputID: c.query.Get("input_id")}
	if q.Turn != 0 && q.InputID != "" {
		return invalid("query parameters \"turn\" and \"input_id\" exclude each other")
	}
	if c.wait > 0 {
		if o, err := h.await(c, q); o != nil || err != nil {
			return h.outcome(c, o, err)
		}
	}
	q.NoPayload = true
	turn, err := h.client.Turn(c.unary(), q)
	if err != nil {
		return err
	}
	if turn.Status.Outcome() || turn.Status == perdure.Parked {
		q.Turn, q.Incarnation = turn.Number, turn.Incarnation
		o, err := h.client.Outcome(c.unary(), q)
		return h.outcome(c, o, err)
	}
	h.write(c.w, http.StatusAccepted, perdure.Accepted{TaskID: turn.TaskID, InputID: turn.InputID, Turn: turn.Number,
		Status: turn.Status, Queued: turn.Status == perdure.Queued, Incarnation: turn.Incarnation})
	return nil
}

func (h *Handler) outcome(c *call, o *perdure.Outcome, err error) error {
	if err == nil {
		h.write(c.w, http.StatusOK, o)
	}
	return err
}

// await waits for a turn's end as long as the request prefers; it returns nil if the turn is open still,
// then or when the engine begins to shut down.
func (h *Handler) await(c *call, q perdure.TurnQuery) (*perdure.Outcome, error) {
	c.w.Header().Set("Preference-Applied", "wait="+strconv.Itoa(int(c.wait.Seconds())))
	caller, leave := c.lasting()
	defer leave()
	ctx, cancel := context.WithTimeout(caller, c.wait)
	defer cancel()
	go func() {
		select {
		case <-h.eng.Draining():
			cancel()
		case <-ctx.Done():
		}
	}()
	o, err := h.client.Outcome(ctx, q)
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil, nil
	}
	return o, err
}
