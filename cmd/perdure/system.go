package main

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure"
)

func (a *app) workersCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "workers", Short: "List the workers that are alive", Args: cobra.NoArgs,
		Long:    "Workers lists the engines that are alive on the store, and when each last proved it.",
		Example: "  perdure workers\n  perdure workers --db perdure.db --json",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.with(c.Context(), reads, func(ctx context.Context, s *session) error { return a.workers(ctx, s, asJSON) })
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON array")
	return a.reach(c)
}

func (a *app) workers(ctx context.Context, s *session, asJSON bool) error {
	workers, err := s.workers(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		return a.printJSON(append([]perdure.WorkerInfo{}, workers...))
	}
	t := a.newTable("WORKER", "HOST", "PID", "RUNNING", "AGE", "BEAT", "FUNCS")
	for _, w := range workers {
		t.add(w.ID, w.Host, strconv.Itoa(w.PID), strconv.Itoa(w.Running), age(w.StartedAt), age(w.BeatAt),
			strings.Join(w.Funcs, ", "))
	}
	return t.write()
}

func (a *app) funcsCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "funcs", Short: "List the funcs that can be started", Args: cobra.NoArgs,
		Long: `Funcs lists the funcs that the server runs: whether they take many turns, can be steered while a turn
runs, or keep nothing after their end. With --db it lists those of the workers that are alive.`,
		Example: "  perdure funcs",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.with(c.Context(), reads, func(ctx context.Context, s *session) error { return a.funcs(ctx, s, asJSON) })
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON array")
	return a.reach(c)
}

func (a *app) funcs(ctx context.Context, s *session, asJSON bool) error {
	funcs, err := s.funcs(ctx)
	if err != nil {
		return err
	}
	slices.SortFunc(funcs, func(x, y perdure.FuncInfo) int { return cmp.Compare(x.Name, y.Name) })
	if asJSON {
		return a.printJSON(append([]perdure.FuncInfo{}, funcs...))
	}
	t := a.newTable("FUNC", "RUNNING", "KIND")
	for _, f := range funcs {
		t.add(f.Name, strconv.Itoa(f.Running), kind(&f))
	}
	return t.write()
}

func kind(f *perdure.FuncInfo) string {
	var kinds []string
	for _, k := range []struct {
		is   bool
		name string
	}{{f.MultiTurn, "many turns"}, {f.Steerable, "steerable"}, {f.Ephemeral, "ephemeral"}} {
		if k.is {
			kinds = append(kinds, k.name)
		}
	}
	return or(strings.Join(kinds, ", "), "-")
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		Long: "Version prints the version of this program.", Example: "  perdure version",
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(a.out, "perdure %s %s %s/%s\n", perdure.Version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}
