package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/perdure/perdure/store"
)

// Bounds of what one read of a stream returns, and of what tails keep in memory for their readers: one, and all together.
const (
	streamPage = 500
	tailEvents = 1000
	tailBytes  = 1 << 20
	tailsBytes = 64 << 20
)

// EventsQuery says what to read of a task's stream.
type EventsQuery struct {
	TaskID      string
	Incarnation int64 // 0: whichever there is when the reading begins
	After       int64
	Turn        int64 // read until the end of this turn; 0: until the task's
	Committed   bool  // only what no rewind has taken back or will
	NoWait      bool  // leave when there is nothing more now
	Limit       int   // as many events are wanted; 0: all
}

// page is how many events are read at once.
func (q EventsQuery) page() int {
	if q.Limit > 0 {
		return min(q.Limit, streamPage)
	}
	return streamPage
}

// Events reads a task's stream from a number on, first what is stored, then live, and ends with one event of
// kind end (E3). Who leaves the loop leaves nothing behind. The error, if any, comes last:
// store.ErrNotFound, ErrUnavailable, ctx's own.
func (e *Engine) Events(ctx context.Context, q EventsQuery) iter.Seq2[store.Event, error] {
	return func(yield func(store.Event, error) bool) {
		r := &reader{e: e, q: q, next: q.After, yield: yield}
		defer r.leave()
		err := r.read(ctx)
		switch {
		case errors.Is(err, errDone):
		case errors.Is(err, store.ErrDeleted):
			yield(store.Event{Kind: store.EventEnd, At: time.Now().UTC(), Status: store.Deleted}, nil)
		default:
			yield(store.Event{}, err)
		}
	}
}

// WatchStream returns a channel that receives when something may have happened to a task's stream, until leave
// is called.
func (e *Engine) WatchStream(incarnation int64) (woken <-chan struct{}, leave func()) {
	c := e.streams.join(incarnation)
	return c, func() { e.streams.leave(incarnation, c) }
}

// errDone says that a reader has had its end, or has left.
var errDone = errors.New("reader is done")

// reader is one reader of a stream.
type reader struct {
	e     *Engine
	q     EventsQuery
	next  int64 // the number to go on after
	yield func(store.Event, error) bool
	tail  *tail // shared with others; nil while the reader is behind

	endAt int64       // number of the end of q.Turn, once that is known; else 0
	end   store.Event // which is then this
}

// read yields what there is, and what comes, until the end, or until the engine has stopped. It returns an error always.
func (r *reader) read(ctx context.Context) error {
	if err := r.seekEnd(ctx); err != nil {
		return err
	}
	for {
		gone := r.e.over.Err() != nil // before it looks: what was written before that is seen
		page, err := r.e.eventPage(ctx, store.EventsQuery{TaskID: r.q.TaskID, Incarnation: r.q.Incarnation,
			After: r.next, Limit: r.q.page(), Committed: r.q.Committed})
		if err != nil {
			return err
		}
		r.q.Incarnation = page.Incarnation
		if err := r.give(ctx, page); err != nil {
			return err
		}
		if r.next < r.upTo(page) {
			continue
		}
		if r.q.NoWait {
			return errDone
		}
		if gone {
			return ErrShuttingDown
		}
		if err := r.live(ctx, page); err != nil {
			return err
		}
	}
}

// seekEnd looks whether the turn that is read to its end has ended already. If it has, pages that are read
// from then on have its end.
func (r *reader) seekEnd(ctx context.Context) error {
	if r.q.Turn == 0 || r.endAt > 0 {
		return nil
	}
	turn, err := ask(ctx, r.e, func(ctx context.Context) (*store.Turn, error) {
		return r.e.store.Turn(ctx, store.TurnQuery{TaskID: r.q.TaskID, Incarnation: r.q.Incarnation, Number: r.q.Turn})
	})
	if err != nil {
		return err
	}
	r.q.Incarnation = turn.Incarnation
	if turn.Status.Outcome() {
		r.ends(store.Event{Number: turn.EndEvent, Turn: turn.Number, At: turn.EndedAt, Status: turn.Status, Reason: turn.Reason})
	}
	return nil
}

// ends notes the end of the turn that is read to its end.
func (r *reader) ends(e store.Event) {
	r.endAt, r.end = e.Number, e
	r.end.Kind, r.end.Number = store.EventEnd, 0
}

// upTo is the number that a reader of the stored pages gets to.
func (r *reader) upTo(page *store.EventPage) int64 {
	if r.q.Committed {
		return page.Mark
	}
	return page.Last
}

// give yields a page: what is missing before it as a gap, its events, and the end if that is reached.
func (r *reader) give(ctx context.Context, page *store.EventPage) error {
	if r.next < page.First-1 {
		r.next = page.First - 1
		if !r.yield(store.Event{Kind: store.EventGap, At: time.Now().UTC(), To: page.First}, nil) {
			return errDone
		}
		if err := r.seekEnd(ctx); err != nil { // the end of the turn may be in the gap
			return err
		}
	}
	for _, ev := range page.Events {
		if r.endAt > 0 && r.next >= r.endAt {
			break
		}
		if ev.Number <= r.next {
			continue
		}
		if err := r.giveOne(ctx, ev); err != nil {
			return err
		}
	}
	r.next = max(r.next, page.Next)
	return r.over(page)
}

func (r *reader) giveOne(ctx context.Context, ev store.Event) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if ev.Kind == store.EventTurn && ev.Turn == r.q.Turn {
		r.ends(ev)
	}
	r.next = ev.Number
	if !r.yield(ev, nil) {
		return errDone
	}
	return nil
}

// over yields the end if the reader has come to it.
func (r *reader) over(page *store.EventPage) error {
	end := r.end
	switch {
	case r.q.Turn != 0 && r.endAt > 0 && r.next >= r.endAt:
	case r.q.Turn == 0 && page.Status.Terminal() && r.next >= page.Last:
		end = store.Event{Kind: store.EventEnd, At: page.EndedAt, Status: page.Status, Reason: page.Reason}
	default:
		return nil
	}
	r.yield(end, nil)
	return errDone
}

// live yields what is new as it comes. It returns nil when the reader has to look at the store again: it has
// fallen behind what is kept in memory, or it reads what is committed and more is.
func (r *reader) live(ctx context.Context, page *store.EventPage) error {
	if r.tail == nil {
		r.tail = r.e.joinTail(r.q, page)
	}
	for {
		page, kept, changed, err := r.tail.after(r.next)
		if err != nil {
			r.leave()
			return err
		}
		if r.q.Committed {
			kept = r.next >= page.Mark
			page.Events, page.Next = nil, r.next
		}
		if !kept {
			return nil
		}
		if err := r.give(ctx, page); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-r.e.over.Done():
			r.leave()
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (r *reader) leave() {
	if r.tail != nil {
		r.e.leaveTail(r.tail)
		r.tail = nil
	}
}

// eventPage reads a page of a stream and decodes it.
func (e *Engine) eventPage(ctx context.Context, q store.EventsQuery) (*store.EventPage, error) {
	page, err := ask(ctx, e, func(ctx context.Context) (*store.EventPage, error) { return e.store.Events(ctx, q) })
	if err != nil {
		return nil, err
	}
	for i := range page.Events {
		if _, err := e.unsealEvent(q.TaskID, &page.Events[i]); err != nil {
			return nil, err
		}
	}
	return page, nil
}

// unsealEvent decodes an event's data in place.
func (e *Engine) unsealEvent(task string, ev *store.Event) (*store.Event, error) {
	if ev == nil || ev.Kind != store.EventMessage {
		return ev, nil
	}
	data, err := e.decode(place{ofEvent, task, ""}, ev.Data)
	if err != nil {
		return nil, fmt.Errorf("decode event %d of task %s: %w", ev.Number, task, err)
	}
	ev.Data = data
	return ev, nil
}

// tails are the streams that are read live, by incarnation.
type tails struct {
	mu sync.Mutex
	of map[int64]*tail
}

// tail is the newest part of one task's stream, kept in memory for all who read it live: the store is read
// once for them all. Its goroutine lives while there are readers.
type tail struct {
	task        string
	incarnation int64
	readers     int // guarded by tails.mu
	stop        context.CancelFunc

	mu      sync.Mutex
	page    store.EventPage // what the last read said; its Events are the newest, and are not changed
	base    int64           // what came after this number is in page.Events
	bytes   int             // of them
	err     error
	changed chan struct{} // closed and replaced when there is something new
}

// joinTail returns the tail of a task for a reader who has just read the page, which was the last there is.
func (e *Engine) joinTail(q EventsQuery, page *store.EventPage) *tail {
	e.tails.mu.Lock()
	defer e.tails.mu.Unlock()
	t := e.tails.of[q.Incarnation]
	if t == nil {
		ctx, stop := context.WithCancel(context.Background())
		t = &tail{task: q.TaskID, incarnation: q.Incarnation, stop: stop, page: *page, base: page.Last, changed: make(chan struct{})}
		t.page.Events = nil
		e.tails.of[q.Incarnation] = t
		go e.follows(ctx, t)
	}
	t.readers++
	return t
}

func (e *Engine) leaveTail(t *tail) {
	e.tails.mu.Lock()
	defer e.tails.mu.Unlock()
	if t.readers--; t.readers == 0 {
		t.stop()
		e.dropTail(t)
	}
}

// dropTail makes the next reader begin another tail. e.tails.mu is held.
func (e *Engine) dropTail(t *tail) {
	if e.tails.of[t.incarnation] == t {
		delete(e.tails.of, t.incarnation)
	}
}

// follows is the goroutine of a tail: it reads what is new when it is woken, and now and then.
func (e *Engine) follows(ctx context.Context, t *tail) {
	woken := e.streams.join(t.incarnation)
	defer e.streams.leave(t.incarnation, woken)
	poll := time.NewTimer(e.poll())
	defer poll.Stop()
	for {
		page, err := e.eventPage(ctx, store.EventsQuery{TaskID: t.task, Incarnation: t.incarnation, After: t.last(), Limit: streamPage})
		if err != nil {
			e.tails.mu.Lock()
			e.dropTail(t)
			e.tails.mu.Unlock()
			t.fail(err)
			return
		}
		t.add(page, e.tails.share())
		if len(page.Events) > 0 && page.Next < page.Last {
			continue
		}
		select {
		case <-woken:
		case <-poll.C:
		case <-ctx.Done():
			return
		}
		poll.Reset(e.poll())
	}
}

// last returns the number of the last event that is known.
func (t *tail) last() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lastLocked()
}

func (t *tail) lastLocked() int64 {
	if n := len(t.page.Events); n > 0 {
		return t.page.Events[n-1].Number
	}
	return t.base
}

// share is how many bytes a tail may keep.
func (t *tails) share() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return min(tailBytes, tailsBytes/max(len(t.of), 1))
}

// add appends a page, and lets go of the oldest events beyond the bounds. Readers read those from the store.
func (t *tail) add(page *store.EventPage, most int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	same := page.Last == t.page.Last && page.Mark == t.page.Mark && page.Status == t.page.Status && page.First == t.page.First
	events := append(t.page.Events, page.Events...)
	for _, ev := range page.Events {
		t.bytes += len(ev.Data)
	}
	for len(events) > tailEvents || t.bytes > most {
		t.base = events[0].Number
		t.bytes -= len(events[0].Data)
		events = events[1:]
	}
	t.page = *page
	t.page.Events = events
	if !same || len(page.Events) > 0 {
		close(t.changed)
		t.changed = make(chan struct{})
	}
}

func (t *tail) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.err = err
	close(t.changed)
	t.changed = make(chan struct{})
}

// after returns the events after a number, whether they are all kept here, and a channel that is closed when
// there may be more.
func (t *tail) after(number int64) (p *store.EventPage, kept bool, changed chan struct{}, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return nil, false, nil, t.err
	}
	page := t.page
	i, _ := slices.BinarySearchFunc(page.Events, number+1, func(e store.Event, n int64) int { return cmp.Compare(e.Number, n) })
	page.Events = page.Events[i:len(page.Events):len(page.Events)]
	page.Next = max(number, t.lastLocked())
	return &page, number >= t.base, t.changed, nil
}
