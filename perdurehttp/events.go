package perdurehttp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/perdure/perdure"
)

// eventStream is the media type of Server-Sent Events.
const eventStream = "text/event-stream"

// Values of the parameters until and view.
const (
	untilTask     = "task"
	untilTurn     = "turn"
	viewLive      = "live"
	viewCommitted = "committed"
)

// incarnationHeader tells which incarnation of the task a stream is of.
const incarnationHeader = "Perdure-Incarnation"

// Of a stream: how long one write to a slow reader may take, what an EventSource is told to wait before it comes
// back, and how many events may wait to be written together.
const (
	streamWrite  = 30 * time.Second
	streamRetry  = 500 * time.Millisecond
	streamBuffer = 32
)

const defaultEventLimit = 100

// wantsStream reports whether Accept headers name Server-Sent Events, and do not want JSON more.
func wantsStream(headers []string) bool {
	stream := quality(headers, eventStream)
	return stream > 0 && stream >= quality(headers, "application/json")
}

// quality is how much a media type is wanted that Accept headers name; 0 if they do not, or do not want it.
func quality(headers []string, want string) (most float64) {
	for r := range strings.SplitSeq(strings.Join(headers, ","), ",") {
		media, params, err := mime.ParseMediaType(r)
		if err != nil || media != want {
			continue
		}
		q := 1.0
		if given, ok := params["q"]; ok {
			if q, err = strconv.ParseFloat(given, 64); err != nil || !(q >= 0 && q <= 1) {
				continue
			}
		}
		most = max(most, q)
	}
	return most
}

// events serves GET /v1/tasks/{id}/events.
func (h *Handler) events(c *call) error {
	opts, err := h.eventOptions(c)
	if err != nil {
		return err
	}
	if c.sse {
		return h.stream(c, opts)
	}
	limit := int(number(c.query, "limit", defaultEventLimit))
	opts.NoWait, opts.Limit = true, limit
	page := eventPage{Events: []perdure.Event{}, NextAfter: opts.After}
	size := 0
	for e, err := range h.client.Events(c.unary(), c.id, opts) {
		if err != nil {
			return err
		}
		page.Events = append(page.Events, e)
		page.NextAfter = max(page.NextAfter, e.Number, e.First-1)
		page.Ended = e.Kind == perdure.EventEnd
		if size += len(e.Data); len(page.Events) == limit || size > maxPageBytes {
			break
		}
	}
	h.write(c.w, http.StatusOK, page)
	return nil
}

// eventOptions reads what is asked for. A number in Last-Event-ID is newer than the query of the same URL.
func (h *Handler) eventOptions(c *call) (*perdure.EventOptions, error) {
	opts := &perdure.EventOptions{After: number(c.query, "after", 0), Turn: number(c.query, "turn", 0),
		Committed: c.query.Get("view") == viewCommitted, Incarnation: number(c.query, "incarnation", 0)}
	if last := c.r.Header.Values("Last-Event-ID"); len(last) > 0 && last[0] != "" {
		n, err := strconv.ParseInt(last[0], 10, 64)
		if err != nil || n < 0 || len(last) > 1 {
			return nil, invalid("header Last-Event-ID: %s is not the number of an event", quote(strings.Join(last, ", ")))
		}
		opts.After = n
	}
	switch until := c.query.Get("until"); {
	case until != untilTurn && opts.Turn != 0:
		return nil, invalid("query parameter \"turn\" goes with until=turn")
	case until == untilTurn && opts.Turn == 0:
		turn, err := h.client.Turn(c.unary(), perdure.TurnQuery{TaskID: c.id, Incarnation: opts.Incarnation})
		if err != nil {
			return nil, err
		}
		opts.Turn, opts.Incarnation = turn.Number, turn.Incarnation
	case opts.Incarnation == 0:
		info, err := h.client.Task(c.unary(), c.id)
		if err != nil {
			return nil, err
		}
		opts.Incarnation = info.Incarnation
	}
	return opts, nil
}

// stream answers with Server-Sent Events until the end.
func (h *Handler) stream(c *call, opts *perdure.EventOptions) error {
	if !canFlush(c.w) {
		return errors.New("a stream needs a ResponseWriter that can flush: what wraps it has neither Flush nor Unwrap")
	}
	over, err := h.ended(c, opts)
	if err != nil {
		return err
	}
	if over && c.r.Header.Get("Last-Event-ID") != "" {
		c.w.WriteHeader(http.StatusNoContent) // an EventSource would come back for ever
		return nil
	}
	s := &sseWriter{rc: http.NewResponseController(c.w), w: bufio.NewWriterSize(c.w, 2<<10)}
	head := c.w.Header()
	head.Set("Content-Type", eventStream)
	head.Set("X-Accel-Buffering", "no")
	head.Set(incarnationHeader, strconv.FormatInt(opts.Incarnation, 10))
	c.w.WriteHeader(http.StatusOK)
	if c.r.Method == http.MethodHead {
		return nil
	}
	s.text(fmt.Sprintf("retry: %d\n\n", streamRetry.Milliseconds()))
	s.flush() // before the first event, which may be long in coming
	h.pump(c, s, opts)
	_ = s.rc.SetWriteDeadline(time.Time{}) // the connection may be used again
	return nil
}

// canFlush reports whether what is written can be sent at once, without sending anything.
func canFlush(w http.ResponseWriter) bool {
	for {
		switch v := w.(type) {
		case interface{ FlushError() error }, http.Flusher:
			return true
		case interface{ Unwrap() http.ResponseWriter }:
			w = v.Unwrap()
		default:
			return false
		}
	}
}

// ended reports whether all that is left to read is the end, without waiting.
func (h *Handler) ended(c *call, opts *perdure.EventOptions) (bool, error) {
	now := *opts
	now.NoWait = true
	for e, err := range h.client.Events(c.unary(), c.id, &now) {
		return e.Kind == perdure.EventEnd, err
	}
	return false, nil
}

// pump writes events as they come. A stream that breaks just ends: its reader comes back.
func (h *Handler) pump(c *call, s *sseWriter, opts *perdure.EventOptions) {
	ctx, cancel := c.lasting()
	defer context.AfterFunc(h.closed, cancel)()
	ready := make(chan perdure.Event, streamBuffer)
	var panicked []any // what is to be logged of it, once ready is closed
	go func() {
		defer close(ready)
		defer func() { // of this goroutine net/http knows nothing: it would end the process
			if cause := recover(); cause != nil {
				panicked = []any{"task", c.id, "panic", fmt.Sprint(cause), "stack", string(debug.Stack())}
			}
		}()
		h.collect(ctx, c.id, opts, ready)
	}()
	defer func() {
		cancel()
		for range ready { // until the goroutine is gone
		}
		if panicked != nil {
			h.log.Error("stream panicked", panicked...)
		}
	}()
	h.relay(ctx, c.r.Context().Done(), s, ready)
}

// relay writes events until there are no more, or ctx ends, or the reader has gone: all that are there with one flush,
// and a comment now and then while none comes. Once the reader has closed its side, the comments come often: one that has
// gone altogether does not take them.
func (h *Handler) relay(ctx context.Context, closed <-chan struct{}, s *sseWriter, ready <-chan perdure.Event) {
	beat := time.NewTicker(h.opts.Heartbeat)
	defer beat.Stop()
	for s.err == nil {
		select {
		case e, more := <-ready:
			if !more {
				s.flush()
				return
			}
			s.event(e)
			if len(ready) == 0 {
				s.flush()
			}
		case <-beat.C:
			s.text(": still here\n\n")
			s.flush()
		case <-closed:
			closed = nil
			beat.Reset(min(h.opts.Heartbeat, closedBeat))
		case <-ctx.Done():
			return
		}
	}
}

// collect passes events on until the end, or until ctx ends.
func (h *Handler) collect(ctx context.Context, id string, opts *perdure.EventOptions, ready chan<- perdure.Event) {
	for e, err := range h.client.Events(ctx, id, opts) {
		if err != nil {
			return
		}
		select {
		case ready <- e:
		case <-ctx.Done():
			return
		}
	}
}

// sseWriter writes Server-Sent Events. After an error it writes nothing.
type sseWriter struct {
	rc  *http.ResponseController
	w   *bufio.Writer
	err error
}

func (s *sseWriter) event(e perdure.Event) {
	data, err := json.Marshal(e)
	if err != nil {
		s.err = err
		return
	}
	if e.Number > 0 {
		s.text("id: " + strconv.FormatInt(e.Number, 10) + "\n")
	}
	s.text("event: " + string(e.Kind) + "\ndata: ")
	s.bytes(data)
	s.text("\n\n")
}

func (s *sseWriter) text(t string) {
	if s.err == nil {
		_, s.err = s.w.WriteString(t)
	}
}

func (s *sseWriter) bytes(b []byte) {
	if s.err == nil {
		_, s.err = s.w.Write(b)
	}
}

// flush sends what was written. The reader has streamWrite to take it.
func (s *sseWriter) flush() {
	if s.err != nil {
		return
	}
	_ = s.rc.SetWriteDeadline(time.Now().Add(streamWrite)) // not every ResponseWriter can
	if s.err = s.w.Flush(); s.err == nil {
		s.err = s.rc.Flush()
	}
}
