// Package chaos runs worker processes on one Postgres, breaks everything around them, and checks what the rules
// promise: no accepted input is lost, none is handled twice at once, each has one outcome, streams are exact.
//
// The program of the workers is in worker; this file has the funcs that they run, the others what surrounds them.
package chaos

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/perdure/perdure"
)

// Work is a task of some steps. Each is an event; after some of them comes a checkpoint.
type Work struct {
	Steps   int `json:"steps"`
	PauseMS int `json:"pause_ms"`
	Every   int `json:"every"` // how many steps to a checkpoint
}

// Done is what became of it: under which epoch each step was saved.
type Done struct {
	Trail []Saved `json:"trail"`
}

// Saved is one saved step.
type Saved struct {
	Step  int   `json:"step"`
	Epoch int64 `json:"epoch"`
}

// Heard is the reply of a conversation: all that was said so far.
type Heard struct {
	Heard []string `json:"heard"`
}

// The funcs of the workers: a job of steps, a conversation that is steered, and a turn that runs until it is
// interrupted.
var (
	Job  = perdure.NewFunc[Work, Done]("job", &perdure.FuncOptions[Work]{MaxRecoveries: 1000})
	Talk = perdure.NewFunc[string, Heard]("talk", &perdure.FuncOptions[string]{MultiTurn: true, Steerable: true, MaxPending: 100, MaxRecoveries: 1000})
	Hold = perdure.NewFunc[string, string]("hold", &perdure.FuncOptions[string]{MaxRecoveries: 1000})
)

// Bindings are the funcs with their handlers, which write down when they are entered and when they return.
func Bindings(j *Journal) []perdure.Binding {
	return []perdure.Binding{Job.Bind(j.job), Talk.Bind(j.talk), Hold.Bind(j.hold)}
}

// job saves steps, each with the epoch under which it was done.
func (j *Journal) job(ctx context.Context, turn *perdure.Turn[Work, Done]) (out Done, err error) {
	defer j.visit(turn.Scope)()
	m := turn.Metadata()
	if _, err := m.Get("trail", &out.Trail); err != nil {
		return out, err
	}
	for step := len(out.Trail) + 1; step <= turn.Input().Steps; step++ {
		select {
		case <-time.After(time.Duration(turn.Input().PauseMS) * time.Millisecond):
		case <-ctx.Done():
			return out, context.Cause(ctx)
		case <-turn.Interrupt().Done():
			return out, context.Cause(turn.Interrupt())
		}
		out.Trail = append(out.Trail, Saved{step, turn.Epoch()})
		if err := turn.Emit(ctx, step); err != nil {
			return out, err
		}
		if step%max(1, turn.Input().Every) > 0 {
			continue
		}
		if err := errors.Join(m.Set("trail", out.Trail), turn.Checkpoint(ctx)); err != nil {
			return out, err
		}
	}
	return out, nil
}

// talkFor is how long a reply takes unless it is steered.
const talkFor = 30 * time.Millisecond

// talk hears each message once, and replies for a while or until it is steered.
func (j *Journal) talk(ctx context.Context, turn *perdure.Turn[string, Heard]) (out Heard, err error) {
	defer j.visit(turn.Scope)()
	m := turn.Metadata()
	var last int64
	if _, err := m.Get("last", &last); err != nil {
		return out, err
	}
	if last != turn.Number() {
		if err := errors.Join(m.Append("heard", turn.Input()), m.Set("last", turn.Number()), turn.Checkpoint(ctx)); err != nil {
			return out, err
		}
	}
	select {
	case <-time.After(talkFor):
	case <-ctx.Done():
		return out, context.Cause(ctx)
	case <-turn.Interrupt().Done():
		if !turn.Causes().Steered {
			return out, context.Cause(turn.Interrupt())
		}
	}
	_, err = m.Get("heard", &out.Heard)
	return out, err
}

// hold runs until it is interrupted, and says with what its context or its interrupt ended.
func (j *Journal) hold(ctx context.Context, turn *perdure.Turn[string, string]) (string, error) {
	defer j.visit(turn.Scope)()
	select {
	case <-ctx.Done():
		j.line("lost", turn.Scope, errors.Is(context.Cause(ctx), perdure.ErrLeaseLost))
		return "", context.Cause(ctx)
	case <-turn.Interrupt().Done():
		return "", context.Cause(turn.Interrupt())
	}
}

// Journal is a file that all workers of a machine append to.
type Journal struct{ file *os.File }

// OpenJournal opens a journal to append to it.
func OpenJournal(path string) (*Journal, error) {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
	return &Journal{f}, err
}

// visit writes that a handler was entered, and returns what writes that it returns.
func (j *Journal) visit(turn *perdure.Scope) func() {
	j.line("enter", turn, turn.Entry())
	return func() { j.line("leave", turn, "-") }
}

// line writes one line, in one write.
func (j *Journal) line(what string, turn *perdure.Scope, more any) {
	fmt.Fprintf(j.file, "%s %s %d %d %v %d %d\n", what, turn.TaskID(), turn.Number(), turn.Epoch(), more, os.Getpid(), monotonic())
}

// Line is a line of the journal.
type Line struct {
	What, Task, More string
	Turn, Epoch      int64
	PID              int
	At               int64 // nanoseconds since the machine started
}

// ReadJournal reads what is written so far.
func ReadJournal(path string) ([]Line, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []Line
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		l, err := parseLine(lines.Text())
		if err != nil {
			return nil, err
		}
		all = append(all, l)
	}
	return all, lines.Err()
}

func parseLine(text string) (l Line, err error) {
	f := strings.Fields(text)
	if len(f) != 7 {
		return l, fmt.Errorf("journal line %q", text)
	}
	l.What, l.Task, l.More = f[0], f[1], f[4]
	numbers := [4]int64{}
	for i, at := range []int{2, 3, 5, 6} {
		n, bad := strconv.ParseInt(f[at], 10, 64)
		numbers[i], err = n, errors.Join(err, bad)
	}
	l.Turn, l.Epoch, l.PID, l.At = numbers[0], numbers[1], int(numbers[2]), numbers[3]
	return l, err
}
