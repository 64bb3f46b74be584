package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/perdure/perdure"
)

// Workers is what several processes do together on one database, the callers shared out between them.
type Workers struct {
	Processes int           `json:"processes"`
	Callers   int           `json:"callers"` // in all
	Cycles    float64       `json:"cycles_per_s"`
	P99       time.Duration `json:"p99_ns"`
}

// RunWorkers measures cycles of several processes at once.
func RunWorkers(ctx context.Context, o Options) ([]Workers, error) {
	o = o.withDefaults()
	var all []Workers
	for _, n := range o.Workers {
		var rates []float64
		w := Workers{Processes: n, Callers: slices.Max(o.Callers) / n * n}
		for range o.Rounds {
			r, err := w.round(ctx, o)
			if err != nil {
				return nil, err
			}
			rates = append(rates, r)
		}
		w.Cycles = median(rates)
		all = append(all, w)
	}
	return all, nil
}

// gathering is how long processes have to be ready before they begin together.
const gathering = 2 * time.Second

// round lets the processes begin at the same moment, and adds up what they did.
func (w *Workers) round(ctx context.Context, o Options) (float64, error) {
	place := o.place("workers")
	defer remove(place)
	first, err := open(ctx, place, perdure.Options{}) // makes the tables
	if err == nil {
		err = first.close()
	}
	if err != nil {
		return 0, err
	}
	begin := strconv.FormatInt(time.Now().Add(gathering).UnixNano(), 10)
	results := make(chan cycled, w.Processes)
	for range w.Processes {
		cmd, out, err := o.child(ctx, roleCycles, place, strconv.Itoa(w.Callers/w.Processes), begin, o.Duration.String())
		if err != nil {
			return 0, err
		}
		go func() {
			var c cycled
			err := json.NewDecoder(out).Decode(&c)
			if ended := cmd.Wait(); err == nil {
				err = ended
			}
			c.err = err
			results <- c
		}()
	}
	total := 0.0
	for range w.Processes {
		c := <-results
		if err == nil {
			err = c.err
		}
		total += c.Rate
		w.P99 = max(w.P99, c.P99)
	}
	return total, err
}

// cycled is what one process has done.
type cycled struct {
	Rate float64
	P99  time.Duration
	err  error
}

// cycling is a process of the measurement.
func cycling(ctx context.Context, out io.Writer, place string, callers int, begin, duration string) error {
	at, err := strconv.ParseInt(begin, 10, 64)
	if err != nil {
		return err
	}
	d, err := time.ParseDuration(duration)
	if err != nil {
		return err
	}
	b, err := open(ctx, place, perdure.Options{Funcs: []perdure.Binding{trivial.Bind(echo)}})
	if err != nil {
		return err
	}
	late := time.Until(time.Unix(0, at))
	if late <= 0 {
		return fmt.Errorf("not ready %v after the others were to begin", -late)
	}
	if err := wait(ctx, late); err != nil {
		return err
	}
	rate, results, err := loop(ctx, callers, d, func(ctx context.Context, _ int) error {
		_, err := trivial.Run(ctx, b.eng.Client(), payload, nil)
		return err
	})
	if err != nil {
		return err
	}
	if err := b.close(); err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(cycled{Rate: rate, P99: results.P99})
}
