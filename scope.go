package perdure

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"github.com/perdure/perdure/internal/engine"
)

// Scope is the part of a turn that does not depend on its types, so that helpers and integrations can
// take it as it is. Its methods may be called concurrently, as long as the handler has not returned.
type Scope struct {
	a      *engine.Attempt
	stream *customStream // instead of the store's; nil if the func has none
}

// Causes say why a turn is interrupted; they only grow within a turn (C2).
type Causes = engine.Causes

// TaskID returns the ID of the turn's task.
func (s *Scope) TaskID() string { return s.a.Task().ID }

// InputID returns the ID of the turn's input.
func (s *Scope) InputID() string { return s.a.Task().Turn.InputID }

// Number returns the turn's number within its task, from 1. Numbers of inputs that were withdrawn are missing.
func (s *Scope) Number() int64 { return s.a.Task().Turn.Number }

// Entry returns why the handler was entered.
func (s *Scope) Entry() EntryMode { return s.a.Task().Turn.Entry }

// Attempt returns the number of the attempt, from 1. A crash does not raise it, a retry does.
func (s *Scope) Attempt() int { return s.a.Task().Turn.Attempt }

// Recoveries returns how often the turn was entered again because its owner died or released it.
func (s *Scope) Recoveries() int { return s.a.Task().Turn.Recoveries }

// Epoch returns the fencing token of this entry: higher than that of any earlier entry of the task. Give
// it to systems outside that can refuse a lower one (O1). A task that was deleted and made again begins
// again at 1, with a higher [Scope.Incarnation].
func (s *Scope) Epoch() int64 { return s.a.Epoch() }

// Incarnation tells the task from others that had the same ID before; it is never used again.
func (s *Scope) Incarnation() int64 { return s.a.Task().Incarnation }

// StartedAt returns when the turn was first entered, on the store's clock.
func (s *Scope) StartedAt() time.Time { return s.a.Task().Turn.StartedAt }

// Deadline returns when the turn's timeout passes; ok is false if it has none.
func (s *Scope) Deadline() (at time.Time, ok bool) {
	at = s.a.Task().Turn.Deadline
	return at, !at.IsZero()
}

// Func returns the name of the turn's func.
func (s *Scope) Func() string { return s.a.Task().Func }

// Title returns the task's title.
func (s *Scope) Title() string { return s.a.Task().Title }

// Description returns the task's description.
func (s *Scope) Description() string { return s.a.Task().Description }

// Tags returns a copy of the task's tags.
func (s *Scope) Tags() map[string]string { return maps.Clone(s.a.Task().Tags) }

// Session returns the scope label that the task was created with.
func (s *Scope) Session() string { return s.a.Task().Session }

// Agent returns the label of the program that created the task.
func (s *Scope) Agent() string { return s.a.Task().Agent }

// Source returns where the task came from; no caller can set it (S9).
func (s *Scope) Source() Source { return taskSource(s.a.Task()) }

// Steered reports whether the turn was taken from the queue (G6).
func (s *Scope) Steered() bool { return s.a.Task().Turn.Steered }

// Pending returns how many inputs wait behind the turn, now (G6).
func (s *Scope) Pending() int { return s.a.Pending() }

// Metadata returns the task's metadata.
func (s *Scope) Metadata() *Metadata { return &Metadata{m: s.a.Metadata()} }

// Checkpoint makes the metadata and what was emitted durable, and returns when they are: it is the fence before a side effect
// (M1). A store that cannot be reached is tried again until ctx ends. Errors: ErrLeaseLost and
// ErrTerminated, after which the handler should return; ctx's own, after which the checkpoint may or may
// not have happened.
func (s *Scope) Checkpoint(ctx context.Context) error { return s.a.Checkpoint(ctx) }

// Emit appends an event, the JSON of v, to the task's stream (E1). Readers see it when it is durable. Emit
// returns when the event has found room among those that wait to be written ([Options.EmitEvents],
// [Options.EmitBytes]); they are written together, 10 ms after the last write at the latest. Events after the
// last checkpoint are taken back for readers if another try follows (E2). Bytes of v that are no UTF-8 become
// U+FFFD, which is logged and counted. Errors: ErrTooLarge, and ErrInvalid for what is no JSON or is nested more
// than 500 deep, and nothing is emitted; ErrLeaseLost and ErrTerminated, also of an earlier event that could not be written, after which
// the handler should return; ctx's own, when it ended while there was no room. With FuncOptions.Stream the event
// goes there instead, and the errors are those of its Put.
func (s *Scope) Emit(ctx context.Context, v any) error { return s.EmitMany(ctx, v) }

// EmitMany is Emit for several values, in their order. When ctx ends the first of them may have been emitted.
func (s *Scope) EmitMany(ctx context.Context, values ...any) error {
	events := make([][]byte, len(values))
	for i, v := range values {
		data, replaced, err := engine.Marshal(v)
		if err != nil {
			return fmt.Errorf("%w: event cannot be encoded as JSON: %w", ErrInvalid, err)
		}
		if replaced {
			s.a.Replaced("event")
		}
		events[i] = data
	}
	if s.stream != nil {
		return s.emitCustom(ctx, events)
	}
	return s.a.Emit(ctx, events...)
}

func (s *Scope) emitCustom(ctx context.Context, events [][]byte) error {
	if err := s.a.CheckEvents(events...); err != nil {
		return err
	}
	return s.stream.put(ctx, s.a, events)
}

// KeepEvents keeps what the try before had emitted after its last checkpoint, which would be taken back
// otherwise, and returns the last event of this turn, or nil if there is none (E2). It returns when that is
// durable. It must come before the first Emit and Checkpoint of an entry, else ErrInvalid. Other errors are
// as those of Checkpoint.
func (s *Scope) KeepEvents(ctx context.Context) (*Event, error) {
	e, err := s.a.KeepEvents(ctx)
	if errors.Is(err, engine.ErrKeepEvents) {
		return nil, invalid("%w", err)
	}
	if err != nil || e == nil {
		return nil, err
	}
	last := eventOf(e)
	return &last, nil
}

// Interrupt returns a context that ends with ctx and also on a cooperative request: a cancel, the
// deadline, a shutdown, a newer input (C1). Its cause is an [*InterruptError]. Pass it to what may be cut
// short, and ctx to what must be saved.
func (s *Scope) Interrupt() context.Context { return s.a.Interrupt() }

// SafePoint returns nil at once while nobody waits for the turn to end, and otherwise the interrupt's error,
// for the handler to return. Call it between steps that must not be cut: with FuncOptions.SteerGrace a
// steer is seen here at once, and by [Scope.Interrupt] only after the grace. When the turn may no longer
// write it returns why (C1), and when ctx has ended that one's cause.
func (s *Scope) SafePoint(ctx context.Context) error { return s.a.SafePoint(ctx) }

// Interrupted reports whether the turn has been asked to wrap up.
func (s *Scope) Interrupted() bool { return s.a.Causes().Any() }

// Causes returns why the turn is interrupted, now.
func (s *Scope) Causes() Causes { return s.a.Causes() }

// Logger returns a logger with the turn's attributes: task, func, turn, attempt, epoch, worker.
func (s *Scope) Logger() *slog.Logger { return s.a.Logger() }
