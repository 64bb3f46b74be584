//go:build unix

package chaos

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/perdurehttp"
)

var chaosFor = flag.Duration("chaos", 3*time.Minute, "for how long workers, database and network are broken")

const (
	chaosLease   = 2 * time.Second
	chaosWorkers = 4
	chaosClients = 16
	patience     = 3 * time.Minute // of a client, with one input
)

// storm is a run of chaos.
type storm struct {
	*cluster
	over  chan struct{} // closed when nothing is broken any more
	broke map[string]int

	inputs    atomic.Int64 // accepted
	refused   atomic.Int64 // calls that failed with an error that says to try again
	cancelled atomic.Int64
	streams   atomic.Int64
}

func TestNothingIsLostInChaos(t *testing.T) {
	t.Parallel()
	s := &storm{cluster: newCluster(t, chaosLease), over: make(chan struct{}), broke: map[string]int{}}
	for i := range chaosWorkers {
		s.add([]int{0, 600, -600, 0}[i])
	}
	began := time.Now()
	var clients sync.WaitGroup
	for n := range chaosClients {
		clients.Go(func() { s.client(n) })
	}
	for time.Since(began) < *chaosFor && !t.Failed() {
		<-time.After(time.Duration(200+rand.IntN(1500)) * time.Millisecond)
		s.breakSomething()
	}
	s.mend()
	close(s.over)
	clients.Wait()
	s.nothingIsLeft()
	entries := s.neverTwiceAtOnce()
	t.Logf("proof: %d workers, %d clients, %v of chaos %v, clocks off by 10 min: %d inputs accepted, %d handler entries, %d calls asked again, %d turns cancelled, %d streams read twice; none lost, none twice at once, each outcome the same whoever asks",
		chaosWorkers, chaosClients, chaosFor, s.broke, s.inputs.Load(), entries, s.refused.Load(), s.cancelled.Load(), s.streams.Load())
	if s.inputs.Load() < int64(*chaosFor/time.Second) {
		t.Errorf("only %d inputs were accepted: this proves little", s.inputs.Load())
	}
}

// breakSomething breaks one thing for a while.
func (s *storm) breakSomething() {
	w := s.any()
	short := time.Duration(rand.IntN(1500)) * time.Millisecond
	long := chaosLease + time.Duration(rand.IntN(3000))*time.Millisecond
	what := []string{"kill", "kill", "leave", "freeze", "cut", "silence", "deaf", "slow", "restart of the database"}[rand.IntN(9)]
	s.broke[what]++
	switch what {
	case "kill":
		w.kill()
		<-time.After(short)
		w.start()
	case "leave":
		w.leave()
		w.start()
	case "freeze":
		w.freeze(long)
	case "cut", "silence", "deaf", "slow":
		w.proxy.Set(map[string]Trouble{"cut": Cut, "silence": Silence, "deaf": Deaf, "slow": Slow}[what])
		<-time.After([]time.Duration{short, long}[rand.IntN(2)])
		w.proxy.Set(None)
	default:
		s.server.Kill()
		<-time.After(short)
		if err := s.server.Launch(); err != nil {
			s.t.Fatal(err)
		}
	}
}

// mend makes everything work again.
func (s *storm) mend() {
	for _, w := range s.workers {
		w.proxy.Set(None)
	}
}

// client gives inputs, one after the other, until the storm is over.
func (s *storm) client(n int) {
	for i := 0; ; i++ {
		select {
		case <-s.over:
			return
		default:
		}
		id := fmt.Sprintf("c%d-%d", n, i)
		switch {
		case n%4 == 0:
			s.converse(id)
		case n%4 == 1:
			s.cancel(id)
		default:
			s.job(id)
		}
		if s.t.Failed() {
			return
		}
	}
}

// ask makes a call at one worker after another until it is answered. What it says meanwhile must be errors that say
// that it should be tried again.
func ask[T any](s *storm, what string, call func(context.Context, *perdurehttp.Client) (T, error)) (T, bool) {
	var none T
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	for {
		c, err := perdurehttp.NewClient("http://"+s.any().listen, &perdurehttp.ClientOptions{Patience: time.Second, WaitPatience: time.Second})
		if err != nil {
			s.t.Error(err)
			return none, false
		}
		try, end := context.WithTimeout(ctx, 10*time.Second)
		v, err := call(try, c)
		end()
		switch {
		case err == nil:
			return v, true
		case ctx.Err() != nil:
			s.t.Errorf("%s: not answered within %v: %v", what, patience, err)
			return none, false
		case errors.Is(err, perdure.ErrUnavailable), errors.Is(err, perdure.ErrShuttingDown), errors.Is(err, context.DeadlineExceeded):
			s.refused.Add(1)
		default:
			s.t.Errorf("%s: %v: that is no error that says to try again", what, err)
			return none, false
		}
	}
}

// started gives a task an input.
func started[In, Out any](s *storm, f *perdure.Func[In, Out], task, input string, in In) bool {
	_, ok := ask(s, "start "+task+" "+input, func(ctx context.Context, c *perdurehttp.Client) (*perdure.Handle[Out], error) {
		return f.Start(ctx, c, in, &perdure.StartOptions{TaskID: task, InputID: input})
	})
	if ok {
		s.inputs.Add(1)
	}
	return ok
}

// result waits for the outcome of an input, and asks for it again somewhere else: it must be the same.
func result[In, Out any](s *storm, f *perdure.Func[In, Out], task, input string) (perdure.Result[Out], bool) {
	var results [2]perdure.Result[Out]
	for i := range results {
		r, ok := ask(s, "result of "+task+" "+input, func(ctx context.Context, c *perdurehttp.Client) (perdure.Result[Out], error) {
			h, err := f.Attach(ctx, c, task, &perdure.AttachOptions{InputID: input})
			if err != nil {
				return perdure.Result[Out]{}, err
			}
			r, err := h.Result(ctx)
			if _, ended := errors.AsType[*perdure.OutcomeError](err); ended {
				err = nil
			}
			return r, err
		})
		if !ok {
			return r, false
		}
		results[i] = r
	}
	if !reflect.DeepEqual(results[0], results[1]) {
		s.t.Errorf("task %s input %s has two outcomes: %+v and %+v", task, input, results[0], results[1])
		return results[0], false
	}
	return results[0], true
}

// job runs a job, and reads its stream while it runs and afterwards.
func (s *storm) job(id string) {
	in := Work{Steps: 1 + rand.IntN(30), PauseMS: rand.IntN(60), Every: 1 + rand.IntN(4)}
	if !started(s, Job, id, "i-"+id, in) {
		return
	}
	var live []string
	var reader sync.WaitGroup
	reader.Go(func() { live = s.read(id, false) })
	r, ok := result(s, Job, id, "i-"+id)
	reader.Wait()
	if !ok {
		return
	}
	if r.Status != perdure.Completed {
		s.t.Errorf("job %s ended %s (%v)", id, r.Status, r.Reason)
		return
	}
	checkTrail(s.t, id, r.Output, in.Steps)
	var want []string
	for n := range in.Steps {
		want = append(want, fmt.Sprint(n+1))
	}
	for what, got := range map[string][]string{"live": live, "committed": s.read(id, true)} {
		if !slices.Equal(got, want) {
			s.t.Errorf("E2: %s stream of %s: got %q, want %q", what, id, got, want)
		}
	}
	s.streams.Add(1)
}

// read reads a stream to its end, at one worker after another, and returns the messages that stand.
func (s *storm) read(id string, committed bool) []string {
	var fold perdure.Fold
	var last int64
	ended, _ := ask(s, "events of "+id, func(ctx context.Context, c *perdurehttp.Client) (bool, error) {
		for e, err := range c.Events(ctx, id, &perdure.EventOptions{Committed: committed, After: last}) {
			if err != nil {
				return false, err
			}
			fold.Add(e)
			if e.Number > last {
				last = e.Number
			}
			if e.Kind == perdure.EventEnd {
				return true, nil
			}
		}
		return false, perdure.ErrUnavailable
	})
	if !ended {
		s.t.Errorf("stream of %s has no end", id)
	}
	var got []string
	for _, e := range fold.Messages() {
		got = append(got, string(e.Data))
	}
	return got
}

// converse steers a conversation, from any worker.
func (s *storm) converse(id string) {
	const messages = 5
	var callers sync.WaitGroup
	for i := range messages {
		callers.Go(func() {
			<-time.After(time.Duration(rand.IntN(200)) * time.Millisecond)
			input := fmt.Sprint("m", i)
			if !started(s, Talk, id, input, input) {
				return
			}
			r, ok := result(s, Talk, id, input)
			if ok && (r.Status != perdure.Suspended && r.Status != perdure.Completed || !slices.Contains(r.Output.Heard, input)) {
				s.t.Errorf("conversation %s: %s ended %s and heard %q", id, input, r.Status, r.Output.Heard)
			}
		})
	}
	callers.Wait()
	if s.t.Failed() {
		return
	}
	turns, ok := ask(s, "turns of "+id, func(ctx context.Context, c *perdurehttp.Client) (list []*perdure.TurnInfo, err error) {
		for turn, err := range c.Turns(ctx, id, nil) {
			if err != nil {
				return nil, err
			}
			list = append(list, turn)
		}
		return list, nil
	})
	if !ok {
		return
	}
	var want []string
	for _, turn := range turns {
		want = append(want, turn.InputID)
	}
	last, ok := result(s, Talk, id, turns[len(turns)-1].InputID)
	if ok && (len(turns) != messages || !slices.Equal(last.Output.Heard, want)) {
		s.t.Errorf("G1: conversation %s has %d turns, of %q, and has heard %q", id, len(turns), want, last.Output.Heard)
	}
}

// cancel cancels a task that runs until then.
func (s *storm) cancel(id string) {
	if !started(s, Hold, id, "i-"+id, "x") {
		return
	}
	<-time.After(time.Duration(rand.IntN(500)) * time.Millisecond)
	_, ok := ask(s, "cancel "+id, func(ctx context.Context, c *perdurehttp.Client) (perdure.Status, error) {
		return c.Cancel(ctx, id, nil)
	})
	if !ok {
		return
	}
	if r, ok := result(s, Hold, id, "i-"+id); ok && r.Status != perdure.Cancelled {
		s.t.Errorf("task %s was cancelled and ended %s", id, r.Status)
	}
	s.cancelled.Add(1)
}

// nothingIsLeft checks that no task waits or runs.
func (s *storm) nothingIsLeft() {
	s.t.Helper()
	left, ok := ask(s, "list", func(ctx context.Context, c *perdurehttp.Client) (left []string, err error) {
		for info, err := range c.Tasks(ctx, &perdure.ListOptions{Statuses: []perdure.Status{perdure.Pending, perdure.InProgress, perdure.Parked, perdure.Failed}}) {
			if err != nil {
				return nil, err
			}
			left = append(left, fmt.Sprint(info.ID, " ", info.Status, " ", info.Reason))
		}
		return left, nil
	})
	if ok && len(left) > 0 {
		s.t.Errorf("%d tasks are left: %q", len(left), left)
	}
}
