package perdurehttp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/perdure/perdure"
)

// maxPageBytes ends a page of turns early.
const maxPageBytes = 8 << 20

// turns serves GET /v1/tasks/{id}/turns.
func (h *Handler) turns(c *call) error {
	incarnation := number(c.query, "incarnation", 0)
	if id := c.query.Get("input_id"); id != "" {
		turn, err := h.client.Turn(c.r.Context(), perdure.TurnQuery{TaskID: c.id, Incarnation: incarnation, InputID: id})
		if err != nil {
			return err
		}
		h.write(c.w, http.StatusOK, turnPage{Turns: []*perdure.TurnInfo{turn}})
		return nil
	}
	page, size := turnPage{Turns: []*perdure.TurnInfo{}}, 0
	limit := int(number(c.query, "limit", defaultLimit))
	for turn, err := range h.client.Turns(c.r.Context(), c.id, number(c.query, "after", 0)) {
		if err == nil && incarnation != 0 && turn.Incarnation != incarnation {
			err = fmt.Errorf("task %s: %w", c.id, perdure.ErrDeleted)
		}
		if err != nil {
			return err
		}
		if n := len(page.Turns); n == limit || size > maxPageBytes {
			page.NextAfter = page.Turns[n-1].Number
			break
		}
		page.Turns = append(page.Turns, turn)
		size += len(turn.Input) + len(turn.Output)
	}
	h.write(c.w, http.StatusOK, page)
	return nil
}

// turn serves GET /v1/tasks/{id}/turns/{n}.
func (h *Handler) turn(c *call) error {
	q := perdure.TurnQuery{TaskID: c.id, Incarnation: number(c.query, "incarnation", 0)}
	if n := c.r.PathValue("n"); n != "current" {
		var err error
		if q.Turn, err = strconv.ParseInt(n, 10, 64); err != nil || q.Turn < 1 {
			return fmt.Errorf("turn %s of task %s: %w", quote(n), c.id, perdure.ErrNotFound)
		}
	}
	turn, err := h.client.Turn(c.r.Context(), q)
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
	turn, err := h.client.Turn(c.r.Context(), q)
	switch {
	case err != nil:
		return err
	case turn.Status == perdure.Parked:
		return &perdure.ParkedError{TaskID: turn.TaskID, Reason: turn.Reason}
	case turn.Status.Outcome():
		return h.outcome(c, &perdure.Outcome{TaskID: turn.TaskID, Turn: turn.Number, InputID: turn.InputID, Status: turn.Status,
			Superseded: turn.Superseded, Output: turn.Output, Error: turn.Error, Reason: turn.Reason}, nil)
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
	ctx, cancel := context.WithTimeout(c.r.Context(), c.wait)
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
