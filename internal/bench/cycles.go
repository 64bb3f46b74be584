package bench

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/perdure/perdure"
)

// Cycles compares start → handler → result of a trivial func with a bare loop that writes the same rows
// with the same group commit, in turns, in one run. On Postgres the bare loop sends the same kind of batches
// over as many connections.
type Cycles struct {
	Callers   int     `json:"callers"`
	Engine    float64 `json:"engine_per_s"`
	Bare      float64 `json:"bare_per_s"`
	Ratio     float64 `json:"ratio"`         // median of the rounds' ratios
	EngineCPU float64 `json:"engine_cpu_us"` // processor time of a cycle, microseconds
	BareCPU   float64 `json:"bare_cpu_us"`
	Start     Latency `json:"start"` // until the input is durable
	Result    Latency `json:"result"`
	BareCycle Latency `json:"bare_cycle"`
}

// payload is what a task carries in and out. With it the rows and index entries of a cycle are about a
// kilobyte.
var payload = note{Text: strings.Repeat("abcdefgh", 16)}

// RunCycles measures for each number of callers.
func RunCycles(ctx context.Context, o Options) ([]Cycles, error) {
	o = o.withDefaults()
	var all []Cycles
	for _, callers := range o.Callers {
		c, err := runCycles(ctx, o, callers)
		if err != nil {
			return nil, err
		}
		all = append(all, *c)
	}
	return all, nil
}

func runCycles(ctx context.Context, o Options, callers int) (*Cycles, error) {
	c := &Cycles{Callers: callers}
	var engine, bare, ratio []float64
	for range o.Rounds {
		e, err := c.engineRound(ctx, o)
		if err != nil {
			return nil, err
		}
		b, err := c.bareRound(ctx, o)
		if err != nil {
			return nil, err
		}
		engine, bare, ratio = append(engine, e), append(bare, b), append(ratio, e/b)
	}
	c.Engine, c.Bare, c.Ratio = median(engine), median(bare), median(ratio)
	return c, nil
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

func (c *Cycles) engineRound(ctx context.Context, o Options) (float64, error) {
	place := o.place("cycles")
	defer remove(place)
	b, err := open(ctx, place, perdure.Options{Funcs: []perdure.Binding{trivial.Bind(echo)}})
	if err != nil {
		return 0, err
	}
	client := b.eng.Client()
	starts := make([][]time.Duration, c.Callers)
	cpu := cpuTime()
	rate, results, err := loop(ctx, c.Callers, o.Duration, func(ctx context.Context, caller int) error {
		began := time.Now()
		h, err := trivial.Start(ctx, client, payload, nil)
		if err != nil {
			return err
		}
		starts[caller] = append(starts[caller], time.Since(began))
		_, err = h.Result(ctx)
		return err
	})
	if err != nil {
		return 0, err
	}
	c.Start, c.Result = latency(slices.Concat(starts...)), results
	c.EngineCPU = perCycle(cpuTime()-cpu, len(slices.Concat(starts...)))
	return rate, b.close()
}

func (c *Cycles) bareRound(ctx context.Context, o Options) (float64, error) {
	place := o.place("bare")
	defer remove(place)
	b, err := openBare(ctx, place)
	if err != nil {
		return 0, err
	}
	cpu := cpuTime()
	var cycles atomic.Int64
	rate, cycle, err := loop(ctx, c.Callers, o.Duration, func(context.Context, int) error {
		cycles.Add(1)
		return b.cycle()
	})
	c.BareCycle = cycle
	c.BareCPU = perCycle(cpuTime()-cpu, int(cycles.Load()))
	if closed := b.close(); err == nil {
		err = closed
	}
	return rate, err
}

func perCycle(cpu time.Duration, cycles int) float64 {
	return float64(cpu.Microseconds()) / float64(max(cycles, 1))
}

// loop lets callers repeat an operation for some time. It returns how many were done in a second.
func loop(ctx context.Context, callers int, d time.Duration, op func(context.Context, int) error) (float64, Latency, error) {
	took := make([][]time.Duration, callers)
	var first error
	var once sync.Once
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	began := time.Now()
	for i := range callers {
		wg.Go(func() {
			for time.Since(began) < d {
				t := time.Now()
				if err := op(ctx, i); err != nil {
					once.Do(func() { first = err; cancel() })
					return
				}
				took[i] = append(took[i], time.Since(t))
			}
		})
	}
	wg.Wait()
	all := slices.Concat(took...)
	return float64(len(all)) / time.Since(began).Seconds(), latency(all), first
}
