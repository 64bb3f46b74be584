package perdure

import (
	"context"
	"encoding/json"
	"iter"
	"slices"
	"time"

	"github.com/perdure/perdure/store"
)

// EventKind says what an event is.
type EventKind = store.EventKind

// Kinds of events. Messages, rewinds and turns are stored and numbered; gaps and ends are made for the reader.
const (
	EventMessage = store.EventMessage // what a handler has emitted: Data
	EventRewind  = store.EventRewind  // the messages after number To are taken back: another try of their turn follows
	EventTurn    = store.EventTurn    // a turn has ended: Status
	EventGap     = store.EventGap     // what was asked for has been trimmed: First is the first number kept (E5)
	EventEnd     = store.EventEnd     // nothing follows: Status is the outcome, or Deleted
)

// Deleted is the status of the end of a stream whose task was deleted.
const Deleted = store.Deleted

// Event is one line of a task's stream. Fields that its kind does not have are zero.
type Event struct {
	Number  int64           `json:"number,omitempty"`  // 1, 2, 3 … within the task; 0 of a gap and the end
	Turn    int64           `json:"turn,omitempty"`    // that emitted it, or has ended
	Attempt int             `json:"attempt,omitempty"` // of the turn
	Kind    EventKind       `json:"kind"`
	At      time.Time       `json:"at"`
	Data    json.RawMessage `json:"data,omitempty"` // of a message
	To      int64           `json:"to"`             // of a rewind; other kinds are written without it
	First   int64           `json:"first,omitempty"`
	Status  Status          `json:"status,omitempty"` // of a turn, and of the end
	Reason  string          `json:"reason,omitempty"` // of a turn, and of the end
}

// MarshalJSON writes an event as readers get it over HTTP.
func (e Event) MarshalJSON() ([]byte, error) {
	type plain Event
	if e.Kind == EventRewind {
		return json.Marshal(plain(e))
	}
	return json.Marshal(struct {
		plain
		To *int64 `json:"to,omitempty"`
	}{plain: plain(e)})
}

func eventOf(e *store.Event) Event {
	ev := Event{Number: e.Number, Turn: e.Turn, Attempt: e.Attempt, Kind: e.Kind, At: e.At, Data: e.Data, Status: e.Status, Reason: e.Reason}
	if e.Kind == EventGap {
		ev.First = e.To
	} else {
		ev.To = e.To
	}
	return ev
}

// EventOptions say what to read of a task's stream; nil, or the zero value: all there is, and what comes, until
// the task has ended.
type EventOptions struct {
	After       int64 // begin after this number; beyond the last one it waits for those that come
	Turn        int64 // end with the end of this turn
	Committed   bool  // only what cannot be taken back any more: no rewinds, and later
	NoWait      bool  // leave when there is nothing more now, without an end unless that has come
	Limit       int   // leave after so many events; 0: none
	Incarnation int64 // of the task; another one has been deleted
}

// Events reads the task's stream from after a number on, first what is stored, then what comes, until this
// handle's turn has ended (E3). See [Client.Events].
func (h *Handle[Out]) Events(ctx context.Context, after int64) iter.Seq2[Event, error] {
	return h.c.Events(ctx, h.a.TaskID, &EventOptions{After: after, Turn: h.a.Turn, Incarnation: h.a.Incarnation})
}

// CommittedEvents is Events without what may be taken back, or has been.
func (h *Handle[Out]) CommittedEvents(ctx context.Context, after int64) iter.Seq2[Event, error] {
	return h.c.Events(ctx, h.a.TaskID, &EventOptions{After: after, Turn: h.a.Turn, Incarnation: h.a.Incarnation, Committed: true})
}

// Fold is what a stream's messages are when rewinds are applied: for readers who only want what stands now.
// The zero value is empty. It is not safe for concurrent use.
type Fold struct {
	messages []Event
}

// Add applies an event: a message is added, a rewind takes messages back, others change nothing.
func (f *Fold) Add(e Event) {
	switch e.Kind {
	case EventMessage:
		f.messages = append(f.messages, e)
	case EventRewind:
		f.messages = slices.DeleteFunc(f.messages, func(m Event) bool { return m.Number > e.To && m.Number < e.Number })
	}
}

// Messages returns the messages that stand, in order. The slice is valid until the next Add.
func (f *Fold) Messages() []Event { return f.messages }
