package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/internal/bench"
	"github.com/perdure/perdure/internal/stores"
)

const benchLong = `Bench measures this machine with SQLite files of its own, which it removes afterwards:

  cycles     start, handler and result of a trivial func, beside a bare loop that writes the same rows
             with the same group commit, in turns; the ratio is the figure to compare
  running    memory and processor time of tasks that run at once and do nothing
  suspended  what many suspended tasks in the file cost
  orphans    how long until all tasks of a killed process run again
  steer      how long a newer input takes to reach the handler that runs
  turns      what many turns of one task cost
  events     how many events of 100 bytes a second are emitted durably, how long one takes to reach a
             reader, and what many readers of one stream over HTTP cost
  workers    cycles of several processes on one database; only with --db
  across     how long a steer and a result take from one worker to another, with notifications and by
             polling alone; only with --db

With --db it measures on a Postgres database, in schemas of its own. Without an argument it measures all. Other load on the machine shows in the figures.`

const benchExample = `  perdure bench
  perdure bench cycles --callers 1,64,256 --duration 10s
  perdure bench suspended --suspended 1000000 --json
  perdure bench cycles workers --db postgres://localhost/perdure`

// benchParts are what bench measures, in this order.
var benchParts = []string{"cycles", "running", "suspended", "orphans", "steer", "turns", "events", "workers", "across"}

// benchChild is the hidden command by which bench starts processes of its own.
const benchChild = "bench-child"

func (a *app) benchCommand() *cobra.Command {
	var o bench.Options
	var asJSON bool
	c := &cobra.Command{
		Use: "bench [" + strings.Join(benchParts, "|") + "]...", Short: "Measure speed and memory on this machine",
		Long: benchLong, Example: benchExample, ValidArgs: benchParts,
		Args: cobra.OnlyValidArgs,
		RunE: func(c *cobra.Command, args []string) error { return a.bench(c.Context(), o, args, asJSON) },
	}
	flags := c.Flags()
	flags.StringVar(&o.DB, "db", "", "measure on the Postgres database at this `URL`")
	flags.StringVar(&o.Dir, "dir", "", "put the files into this `FOLDER` (default: a temporary one)")
	flags.DurationVar(&o.Duration, "duration", 3*time.Second, "how long to measure each kind of cycle")
	flags.IntVar(&o.Rounds, "rounds", 3, "how often to measure each; the median counts")
	flags.IntSliceVar(&o.Callers, "callers", []int{1, 64, 256}, "how many callers at once")
	flags.IntVar(&o.Running, "running", 10_000, "how many running tasks")
	flags.IntVar(&o.Suspended, "suspended", 100_000, "how many suspended tasks")
	flags.IntVar(&o.Orphans, "orphans", 10_000, "how many orphaned tasks")
	flags.IntVar(&o.Steered, "steered", 64, "how many tasks to steer at once")
	flags.IntVar(&o.Turns, "turns", 10_000, "how many turns of one task")
	flags.IntSliceVar(&o.Emitting, "emitting", []int{1, 64}, "how many tasks emit at once")
	flags.IntVar(&o.Readers, "readers", 1000, "how many readers of one stream over HTTP")
	flags.IntVar(&o.Across, "across", 300, "how many steers and results from one worker to another")
	flags.IntSliceVar(&o.Workers, "workers", []int{1, 2, 4}, "how many processes at once")
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	c.MarkFlagsMutuallyExclusive("db", "dir")
	return c
}

func (a *app) benchChildCommand() *cobra.Command {
	return &cobra.Command{
		Use: benchChild + " ARGUMENT...", Hidden: true, Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return bench.Child(c.Context(), a.out, args) },
	}
}

func (a *app) bench(ctx context.Context, o bench.Options, parts []string, asJSON bool) error {
	for _, part := range []string{"workers", "across"} {
		if slices.Contains(parts, part) && o.DB == "" {
			return usage("%s: it needs --db: one process at a time works on a SQLite file", part)
		}
	}
	if err := checkCounts(o); err != nil {
		return err
	}
	if o.DB != "" && !stores.IsPostgres(o.DB) {
		return usage("--db %s: it must be the URL of a Postgres database, such as postgres://localhost/perdure", o.DB)
	}
	if o.Dir == "" {
		dir, err := os.MkdirTemp("", "perdure-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		o.Dir = dir
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	o.Self = []string{self, benchChild}
	r, err := a.measure(ctx, o, parts)
	if err != nil {
		return err
	}
	if asJSON {
		return a.printJSON(r)
	}
	return a.printReport(r)
}

// What bench measures at most.
const (
	maxCount    = 10_000_000
	maxAtOnce   = 100_000
	maxDuration = time.Hour
)

// checkCounts refuses what cannot be measured.
func checkCounts(o bench.Options) error {
	if o.Duration <= 0 || o.Duration > maxDuration {
		return usage("--duration: must be more than 0 and at most %v, not %v", maxDuration, o.Duration)
	}
	for _, c := range []struct {
		flag string
		most int
		is   []int
	}{
		{"rounds", maxAtOnce, []int{o.Rounds}}, {"callers", maxAtOnce, o.Callers}, {"running", maxCount, []int{o.Running}},
		{"suspended", maxCount, []int{o.Suspended}}, {"orphans", maxCount, []int{o.Orphans}}, {"steered", maxAtOnce, []int{o.Steered}},
		{"turns", maxCount, []int{o.Turns}}, {"emitting", maxAtOnce, o.Emitting}, {"readers", maxAtOnce, []int{o.Readers}},
		{"across", maxCount, []int{o.Across}}, {"workers", maxAtOnce, o.Workers},
	} {
		for _, n := range c.is {
			if n < 1 || n > c.most {
				return usage("--%s: must be from 1 to %d, not %d", c.flag, c.most, n)
			}
		}
	}
	return nil
}

// measure runs the parts that are asked for, all of them when none is.
func (a *app) measure(ctx context.Context, o bench.Options, parts []string) (r bench.Report, err error) {
	wanted := func(part string) bool {
		if len(parts) == 0 {
			return true
		}
		for _, p := range parts {
			if p == part {
				return true
			}
		}
		return false
	}
	step := func(part string, run func() error) {
		if err != nil || !wanted(part) {
			return
		}
		a.say("measuring %s …", part)
		if err = run(); err != nil {
			err = fmt.Errorf("%s: %w", part, err)
		}
	}
	step("cycles", func() (err error) { r.Cycles, err = bench.RunCycles(ctx, o); return err })
	step("running", func() (err error) { r.Running, err = bench.RunRunning(ctx, o); return err })
	step("suspended", func() (err error) { r.Suspended, err = bench.RunSuspended(ctx, o); return err })
	step("orphans", func() (err error) { r.Orphans, err = bench.RunOrphans(ctx, o); return err })
	step("steer", func() (err error) { r.Steer, err = bench.RunSteer(ctx, o); return err })
	step("turns", func() (err error) { r.Turns, err = bench.RunTurns(ctx, o); return err })
	step("events", func() (err error) { r.Events, err = bench.RunEvents(ctx, o); return err })
	if o.DB != "" {
		step("workers", func() (err error) { r.Workers, err = bench.RunWorkers(ctx, o); return err })
		step("across", func() (err error) { r.Across, err = bench.RunAcross(ctx, o); return err })
	}
	return r, err
}

// printReport writes the figures as tables.
func (a *app) printReport(r bench.Report) error {
	fmt.Fprintf(a.out, "%s/%s, %d processors, %s\n", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
	if len(r.Cycles) > 0 {
		t := a.newTable("CALLERS", "CYCLES/S", "BARE LOOP/S", "RATIO", "CPU", "BARE CPU",
			"START P50", "P99", "RESULT P50", "P99", "BARE P50", "P99")
		for _, c := range r.Cycles {
			t.add(strconv.Itoa(c.Callers), rate(c.Engine), rate(c.Bare), fmt.Sprintf("%.2f", c.Ratio),
				fmt.Sprintf("%.0f µs", c.EngineCPU), fmt.Sprintf("%.0f µs", c.BareCPU),
				ms(c.Start.P50), ms(c.Start.P99), ms(c.Result.P50), ms(c.Result.P99), ms(c.BareCycle.P50), ms(c.BareCycle.P99))
		}
		fmt.Fprintln(a.out)
		if err := t.write(); err != nil {
			return err
		}
	}
	if c := r.Running; c != nil {
		fmt.Fprintf(a.out, "\n%d running tasks: %.1f KB each, %.1f %% of a processor over %.0f s\n",
			c.Tasks, float64(c.BytesPerTask)/1000, c.CPUPercent, c.Observed)
	}
	if s := r.Suspended; s != nil {
		fmt.Fprintf(a.out, "\n%d suspended tasks, made in %s (%s): ready %s after opening, %s of memory more;\n"+
			"  one start p50 %s (empty file %s, ratio %.2f), p99 %s; one resume p50 %s, p99 %s\n",
			s.Tasks, s.Filled.Round(time.Millisecond), bytesText(s.FileBytes), ms(s.Open), bytesText(s.Bytes),
			ms(s.Start.P50), ms(s.StartEmpty.P50), s.StartChange, ms(s.Start.P99), ms(s.Resume.P50), ms(s.Resume.P99))
	}
	if o := r.Orphans; o != nil {
		fmt.Fprintf(a.out, "\n%d orphans: %d entered again %s after opening\n", o.Tasks, o.Entered, ms(o.Took))
	}
	if s := r.Steer; s != nil {
		fmt.Fprintf(a.out, "\n%d steers of %d tasks, %s a second: seen by the handler p50 %s, p99 %s; accepted p50 %s, p99 %s\n",
			s.Steers, s.Tasks, rate(s.Rate), ms(s.Seen.P50), ms(s.Seen.P99), ms(s.Start.P50), ms(s.Start.P99))
	}
	if t := r.Turns; t != nil {
		fmt.Fprintf(a.out, "\n%d turns of one task: the first p50 %s, p99 %s; the last p50 %s, p99 %s, ratio %.2f; %d kept in a file of %s\n",
			t.Turns, ms(t.First.P50), ms(t.First.P99), ms(t.Last.P50), ms(t.Last.P99), t.Change, t.Kept, bytesText(t.FileBytes))
	}
	if e := r.Events; e != nil {
		fmt.Fprintln(a.out)
		for _, m := range e.Emitted {
			fmt.Fprintf(a.out, "tasks that emit at once: %d; durable events a second: %s; %.1f µs of a processor each\n", m.Tasks, rate(m.Rate), float64(m.CPU.Nanoseconds())/1000)
		}
		fmt.Fprintf(a.out, "1 task emits %d events a second: seen by a reader p50 %s, p99 %s\n", e.PerSecond, ms(e.Read.P50), ms(e.Read.P99))
		s := e.Streamed
		fmt.Fprintf(a.out, "%d readers over HTTP of one task that emits %d events a second: %d had all %d of them; %s deliveries a second,\n"+
			"  p50 %s, p99 %s after Emit; %.1f KB each\n", s.Readers, s.PerSecond, s.Complete, s.Events, rate(s.Rate),
			ms(s.Late.P50), ms(s.Late.P99), float64(s.BytesPerReader)/1000)
	}
	if len(r.Workers) > 0 {
		t := a.newTable("PROCESSES", "CALLERS", "CYCLES/S", "P99")
		for _, w := range r.Workers {
			t.add(strconv.Itoa(w.Processes), strconv.Itoa(w.Callers), rate(w.Cycles), ms(w.P99))
		}
		fmt.Fprintln(a.out)
		if err := t.write(); err != nil {
			return err
		}
	}
	for _, c := range r.Across {
		how := "by polling alone"
		if c.Notified {
			how = "with notifications"
		}
		fmt.Fprintf(a.out, "\nfrom one worker to another %s, %d times: a steer p50 %s, p99 %s; a result p50 %s, p99 %s\n",
			how, c.Times, ms(c.Steer.P50), ms(c.Steer.P99), ms(c.Result.P50), ms(c.Result.P99))
	}
	return nil
}

func rate(perSecond float64) string { return strconv.Itoa(int(perSecond)) }

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1000) }
