package sim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/perdure/perdure"
)

// Script says what the handler of an input does: Steps checkpoints, each after a Pause and with an event before
// it; an event more; then the rest.
type Script struct {
	Steps   int           `json:"steps,omitempty"`
	Pause   time.Duration `json:"pause,omitempty"`
	Fail    int           `json:"fail,omitempty"`    // how many attempts fail
	Panic   string        `json:"panic,omitempty"`   // how they fail: handler, nil, text, predicate
	Suspend bool          `json:"suspend,omitempty"` // leave by Suspend
	Finish  bool          `json:"finish,omitempty"`  // leave by Finish
	Release int           `json:"release,omitempty"` // leave by Release until it was re-entered so often
	Deaf    bool          `json:"deaf,omitempty"`    // ignore the interrupt
	Stay    bool          `json:"stay,omitempty"`    // wait for the interrupt after the steps
	Killed  bool          `json:"killed,omitempty"`  // what the interrupt cuts short returns an error of its own
	Stone   time.Duration `json:"stone,omitempty"`   // ignore the end of ctx for so long
	Big     int           `json:"big,omitempty"`     // bytes of each event beside its number
	Hasty   time.Duration `json:"hasty,omitempty"`   // its caller gives up so soon, and comes again
	Burst   int           `json:"burst,omitempty"`   // events more for each step
}

func (s Script) json() json.RawMessage {
	b, err := json.Marshal(s)
	if err != nil {
		return nil
	}
	return b
}

func (s Script) hurry() time.Duration {
	if s.Hasty > 0 {
		return s.Hasty
	}
	return time.Minute
}

// Done is what a script returns: how many of its steps are in the metadata, which must be all of them.
type Done struct {
	Steps int `json:"steps"`
}

// Funcs that a world runs.
const (
	Job     = "job"     // ordinary, retried, two at a time
	Talk    = "talk"    // multi-turn and steerable
	Ask     = "ask"     // ordinary, steerable
	Haste   = "haste"   // multi-turn, steerable, with a timeout
	Rush    = "rush"    // ordinary, steerable, with a timeout, and a grace for its steers
	Solo    = "solo"    // multi-turn, one at a time
	Brief   = "brief"   // ephemeral, its stream trimmed
	Renamed = "renamed" // which later processes do not know
)

// retry is the policy of all funcs. Its predicate panics where a script says so.
func retry() perdure.RetryPolicy {
	p := perdure.ExponentialRetry(4)
	p.Retryable = func(err error) bool {
		if strings.Contains(err.Error(), "predicate") {
			panic("a predicate")
		}
		return true
	}
	return p
}

func (j *Journal) bindings(old bool) []perdure.Binding {
	type options = perdure.FuncOptions[Script]
	const soon, at = 2500 * time.Millisecond, 300 * time.Millisecond
	// A label function that panics fails its start, which a process of another program would not call.
	title := func(in Script, task string) (string, error) { return "script of " + task, nil }
	all := []struct {
		name string
		opts options
	}{
		{Job, options{Timeout: time.Hour, MaxRunning: 2, Title: title}},
		{Talk, options{MultiTurn: true, Steerable: true}},
		{Ask, options{Steerable: true}},
		{Haste, options{MultiTurn: true, Steerable: true, Timeout: soon, TimeoutGrace: at}},
		{Rush, options{Steerable: true, Timeout: soon, TimeoutGrace: at, SteerGrace: at}},
		{Solo, options{MultiTurn: true, Steerable: true, MaxRunning: 1, Timeout: time.Minute, KeepTurns: 6}},
		{Brief, options{Ephemeral: true, Linger: 5 * time.Second, KeepEvents: 5, KeepEventsFor: 4 * time.Second, MultiTurn: true, Steerable: true}},
		{Renamed, options{Timeout: time.Minute}},
	}
	var bindings []perdure.Binding
	rooms := j.newProcess()
	for _, f := range all {
		if f.name == Renamed && !old {
			continue
		}
		f.opts.Retry = retry()
		room := rooms.of(f.name, f.opts.MaxRunning)
		bindings = append(bindings, perdure.NewFunc[Script, Done](f.name, &f.opts).Bind(func(ctx context.Context, turn *perdure.Turn[Script, Done]) (Done, error) {
			defer room.enter(j, turn.Scope)()
			return j.handle(ctx, turn)
		}))
	}
	return bindings
}

// handle is the handler of all funcs: it follows the script, counting steps in the metadata.
func (j *Journal) handle(ctx context.Context, turn *perdure.Turn[Script, Done]) (done Done, err error) {
	leave := j.enter(ctx, turn.Scope)
	defer leave()
	s := turn.Input()
	defer func() {
		if s.Stone > 0 && ctx.Err() != nil {
			<-time.After(s.Stone)
		}
	}()
	steps, err := j.steps(ctx, turn)
	if err != nil {
		return Done{}, s.cut(ctx, turn.Scope, err)
	}
	if s.Stay {
		<-turn.Interrupt().Done()
		return Done{}, s.cut(ctx, turn.Scope, context.Cause(turn.Interrupt()))
	}
	switch done := (Done{steps}); {
	case turn.Attempt() <= s.Fail:
		j.failing(turn.Scope)
		return Done{}, s.failure(turn.Attempt())
	case turn.Recoveries() < s.Release:
		return turn.Release()
	case s.Suspend:
		return turn.Suspend(done, "asked to")
	case s.Finish:
		return turn.Finish(done)
	default:
		return done, nil
	}
}

// cut is the error of what an interrupt has cut short: its own, or one that knows nothing of interrupts, such as that of a
// process that was killed.
func (s Script) cut(ctx context.Context, turn *perdure.Scope, err error) error {
	if s.Killed && ctx.Err() == nil && turn.Interrupted() {
		return errors.New("signal: killed")
	}
	return err
}

// failure is how an attempt fails.
func (s Script) failure(attempt int) error {
	switch s.Panic {
	case "handler":
		panic(fmt.Sprintf("attempt %d panics", attempt))
	case "nil":
		var none *mute
		return none
	case "text":
		return &mute{}
	case "predicate":
		return errors.New("for the predicate")
	}
	return fmt.Errorf("attempt %d fails", attempt)
}

// mute is an error whose text panics, as that of a typed nil does.
type mute struct{}

func (*mute) Error() string { panic("no text") }

func (j *Journal) steps(ctx context.Context, turn *perdure.Turn[Script, Done]) (int, error) {
	s := turn.Input()
	name := fmt.Sprintf("steps-%d", turn.Number())
	steps := 0
	if _, err := turn.Metadata().Get(name, &steps); err != nil {
		return 0, err
	}
	interrupt := turn.Interrupt()
	if s.Deaf {
		interrupt = ctx
	}
	for steps < s.Steps {
		select {
		case <-time.After(s.Pause):
		case <-interrupt.Done():
			return 0, context.Cause(interrupt)
		}
		n, err := turn.Metadata().Increment(name, 1)
		if err != nil {
			return 0, err
		}
		if err := s.emit(ctx, turn.Scope, n); err != nil {
			return 0, err
		}
		if err := turn.Checkpoint(ctx); err != nil {
			return 0, err
		}
		steps = int(n)
	}
	return steps, turn.Emit(ctx, lastWord) // taken back if the try does not come to its end
}

// emit emits the number of a step, and as many events more as the script says.
func (s Script) emit(ctx context.Context, turn *perdure.Scope, n int64) error {
	if err := turn.Emit(ctx, s.word(n)); err != nil {
		return err
	}
	for range s.Burst {
		if err := turn.Emit(ctx, s.word(n)); err != nil {
			return err
		}
	}
	return nil
}

// word is the event of a step.
func (s Script) word(n int64) string {
	return fmt.Sprint(n, strings.Repeat("x", s.Big))
}

// lastWord is the event after the last step.
const lastWord = "done"

// said returns what the committed view of a turn that has completed must be: that of a run without crashes.
func (s Script) said() string {
	var b strings.Builder
	for n := range s.Steps {
		for range s.Burst + 1 {
			fmt.Fprintf(&b, "%q ", s.word(int64(n+1)))
		}
	}
	fmt.Fprintf(&b, "%q ", lastWord)
	return b.String()
}

// codec changes payloads, and panics at every so many inputs that it reads: a panic of a codec is like its error, and the
// task is put into quarantine.
type codec struct {
	panics atomic.Int64 // 0: never
	reads  atomic.Int64
}

func (*codec) Encode(_ string, plain []byte) ([]byte, error) {
	return append([]byte("c:"), plain...), nil
}

func (c *codec) Decode(label string, stored []byte) ([]byte, error) {
	if every := c.panics.Load(); strings.HasPrefix(label, "input:") && every > 0 && c.reads.Add(1)%every == 0 {
		panic("a codec")
	}
	plain, ok := bytes.CutPrefix(stored, []byte("c:"))
	if !ok {
		return nil, errors.New("not written by this codec")
	}
	return plain, nil
}

func (*codec) Digests(canonical []byte) []perdure.Digest {
	return []perdure.Digest{{Sum: string(canonical)}}
}
