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
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/pgtest"
	"github.com/perdure/perdure/perdurehttp"
)

var failovers = flag.Int("failovers", 3, "rounds of a primary that is replaced by its standby, beside one of the control")

const failoverLease = 4 * time.Second

// skewed is SQL that has the clock of a server be off by the seconds of its setting skew.seconds, for whom search_path has
// schema skew before pg_catalog.
const skewed = `CREATE SCHEMA skew;
CREATE FUNCTION skew.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
	$$SELECT pg_catalog.clock_timestamp() + pg_catalog.current_setting('skew.seconds')::int * interval '1 second'$$`

// The kinds of failover. b is the standby.
var failoverKinds = []string{
	"the primary is killed",
	"the standby is away, then the primary is killed",
	"the primary restarts while the standby is away",
	"a process of the primary crashes while the standby is away",
	"the primary is frozen, replaced, and thawed",
}

// failover is a round: clients at workers, while the primary of their database is replaced by its standby.
type failover struct {
	*storm
	group   *pgtest.Group
	replica chan struct{} // closed when the new primary has a standby
	lossy   bool          // the standby is asynchronous

	dark atomic.Int64 // since when, monotonic, no standby is there; 0: one is

	mu      sync.Mutex
	told    map[string]told // what somebody was told, by task
	deleted map[string]bool // tasks whose delete was acknowledged
	wrong   []string        // what was told and could not be
}

// told is an outcome; without a status only that the input was accepted.
type told struct {
	status perdure.Status
	out    any
	holds  bool // the task runs until it is cancelled
}

// newFailover starts three clusters, the first with the second as its standby, and workers.
func newFailover(t *testing.T, names string, delay time.Duration) *failover {
	t.Helper()
	f := &failover{storm: &storm{over: make(chan struct{}), broke: map[string]int{}}, replica: make(chan struct{}), lossy: names == "", told: map[string]told{}, deleted: map[string]bool{}}
	f.group = pgtest.StartGroup(t, 3, "synchronous_standby_names="+names, "skew.seconds=0", "search_path=skew,pg_catalog,public")
	a, b, c := f.group.Servers[0], f.group.Servers[1], f.group.Servers[2]
	b.Set(fmt.Sprintf("skew.seconds=%d", []int{0, 90, -90}[rand.IntN(3)])) // beyond rules.AheadBy; back-offs are as much later
	c.Set("skew.seconds=0")
	f.group.Follow(b, a, "b", pgtest.StartLine(t, a.Address(), delay).Address())
	if err := a.Exec(skewed); err != nil {
		t.Fatal(err)
	}
	f.cluster = clusterOn(t, failoverLease, a)
	f.url = f.group.URL() + "&schema=chaos"
	return f
}

// note keeps what somebody was told of an input; nothing if nobody answered.
func (f *failover) note(id string, now told) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, known := f.told[id]; known && now.status == "" {
		return
	}
	if before := f.told[id]; before.status != "" && !reflect.DeepEqual(before, now) {
		f.wrong = append(f.wrong, fmt.Sprintf("%s: told %+v and %+v", id, before, now))
	}
	f.told[id] = now
}

// acknowledged notes if a write that began at a time was acknowledged while no standby was there.
func (f *failover) acknowledged(what string, began int64) {
	if dark := f.dark.Load(); dark != 0 && began > dark {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.wrong = append(f.wrong, what+" was acknowledged while no standby was there")
	}
}

// client gives inputs, asks for their outcomes elsewhere, and deletes some.
func (f *failover) client(n int) {
	for i := 0; ; i++ {
		select {
		case <-f.over:
			return
		default:
		}
		id := fmt.Sprintf("f%d-%d", n, i)
		began, ok := monotonic(), false
		if n%4 == 0 {
			ok = started(f.storm, Hold, id, "i", "x")
		} else {
			ok = started(f.storm, Job, id, "i", Work{Steps: 1 + rand.IntN(5), PauseMS: rand.IntN(30), Every: 1 + rand.IntN(3)})
		}
		if !ok {
			return
		}
		f.acknowledged("input "+id, began)
		f.note(id, told{holds: n%4 == 0})
		switch n % 4 {
		case 0:
			f.stop(id)
		case 1:
			f.note(id, f.job(id))
			f.remove(id)
		default:
			f.note(id, f.job(id))
		}
	}
}

// job and hold ask one of the workers how an input has ended. One that is not there has the status "lost".
func (f *failover) job(id string) told  { return outcome(f.storm, Job, id, false) }
func (f *failover) hold(id string) told { return outcome(f.storm, Hold, id, f.lossy) }

// outcome asks how an input has ended; again has the task cancelled once more before each try, for the cancel may be lost.
func outcome[In, Out any](s *storm, of *perdure.Func[In, Out], id string, again bool) told {
	out, _ := ask(s, "result of "+id, func(ctx context.Context, c *perdurehttp.Client) (told, error) {
		if again {
			c.Cancel(ctx, id, nil)
		}
		h, err := of.Attach(ctx, c, id, &perdure.AttachOptions{InputID: "i"})
		if err != nil {
			return lostOr(err)
		}
		r, err := h.Result(ctx)
		if _, ended := errors.AsType[*perdure.OutcomeError](err); ended {
			err = nil
		}
		if err != nil {
			return lostOr(err)
		}
		return told{r.Status, r.Output, of.Name() == Hold.Name()}, nil
	})
	return out
}

func lostOr(err error) (told, error) {
	if errors.Is(err, perdure.ErrNotFound) || errors.Is(err, perdure.ErrDeleted) {
		return told{status: "lost"}, nil
	}
	return told{}, err
}

// stop cancels a task that runs until then.
func (f *failover) stop(id string) {
	began := monotonic()
	missing, ok := ask(f.storm, "cancel "+id, func(ctx context.Context, c *perdurehttp.Client) (told, error) {
		if _, err := c.Cancel(ctx, id, nil); err != nil {
			return lostOr(err)
		}
		return told{}, nil
	})
	if !ok || missing.status != "" {
		return
	}
	f.acknowledged("cancel of "+id, began)
	f.note(id, told{perdure.Cancelled, "", true})
	f.note(id, f.hold(id))
}

func (f *failover) remove(id string) {
	began := monotonic()
	_, ok := ask(f.storm, "delete "+id, func(ctx context.Context, c *perdurehttp.Client) (bool, error) {
		err := c.Delete(ctx, id, nil)
		if errors.Is(err, perdure.ErrNotFound) {
			err = nil
		}
		return true, err
	})
	if !ok {
		return
	}
	f.acknowledged("delete of "+id, began)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deleted[id] = true
}

// fail replaces the primary by its standby, in one of the ways.
func (f *failover) fail(kind string, away time.Duration) {
	a, b := f.group.Servers[0], f.group.Servers[1]
	if kind != failoverKinds[0] && kind != failoverKinds[4] {
		b.Kill()
		f.dark.Store(monotonic())
		<-time.After(away)
	}
	switch kind {
	case failoverKinds[2]:
		a.Kill()
		f.check(a.Launch())
		<-time.After(3 * time.Second)
	case failoverKinds[3]:
		f.check(a.Crash())
		<-time.After(3 * time.Second)
	}
	if kind == failoverKinds[4] {
		a.Freeze()
	} else {
		a.Kill()
	}
	if f.dark.Load() != 0 {
		f.check(b.Launch())
	}
	f.check(b.Promote())
	f.dark.Store(0)
	c := f.group.Servers[2]
	f.group.Follow(c, b, "c", b.Address())
	if kind == failoverKinds[4] {
		<-time.After(2 * time.Second)
		a.Thaw()
		<-time.After(time.Second)
		a.Kill()
	}
}

func (f *failover) check(err error) {
	if err != nil {
		f.t.Error(err)
	}
}

// ended is what has become of a task that was cancelled, when it has ended or should have.
func (f *failover) ended(id string) (now told) {
	for late := time.Now().Add(5 * failoverLease); ; <-time.After(20 * time.Millisecond) {
		now, _ = ask(f.storm, "task "+id, func(ctx context.Context, c *perdurehttp.Client) (told, error) {
			info, err := c.Task(ctx, id)
			if err != nil {
				return lostOr(err)
			}
			return told{info.Status, "", true}, nil
		})
		if now.status != perdure.InProgress && now.status != perdure.Pending || time.Now().After(late) {
			return now
		}
	}
}

// lost returns what was told and is not so, the first of it.
func (f *failover) lost(most int) (lost []string) {
	for id, was := range f.told {
		if len(lost) >= most {
			break
		}
		now := told{}
		switch {
		case was.holds:
			now = f.ended(id)
		default:
			now = f.job(id)
		}
		switch {
		case f.deleted[id] && now.status != "lost":
			lost = append(lost, "the delete of "+id)
		case !f.deleted[id] && now.status == "lost", was.status != "" && !f.deleted[id] && !reflect.DeepEqual(now, was):
			lost = append(lost, fmt.Sprintf("%s: %+v is %+v", id, was, now))
		}
	}
	slices.Sort(lost)
	return append(lost, f.wrong...)
}

// round runs clients through a failover, and returns what of what they were told is not so afterwards.
func round(t *testing.T, names, kind string, delay, away time.Duration, most int) (lost []string, f *failover) {
	t.Helper()
	f = newFailover(t, names, delay)
	for range 4 {
		f.add(0)
	}
	var clients sync.WaitGroup
	for n := range 16 {
		clients.Go(func() { f.client(n) })
	}
	<-time.After(2 * time.Second)
	f.fail(kind, away)
	<-time.After(2 * time.Second)
	close(f.over)
	clients.Wait()
	if t.Failed() {
		for _, w := range f.workers {
			said := w.said.String()
			t.Logf("%s says last: %s", w.name, said[max(0, len(said)-3000):])
		}
	}
	return f.lost(most), f
}

// What any process was told survives the loss of the primary, if its standby is synchronous; and the same test finds what is lost
// if it is not.
func TestWhatWasToldSurvivesAFailover(t *testing.T) {
	t.Parallel()
	var inputs, tellings, entries int
	count := map[string]int{}
	for n := range *failovers {
		kind := failoverKinds[n%len(failoverKinds)]
		if *failovers < len(failoverKinds) {
			kind = failoverKinds[rand.IntN(len(failoverKinds))]
		}
		delay := []time.Duration{0, 30 * time.Millisecond}[rand.IntN(2)]
		away := 12*time.Second + time.Duration(rand.IntN(3000))*time.Millisecond
		if *failovers > 10 {
			away += time.Duration(rand.IntN(25)) * time.Second
		}
		t.Run(fmt.Sprintf("%s, %v", strings.ReplaceAll(kind, " ", "_"), delay), func(t *testing.T) {
			lost, f := round(t, "ANY 1 (b,c)", kind, delay, away, 100)
			if len(lost) > 0 {
				t.Errorf("lost: %q", lost)
			}
			entries += f.neverTwiceAtOnce()
			inputs += int(f.inputs.Load())
			tellings += len(f.told)
			count[kind]++
			for _, w := range f.workers {
				w.kill()
			}
		})
	}
	lost := 0
	t.Run("control", func(t *testing.T) {
		for range 3 {
			of, _ := round(t, "", failoverKinds[0], 100*time.Millisecond, 0, 1)
			if lost += len(of); lost > 0 {
				return
			}
		}
		t.Error("nothing was lost without a synchronous standby: this proves nothing")
	})
	t.Logf("proof: %d failovers %v: %d inputs accepted, %d handler entries, %d tellings, all of them so afterwards; with an asynchronous standby %d were not", *failovers, count, inputs, entries, tellings, lost)
}
