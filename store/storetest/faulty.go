package storetest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/perdure/perdure/store"
)

// Fault is what goes wrong with one call.
type Fault int

// Faults. The zero value is none.
const (
	None       Fault = iota
	FailBefore       // fails with ErrFault; nothing was written
	FailAfter        // fails with ErrFault; it was written, the answer is lost
	Delay            // begins Faulty.Delay later
	Late             // is carried out at once, and answers Faulty.Delay later, whatever becomes of the call's context
	Hang             // returns only when its context ends or the store is killed; nothing was written
	KillBefore       // the process dies; nothing was written
	KillAfter        // the process dies; it was written
	Refuse           // is refused with an answer that says so, ErrFault where a store has none; nothing was written
	Lose             // fails with store.ErrLost; nothing was written
)

// ErrFault is the error of a call that a Faulty has failed. Its result is unknown to the caller.
var ErrFault = errors.New("storetest: fault")

// Call is one call of a store's method.
type Call struct {
	Op  string // the method's name
	N   int    // how many calls of the method there have been, with this one
	Req any    // its argument
}

// Faulty is a store in front of another that fails when told to. All methods may be called concurrently.
type Faulty struct {
	inner  store.Store
	decide func(Call) Fault
	dead   chan struct{}

	// Delay is how much longer a call takes with the faults Delay and Late. Set before use; default 1 s.
	Delay time.Duration

	mu     sync.Mutex
	calls  map[string]int
	unlock func()
	killed bool
}

var _ store.Store = (*Faulty)(nil)

// NewFaulty wraps s. For every call decide says what goes wrong with it; it is called by one goroutine at
// a time. A nil decide lets everything pass.
func NewFaulty(s store.Store, decide func(Call) Fault) *Faulty {
	if decide == nil {
		decide = func(Call) Fault { return None }
	}
	return &Faulty{inner: s, decide: decide, dead: make(chan struct{}), calls: map[string]int{}, Delay: time.Second}
}

// Kill makes f the store of a dead process: calls under way and later ones fail with store.ErrClosed, and
// a lock that was taken through it is given back. The wrapped store stays open.
func (f *Faulty) Kill() {
	f.mu.Lock()
	killed, unlock := f.killed, f.unlock
	f.killed, f.unlock = true, nil
	f.mu.Unlock()
	if killed {
		return
	}
	close(f.dead)
	if unlock != nil {
		unlock()
	}
}

// Calls returns how often a method has been called.
func (f *Faulty) Calls(op string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[op]
}

// next counts a call and decides about it.
func (f *Faulty) next(op string, req any) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[op]++
	return f.decide(Call{Op: op, N: f.calls[op], Req: req})
}

func (f *Faulty) isDead() bool {
	select {
	case <-f.dead:
		return true
	default:
		return false
	}
}

// pass makes one call with its fault.
func pass[T any](ctx context.Context, f *Faulty, op string, req any, call func(context.Context) (T, error)) (T, error) {
	var none T
	if f.isDead() {
		return none, store.ErrClosed
	}
	fault := f.next(op, req)
	if err := f.before(ctx, op, fault); err != nil {
		return none, err
	}
	out, err := late(ctx, f, fault, call)
	if fault == KillAfter {
		f.Kill()
	}
	switch {
	case f.isDead():
		return none, store.ErrClosed
	case fault == FailAfter && err == nil:
		return none, ErrFault
	}
	return out, err
}

// late makes the call, and with the fault Late holds its answer back.
func late[T any](ctx context.Context, f *Faulty, fault Fault, call func(context.Context) (T, error)) (T, error) {
	if fault != Late || ctx.Err() != nil {
		return call(ctx)
	}
	ctx = context.WithoutCancel(ctx)
	out, err := call(ctx)
	if lost := f.wait(ctx, time.After(f.Delay)); lost != nil {
		err = lost
	}
	return out, err
}

// before is the part of a fault that comes before the call.
func (f *Faulty) before(ctx context.Context, op string, fault Fault) error {
	switch fault {
	case FailBefore:
		return ErrFault
	case KillBefore:
		f.Kill()
		return store.ErrClosed
	case Refuse:
		return refusal(op)
	case Lose:
		return store.ErrLost
	case Delay:
		return f.wait(ctx, time.After(f.Delay))
	case Hang:
		return f.wait(ctx, nil)
	}
	return nil
}

// refusal is an answer that means no, without any trace of the operation.
func refusal(op string) error {
	switch op {
	case "Heartbeat", "Claim":
		return store.ErrWorkerDead
	case "Checkpoint", "Settle":
		return store.ErrLeaseLost
	case "Offer", "OfferTx":
		return store.ErrQueueFull
	case "Signal", "Get", "Turn", "Turns", "Events":
		return store.ErrNotFound
	case "Delete", "Import":
		return &store.ConflictError{Status: store.Pending}
	case "Lock":
		return store.ErrStoreInUse
	}
	return ErrFault
}

func (f *Faulty) wait(ctx context.Context, until <-chan time.Time) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-f.dead:
		return store.ErrClosed
	case <-until:
		return nil
	}
}
