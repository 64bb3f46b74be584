package bench

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/perdure/perdure"
)

// Running is what many tasks cost that run at once and do nothing.
type Running struct {
	Tasks        int     `json:"tasks"`
	BytesPerTask int     `json:"bytes_per_task"` // heap and stacks
	CPUPercent   float64 `json:"cpu_percent"`    // of one core, over Observed
	Observed     float64 `json:"observed_s"`
}

// starters is how many goroutines start tasks when many are needed.
const starters = 64

// startAll starts n tasks of a func.
func startAll(ctx context.Context, c perdure.Client, f *perdure.Func[note, note], n int) error {
	var next atomic.Int64
	var once sync.Once
	var first error
	var wg sync.WaitGroup
	for range starters {
		wg.Go(func() {
			for next.Add(1) <= int64(n) {
				if _, err := f.Start(ctx, c, note{"x"}, nil); err != nil {
					once.Do(func() { first = err })
					return
				}
			}
		})
	}
	wg.Wait()
	return first
}

// waiter is a handler that says that it was entered and waits for its interrupt.
func waiter(entered *atomic.Int64) perdure.Binding {
	return idle.Bind(func(_ context.Context, turn *perdure.Turn[note, note]) (note, error) {
		entered.Add(1)
		<-turn.Interrupt().Done()
		return note{}, context.Cause(turn.Interrupt())
	})
}

// RunRunning measures many running tasks.
func RunRunning(ctx context.Context, o Options) (*Running, error) {
	o = o.withDefaults()
	place := o.place("running")
	defer remove(place)
	var entered atomic.Int64
	b, err := open(ctx, place, perdure.Options{Funcs: []perdure.Binding{waiter(&entered)}, MaxRunning: o.Running + 1})
	if err != nil {
		return nil, err
	}
	before := inUse()
	if err := startAll(ctx, b.eng.Client(), idle, o.Running); err != nil {
		return nil, err
	}
	r := &Running{Tasks: int(entered.Load()), Observed: 10}
	r.BytesPerTask = int(inUse()-before) / o.Running
	cpu, began := cpuTime(), time.Now()
	if err := wait(ctx, 10*time.Second); err != nil {
		return nil, err
	}
	r.CPUPercent = 100 * (cpuTime() - cpu).Seconds() / time.Since(began).Seconds()
	return r, b.close()
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// inUse returns the bytes in use by heap and stacks, after two collections: stacks shrink in one, and
// what they held is freed in the next.
func inUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

// Suspended is what many suspended tasks in the file change.
type Suspended struct {
	Tasks       int           `json:"tasks"`
	Filled      time.Duration `json:"filled_ns"` // how long it took to make them
	Open        time.Duration `json:"open_ns"`   // from opening the file to a ready engine
	Bytes       int64         `json:"bytes"`     // memory in use, more than with an empty file
	StartEmpty  Latency       `json:"start_empty"`
	Start       Latency       `json:"start"`  // one caller, with the tasks there
	Resume      Latency       `json:"resume"` // of one of them
	FileBytes   int64         `json:"file_bytes"`
	StartChange float64       `json:"start_change"` // p50 beside the empty file's, as a ratio
}

// probes is how many single calls a latency is measured with.
const probes = 500

// RunSuspended measures an engine on a file of many suspended tasks.
func RunSuspended(ctx context.Context, o Options) (*Suspended, error) {
	o = o.withDefaults()
	place := o.place("suspended")
	defer remove(place)
	opts := perdure.Options{Funcs: []perdure.Binding{pausing.Bind(suspend)}}
	r := &Suspended{Tasks: o.Suspended}
	b, err := open(ctx, place, opts)
	if err != nil {
		return nil, err
	}
	empty := inUse()
	if r.StartEmpty, err = probe(ctx, b, false); err != nil {
		return nil, err
	}
	began := time.Now()
	if err := startAll(ctx, b.eng.Client(), pausing, o.Suspended); err != nil {
		return nil, err
	}
	r.Filled = time.Since(began)
	if err := b.close(); err != nil {
		return nil, err
	}
	began = time.Now()
	if b, err = open(ctx, place, opts); err != nil {
		return nil, err
	}
	r.Open = time.Since(began)
	r.Bytes = inUse() - empty
	if r.Start, err = probe(ctx, b, false); err != nil {
		return nil, err
	}
	if r.Resume, err = probe(ctx, b, true); err != nil {
		return nil, err
	}
	r.StartChange = float64(r.Start.P50) / float64(r.StartEmpty.P50)
	r.FileBytes = size(place)
	return r, b.close()
}

// probe starts tasks one after the other, or resumes some that are there.
func probe(ctx context.Context, b *bench, resume bool) (Latency, error) {
	c := b.eng.Client()
	ids := make([]string, probes)
	if resume {
		i := 0
		for info, err := range c.Tasks(ctx, &perdure.ListOptions{Statuses: []perdure.Status{perdure.Suspended}, Limit: probes}) {
			if err != nil {
				return Latency{}, err
			}
			ids[i] = info.ID
			i++
		}
	}
	var took []time.Duration
	for _, id := range ids {
		began := time.Now()
		h, err := pausing.Start(ctx, c, note{"x"}, &perdure.StartOptions{TaskID: id})
		if err != nil {
			return Latency{}, err
		}
		took = append(took, time.Since(began))
		if _, err := h.Result(ctx); err != nil {
			return Latency{}, err
		}
	}
	return latency(took), nil
}

// Orphans is how long it takes to enter all handlers again after a process with many running tasks died.
type Orphans struct {
	Tasks   int           `json:"tasks"`
	Took    time.Duration `json:"took_ns"` // from opening the file to the last entry
	Entered int           `json:"entered"`
}

// RunOrphans kills a process that runs many tasks and takes them over.
func RunOrphans(ctx context.Context, o Options) (*Orphans, error) {
	o = o.withDefaults()
	place := o.place("orphans")
	defer remove(place)
	if err := breed(ctx, o, place); err != nil {
		return nil, err
	}
	var entered atomic.Int64
	began := time.Now()
	b, err := open(ctx, place, perdure.Options{Funcs: []perdure.Binding{waiter(&entered)}, MaxRunning: o.Orphans + 1})
	if err != nil {
		return nil, err
	}
	for entered.Load() < int64(o.Orphans) && time.Since(began) < time.Minute {
		if err := wait(ctx, time.Millisecond); err != nil {
			return nil, err
		}
	}
	r := &Orphans{Tasks: o.Orphans, Took: time.Since(began), Entered: int(entered.Load())}
	return r, b.close()
}

// breed runs tasks in a process of its own and kills it.
func breed(ctx context.Context, o Options, place string) error {
	cmd, out, err := o.child(ctx, roleOrphanage, place, strconv.Itoa(o.Orphans))
	if err != nil {
		return err
	}
	line, err := out.ReadString('\n')
	killed := cmd.Process.Kill()
	cmd.Wait()
	if err != nil {
		return fmt.Errorf("process with the tasks: %w (%q)", err, line)
	}
	return killed
}

// orphanage is the process that is killed: it runs tasks, says so in one line, and waits.
func orphanage(ctx context.Context, out io.Writer, place string, tasks int) error {
	var entered atomic.Int64
	b, err := open(ctx, place, perdure.Options{Funcs: []perdure.Binding{waiter(&entered)}, MaxRunning: tasks + 1})
	if err != nil {
		return err
	}
	if err := startAll(ctx, b.eng.Client(), idle, tasks); err != nil {
		return err
	}
	fmt.Fprintf(out, "%d tasks are running\n", entered.Load())
	<-ctx.Done()
	return b.close()
}
