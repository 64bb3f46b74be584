//go:build unix

package chaos

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/perdure/perdure"
)

var freezeFor = flag.Duration("freeze", 10*time.Second, "for how long a worker is frozen")

// held is how many running tasks a worker that dies or freezes holds.
const held = 1000

// holdAll starts tasks at a worker, which runs them.
func holdAll(t *testing.T, w *worker) {
	t.Helper()
	client := w.client(time.Minute)
	w.c.until("the worker takes work", time.Minute, func() bool { return client.Ready(t.Context()) == nil })
	var callers sync.WaitGroup
	for caller := range 32 {
		callers.Go(func() {
			for i := caller; i < held; i += 32 {
				if _, err := Hold.Start(t.Context(), client, "x", &perdure.StartOptions{TaskID: fmt.Sprint("held-", i)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	callers.Wait()
	w.c.until(fmt.Sprint("all tasks are entered by ", w.name), time.Minute, func() bool { return w.c.enteredBy(w.pid()) == held })
}

// enteredBy counts the handler entries of a process; of all others if it is negative.
func (c *cluster) enteredBy(pid int) (n int) {
	for _, l := range c.lines() {
		if l.What == "enter" && (l.PID == pid || pid < 0 && l.PID != -pid) {
			n++
		}
	}
	return n
}

// until waits for something in the journal.
func (c *cluster) until(what string, atMost time.Duration, holds func() bool) {
	c.t.Helper()
	late := time.After(atMost)
	for !holds() {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-late:
			c.t.Fatalf("not within %v: %s", atMost, what)
		}
	}
}

func TestTasksOfAKilledWorkerAreTakenOver(t *testing.T) {
	for _, lease := range []time.Duration{3 * time.Second, 15 * time.Second} {
		t.Run(lease.String(), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, lease)
			first := c.add(0)
			c.add(0)
			c.add(0)
			holdAll(t, first)
			killed := monotonic()
			first.kill()
			c.until("all tasks are entered again", lease+time.Minute, func() bool { return c.enteredBy(-first.pid()) >= held })
			var last int64
			for _, l := range c.lines() {
				last = max(last, l.At)
			}
			took := time.Duration(last - killed)
			if n := c.neverTwiceAtOnce(); n != 2*held {
				t.Errorf("%d handler entries, want %d", n, 2*held)
			}
			t.Logf("proof: one of three workers killed with %d running tasks, lease %v: all entered by the others %.2f s later, none twice at once", held, lease, took.Seconds())
			if took > lease+10*time.Second {
				t.Errorf("taken over after %v", took)
			}
		})
	}
}

func TestAFrozenWorkerWritesNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2*time.Second)
	first := c.add(0)
	c.add(0)
	holdAll(t, first)
	job, err := Job.Start(t.Context(), first.client(time.Minute), Work{Steps: 50, PauseMS: 50, Every: 1}, &perdure.StartOptions{TaskID: "job"})
	if err != nil {
		t.Fatal(err)
	}
	c.until("the job runs at the first worker", time.Minute, func() bool { return c.enteredBy(first.pid()) > held })
	before := c.workerID(first)
	thaw := make(chan struct{})
	go func() { first.freeze(*freezeFor); close(thaw) }()
	c.until("all tasks are entered again", *freezeFor+time.Minute, func() bool { return c.enteredBy(-first.pid()) > held })
	r, err := job.Result(t.Context())
	var unavailable bool
	if err != nil { // its client asks the frozen worker
		unavailable = errors.Is(err, perdure.ErrUnavailable)
		job, err = Job.Attach(t.Context(), c.workers[1].client(time.Minute), "job", nil)
		if err == nil {
			r, err = job.Result(t.Context())
		}
	}
	if err != nil {
		t.Fatalf("%v (unavailable before: %t)", err, unavailable)
	}
	checkTrail(t, "job", r.Output, 50)
	<-thaw
	lost := 0
	c.until("the contexts of its handlers have ended", time.Minute, func() bool {
		lost = 0
		for _, l := range c.lines() {
			if l.What == "lost" && l.PID == first.pid() && l.More == "true" {
				lost++
			}
		}
		return lost == held
	})
	c.until("it goes on with a new worker ID", time.Minute, func() bool {
		after := c.workerID(first)
		return after != "" && after != before
	})
	if _, err := Hold.Start(t.Context(), first.client(time.Minute), "x", &perdure.StartOptions{TaskID: "again"}); err != nil {
		t.Error(err)
	}
	visits := c.visits()
	for i := range held { // nothing of the frozen worker has reached the tasks
		task := fmt.Sprint("held-", i)
		info, err := c.workers[1].client(time.Minute).Task(t.Context(), task)
		last := visits[task][len(visits[task])-1]
		if err != nil || info.Status != perdure.InProgress || info.Lease == nil || info.Lease.Epoch != last.Epoch || last.PID == first.pid() {
			t.Fatalf("task %s: got %+v, %v, want it running as entered last: %+v", task, info, err, last)
		}
	}
	c.neverTwiceAtOnce()
	t.Logf("proof: a worker frozen for %v with %d running tasks: none of its writes was taken, %d contexts ended with ErrLeaseLost, it went on with a new worker ID",
		*freezeFor, held, lost)
}

// workerID returns the ID under which a worker is registered at present.
func (c *cluster) workerID(w *worker) string {
	workers, err := c.workers[1].client(time.Minute).Workers(context.Background())
	if err != nil {
		c.t.Fatal(err)
	}
	for _, info := range workers {
		if info.PID == w.pid() {
			return info.ID
		}
	}
	return ""
}

// checkTrail checks that every step was saved once and in order, under epochs that do not fall.
func checkTrail(t *testing.T, task string, out Done, steps int) {
	t.Helper()
	var wrong []string
	if len(out.Trail) != steps {
		wrong = append(wrong, fmt.Sprintf("%d steps, want %d", len(out.Trail), steps))
	}
	for i, s := range out.Trail {
		if s.Step != i+1 || i > 0 && s.Epoch < out.Trail[i-1].Epoch {
			wrong = append(wrong, fmt.Sprintf("step %d is %+v", i+1, s))
		}
	}
	if len(wrong) > 0 {
		t.Errorf("task %s: %s", task, strings.Join(wrong, "; "))
	}
}
