package funcs

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/perdure/perdure"
)

// CountdownInput says how to count, and where to come to grief.
type CountdownInput struct {
	Steps       int   `json:"steps"`                  // 1 to 100,000
	DelayMS     int   `json:"delay_ms,omitempty"`     // before each step
	FailAt      []int `json:"fail_at,omitempty"`      // steps that fail the first time they are reached
	CrashAt     int   `json:"crash_at,omitempty"`     // the process dies when this step begins for the first time
	CrashAlways bool  `json:"crash_always,omitempty"` // … and every other time
}

// CountdownOutput is the whole story: Entries has an item for the first entry and for each one after a
// crash or a release; Attempts has the attempt number of every entry, retries included.
type CountdownOutput struct {
	Steps    int                 `json:"steps"`
	Entries  []perdure.EntryMode `json:"entries"`
	Attempts []int               `json:"attempts"`
}

// StepEvent is an event of countdown: a step is done.
type StepEvent struct {
	Step int `json:"step"`
	Of   int `json:"of"`
}

// Countdown counts steps and checkpoints each of them, so that none is counted twice whatever happens.
var Countdown = perdure.NewFunc[CountdownInput, CountdownOutput]("countdown", &perdure.FuncOptions[CountdownInput]{
	Retry: perdure.FixedRetry(3, 100*time.Millisecond),
	Title: func(in CountdownInput, _ string) (string, error) { return fmt.Sprintf("count %d steps", in.Steps), nil },
})

// crashCode is the exit code of a process that was killed.
const crashCode = 137

const maxSteps = 100_000

func (in *CountdownInput) validate() error {
	if in.Steps < 1 || in.Steps > maxSteps {
		return refuse("steps: must be 1 to %d, not %d", maxSteps, in.Steps)
	}
	for _, step := range in.FailAt {
		if step < 1 || step > in.Steps {
			return refuse("fail_at: must be steps from 1 to %d, not %d", in.Steps, step)
		}
	}
	if in.CrashAt < 0 || in.CrashAt > in.Steps {
		return refuse("crash_at: must be a step from 1 to %d, not %d", in.Steps, in.CrashAt)
	}
	if in.CrashAlways && in.CrashAt == 0 {
		return refuse("crash_always: needs crash_at")
	}
	return checkDelay(in.DelayMS)
}

// progress is what a countdown keeps in its metadata.
type progress struct {
	Step    int   `json:"step"` // the last one done
	Failed  []int `json:"failed,omitempty"`
	Crashed bool  `json:"crashed,omitempty"`
	story

	turn *perdure.Scope
}

const progressKey = "progress"

// loadProgress returns what the tries before have kept, with this entry added and durable. A poison
// countdown adds none: its checkpoint would be a sign of life, and it is to die without one.
func loadProgress(ctx context.Context, turn *perdure.Scope, poison bool) (*progress, error) {
	p := &progress{turn: turn}
	known, err := turn.Metadata().Get(progressKey, p)
	if err != nil || known && poison {
		return p, err
	}
	p.enter(turn)
	return p, p.save(ctx)
}

func (p *progress) save(ctx context.Context) error {
	if err := p.turn.Metadata().Set(progressKey, p); err != nil {
		return err
	}
	return p.turn.Checkpoint(ctx)
}

func countdown(ctx context.Context, turn *perdure.Turn[CountdownInput, CountdownOutput], exit func(int)) (CountdownOutput, error) {
	in := turn.Input()
	if err := in.validate(); err != nil {
		return CountdownOutput{}, err
	}
	p, err := loadProgress(ctx, turn.Scope, in.CrashAlways)
	if err != nil {
		return CountdownOutput{}, err
	}
	for p.Step < in.Steps {
		if err := p.step(ctx, &in, exit); err != nil {
			return CountdownOutput{}, err
		}
	}
	return CountdownOutput{Steps: p.Step, Entries: p.Entries, Attempts: p.Attempts}, nil
}

// step does the next step, or what the input has in store for it.
func (p *progress) step(ctx context.Context, in *CountdownInput, exit func(int)) error {
	step := p.Step + 1
	if in.CrashAt == step && (in.CrashAlways || !p.Crashed) {
		if err := p.crash(ctx, in.CrashAlways, exit); err != nil {
			return err
		}
	}
	if slices.Contains(in.FailAt, step) && !slices.Contains(p.Failed, step) {
		p.Failed = append(p.Failed, step)
		if err := p.save(ctx); err != nil {
			return err
		}
		return fmt.Errorf("step %d failed, as it was told to", step)
	}
	if err := pause(p.turn, in.DelayMS); err != nil {
		return err
	}
	p.Step = step
	if err := p.turn.Emit(ctx, StepEvent{Step: step, Of: in.Steps}); err != nil {
		return err
	}
	return p.save(ctx)
}

// crash kills the process, having noted that it did unless it is to do so always.
func (p *progress) crash(ctx context.Context, always bool, exit func(int)) error {
	if !always {
		p.Crashed = true
		if err := p.save(ctx); err != nil {
			return err
		}
	}
	exit(crashCode)
	return nil
}
