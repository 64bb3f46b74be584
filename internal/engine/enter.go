package engine

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/perdure/perdure/store"
)

// probation is how long a suspect must live before the next one is entered (R4).
const probation = 10 * time.Second

// receive makes an attempt of a lease that an answer has brought, with the slot that was reserved for it, if one was,
// and runs it in a goroutine of its own. request is the operation that gave the lease; 0 if its caller sees to that.
func (e *Engine) receive(w *registration, entry *store.Entry, reserved *slot, request int64) *Attempt {
	a := e.newAttempt(w, entry)
	e.mu.Lock()
	worth, older := e.roster.arrive(a.life, reserved)
	a.surplus = worth == surplus
	e.hearEarly(a)
	if worth != dead {
		e.goroutines++ // before the request counts as answered: a shutdown waits for the one or the other
	}
	e.answered(request)
	e.mu.Unlock()
	if older != nil {
		older.of.follow(older.before, older.now, store.ErrLeaseLost)
	}
	if worth == dead {
		a.drop()
	} else {
		go e.runAll(a)
	}
	return a
}

// drop ends an attempt whose lease was worth nothing when it came.
func (a *Attempt) drop() {
	a.end(store.ErrLeaseLost)
	close(a.gone)
	a.news.resolve(nil)
}

// runAll runs an attempt, and those of the turns that follow in its slot, in a goroutine that was counted.
func (e *Engine) runAll(a *Attempt) { e.goOn(a, a.run) }

// goOn is runAll from what is to be done first. Nothing stops runtime.Goexit: when a handler calls it, what is left to
// do goes on in another goroutine.
func (e *Engine) goOn(a *Attempt, first func() *Attempt) {
	returned := false
	defer func() {
		if !returned && e.isInside(a) {
			go e.goOn(a, func() *Attempt { return a.conclude(exited()) })
			return
		}
		if !returned {
			a.abort()
		}
		e.goroutineEnded()
	}()
	for next := first(); next != nil; next = a.run() {
		a = next
	}
	returned = true
}

// abort gives back the lease of an attempt whose goroutine other code of the user's has ended, such as a codec.
func (a *Attempt) abort() {
	a.Logger().Error("code of the program's has called runtime.Goexit outside a handler: the turn is given back")
	_, err := try(a.worker.ctx, a.e, lastWrites, func(ctx context.Context) (*store.Settled, error) {
		return a.e.store.Settle(ctx, &store.SettleRequest{Lease: a.life.lease, Kind: store.SettleRelease, Release: store.ReleaseAsked})
	})
	if err != nil && !store.Definite(err) {
		a.e.bells.audit.ring()
	}
	a.lose(store.ErrLeaseLost)
}

func (e *Engine) isInside(a *Attempt) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return a.life.phase.inside()
}

// run enters the handler, writes how it ended, and returns the attempt of the next turn if that follows in its slot.
func (a *Attempt) run() *Attempt {
	for _, tell := range a.early {
		tell(a)
	}
	back := &store.SettleRequest{Kind: store.SettleRelease, Release: store.ReleaseDeclined}
	if a.surplus {
		return a.giveBack(back)
	}
	if err := a.prepare(); err != nil {
		return a.giveBack(&store.SettleRequest{Kind: store.SettlePark, Reason: reasonText("stored payload cannot be decoded: " + err.Error())})
	}
	if !a.admitted() {
		return a.giveBack(back)
	}
	a.watch()
	return a.conclude(a.call())
}

// admitted waits until no earlier handler of the task is inside, and reports whether the handler may be entered (O1, O4).
// After leakAfter it gives up: the task is left to others.
func (a *Attempt) admitted() bool {
	timer := time.NewTimer(leakAfter)
	defer timer.Stop()
	for {
		a.e.fenceIfLate(a.worker)
		a.e.mu.Lock()
		admitted, before := a.e.roster.enter(a.life)
		a.e.mu.Unlock()
		if before == nil {
			return admitted
		}
		select {
		case <-before.of.gone:
		case <-timer.C:
			return false
		case <-a.ctx.Done():
			return false
		case <-a.e.leaving:
			return false
		}
	}
}

// giveBack writes the end of an attempt whose handler was not entered.
func (a *Attempt) giveBack(req *store.SettleRequest) *Attempt {
	a.timers.stop()
	a.advance(declined, nil)
	a.emitter.close()
	close(a.gone)
	next := a.settle(req)
	a.end(nil)
	return next
}

// prepare decodes what was stored and sets the causes that the turn is entered with.
func (a *Attempt) prepare() error {
	if err := a.unseal(); err != nil {
		return err
	}
	a.atEntry()
	return nil
}

func (a *Attempt) unseal() (err error) {
	id := a.task.ID
	if a.input, err = a.e.decode(place{ofInput, id, ""}, a.input); err != nil {
		return err
	}
	if a.previous, err = a.e.decode(place{ofInput, id, ""}, a.previous); err != nil {
		return err
	}
	a.meta, err = newMetadata(a, a.task.Metadata)
	a.task.Metadata = nil
	return err
}

// watch sets the timers of a turn whose handler is about to be entered.
func (a *Attempt) watch() {
	a.watchDeadline()
	if a.task.Suspect {
		a.timers.set(ofProbation, probation, a.cleared)
	}
	a.e.stats.entered.Add(1)
}

// cleared lets the next suspect in, if this one holds it up: it has lived long enough, or got somewhere (R4).
func (a *Attempt) cleared() {
	a.e.mu.Lock()
	defer a.e.mu.Unlock()
	a.e.roster.cleared(a.life)
}

// call runs the handler, and reads what it leaves.
func (a *Attempt) call() report {
	var x Exit
	err := Guard(func() error {
		x = a.fn.Run(a.ctx, a)
		return nil
	})
	if err != nil {
		x = Exit{Err: err}
	}
	return a.read(x)
}

func (a *Attempt) read(x Exit) report {
	r := report{kind: x.Kind, reason: reasonText(x.Reason)}
	if !store.ValidText(x.Reason) {
		a.Replaced("reason")
	}
	switch {
	case x.Err != nil:
		r.failure = describe(x.Err, x.Foreign, a.fn.Retryable)
		if r.failure.replaced {
			a.Replaced("error")
		}
		if x.Kind == ExitFail && !r.failure.panicked {
			r.failure.typ = cmp.Or(x.Type, typeMisuse)
		}
	case x.Output != nil:
		if r.output, r.failure = a.sealOutput(x.Output); r.failure != nil {
			r.kind = ExitFail
		}
	}
	return r
}

// sealOutput checks and encodes the output; what cannot be stored fails the turn (S6).
func (a *Attempt) sealOutput(output []byte) ([]byte, *failure) {
	if most := a.e.cfg.MaxOutput; len(output) > most {
		return nil, &failure{typ: typeTooLarge, message: fmt.Sprintf("output of %d bytes: %v: the limit is %d", len(output), ErrTooLarge, most)}
	}
	sealed, err := a.e.encode(place{ofOutput, a.task.ID, ""}, output)
	if err != nil {
		return nil, &failure{typ: typeEncode, message: errorText("encode output: " + err.Error())}
	}
	return sealed, nil
}

// exited is the report of a handler that has called runtime.Goexit.
func exited() report {
	return report{kind: ExitFail, failure: &failure{typ: typeMisuse, message: "handler called runtime.Goexit"}}
}

// conclude notes that the handler has returned, and writes what follows from what it left.
func (a *Attempt) conclude(r report) *Attempt {
	a.timers.stop()
	causes, shown := a.interrupt.close(a.isOverdue())
	before := a.advance(returned, nil)
	a.emitter.close()
	close(a.gone)
	var next *Attempt
	if before == running || before == drained {
		next = a.settle(a.verdict(r, situation{
			settings: a.task.Settings, attempt: a.task.Turn.Attempt, causes: causes, shown: shown, stopped: before == drained, random: rand.Float64,
		}))
	}
	a.end(nil)
	a.emitter.gone.Wait()
	return next
}
