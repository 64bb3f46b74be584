package perdurehttp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/tmaxmax/go-sse"

	"github.com/perdure/perdure"
)

// silence is how long a stream may say nothing, not even that it is still there, before it counts as dead.
const silence = 3 * defaultHeartbeat

// maxEvent bounds one event that is read from a stream, in bytes.
const maxEvent = 64 << 20

// Events implements perdure.Client. It reads Server-Sent Events, and joins the stream again after the last
// number that it has read whenever the connection or the server is gone; a server that does not come back within
// WaitPatience is ErrUnavailable.
func (c *Client) Events(ctx context.Context, id string, opts *perdure.EventOptions) iter.Seq2[perdure.Event, error] {
	var o perdure.EventOptions
	if opts != nil {
		o = *opts
	}
	return func(yield func(perdure.Event, error) bool) {
		f := &follower{c: c, id: id, opts: o, yield: yield}
		if left := o.Limit; left > 0 {
			f.yield = func(e perdure.Event, err error) bool {
				left--
				return yield(e, err) && left > 0
			}
		}
		if err := f.follow(ctx); err != nil && !errors.Is(err, errRead) {
			yield(perdure.Event{}, about(err, "events of task "+id))
		}
	}
}

// errRead says that a stream has been read to its end, or as far as its reader wanted.
var errRead = errors.New("stream is read")

// follower reads one stream over as many connections as that takes.
type follower struct {
	c     *Client
	id    string
	opts  perdure.EventOptions // After is the last number that was yielded
	yield func(perdure.Event, error) bool
	alone time.Time // since when there is no connection
}

func (f *follower) follow(ctx context.Context) error {
	path, err := taskPath(f.id)
	if err != nil {
		return err
	}
	switch {
	case f.opts.After < 0:
		return fmt.Errorf("%w: after must not be %d", perdure.ErrInvalid, f.opts.After)
	case f.opts.Turn < 0:
		return fmt.Errorf("%w: turn must not be %d", perdure.ErrInvalid, f.opts.Turn)
	case f.opts.Limit < 0:
		return fmt.Errorf("%w: limit must not be %d", perdure.ErrInvalid, f.opts.Limit)
	case f.opts.NoWait:
		return f.pages(ctx, path+"/events")
	}
	f.alone = time.Now()
	for pace := (pacer{}); ; {
		before := f.opts.After
		err := f.connect(ctx, path+"/events")
		if gone := new(unreachable); !errors.As(err, &gone) {
			return err
		} else if patience := f.c.opts.WaitPatience; patience != 0 && time.Since(f.alone) >= patience {
			return err
		} else if err := pace.pause(ctx, gone.after); err != nil {
			return err
		}
		if f.opts.After > before {
			pace = pacer{}
		}
	}
}

func (f *follower) query() url.Values {
	query := url.Values{}
	setNumber(query, "after", f.opts.After)
	setNumber(query, "incarnation", f.opts.Incarnation)
	if f.opts.Turn != 0 {
		query.Set("until", untilTurn)
		setNumber(query, "turn", f.opts.Turn)
	}
	if f.opts.Committed {
		query.Set("view", viewCommitted)
	}
	return query
}

// pages reads what there is now.
func (f *follower) pages(ctx context.Context, path string) error {
	for {
		query := f.query()
		query.Set("limit", strconv.Itoa(min(maxLimit, or(f.opts.Limit, maxLimit))))
		var page eventPage
		if _, err := f.c.do(ctx, &request{method: http.MethodGet, path: path, query: query}, &page); err != nil {
			return err
		}
		for _, e := range page.Events {
			if err := f.give(e); err != nil {
				return err
			}
		}
		if len(page.Events) == 0 || page.Ended {
			return nil
		}
		f.opts.After = max(f.opts.After, page.NextAfter)
	}
}

// connect reads over one connection. It returns errRead at the end, *unreachable when another connection is to be
// made, and otherwise why the server refuses.
func (f *follower) connect(ctx context.Context, path string) error {
	within, cancel := context.WithCancel(ctx)
	defer cancel()
	watchdog := time.AfterFunc(tryTimeout, cancel)
	defer watchdog.Stop()
	hr, err := f.c.build(within, &request{method: http.MethodGet, path: path, query: f.query()})
	if err != nil {
		return err
	}
	hr.Header.Set("Accept", eventStream)
	res, err := f.c.http.Do(hr)
	if err != nil {
		return failure(ctx, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		body, err := io.ReadAll(res.Body)
		if err != nil {
			return failure(ctx, err)
		}
		return refusal(res, body)
	}
	if n, err := strconv.ParseInt(res.Header.Get(incarnationHeader), 10, 64); err == nil {
		f.opts.Incarnation = n
	}
	err = f.read(&awake{res.Body, func() { watchdog.Reset(silence) }})
	f.alone = time.Now() // not before: whoever reads may have been busy for long
	switch {
	case errors.Is(err, errRead):
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err == nil:
		err = io.ErrUnexpectedEOF
	}
	return &unreachable{err: err}
}

// read yields what is new of a stream. It returns nil when that breaks off before its end.
func (f *follower) read(r io.Reader) error {
	for m, err := range sse.Read(r, &sse.ReadConfig{MaxEventSize: maxEvent}) {
		if err != nil {
			return err
		}
		var e perdure.Event
		if err := json.Unmarshal([]byte(m.Data), &e); err != nil {
			return fmt.Errorf("event after %d is not understood: %w", f.opts.After, err)
		}
		if err := f.give(e); err != nil {
			return err
		}
	}
	return nil
}

// give yields an event, unless it was yielded before.
func (f *follower) give(e perdure.Event) error {
	switch {
	case e.Number < 0 || e.Number > 0 && e.Number <= f.opts.After:
		return nil
	case e.Kind == perdure.EventGap:
		f.opts.After = max(f.opts.After, e.First-1)
	}
	f.opts.After = max(f.opts.After, e.Number)
	if !f.yield(e, nil) || e.Kind == perdure.EventEnd {
		return errRead
	}
	return nil
}

// awake calls heard at every read that brings something.
type awake struct {
	io.Reader
	heard func()
}

func (a *awake) Read(p []byte) (int, error) {
	n, err := a.Reader.Read(p)
	if n > 0 {
		a.heard()
	}
	return n, err
}
