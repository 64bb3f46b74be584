package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure"
)

func (a *app) cancelCommand() *cobra.Command {
	var opts perdure.CancelOptions
	c := &cobra.Command{
		Use: "cancel ID", Short: "Ask a task to stop", Args: cobra.ExactArgs(1),
		Long: `Cancel asks the task's current turn to stop, and ends what is queued. The handler decides when: it may
finish what it is at. What is not being run ends at once. The request survives a crash.

It prints the task's status; nothing changes on a task that has ended.`,
		Example: `  perdure cancel nightly --reason "not needed any more"
  perdure cancel conv-1 --input-id 0190a1 --reason typo`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.signal(c.Context(), writes, args[0], func(ctx context.Context, s *session) (perdure.Status, error) {
				return s.Cancel(ctx, args[0], &opts)
			})
		},
	}
	c.Flags().StringVar(&opts.Reason, "reason", "", "told to the handler, and kept")
	c.Flags().Int64Var(&opts.Turn, "turn", 0, "only the turn of this `NUMBER`")
	c.Flags().StringVar(&opts.InputID, "input-id", "", "only the turn of the input with this `ID`")
	c.MarkFlagsMutuallyExclusive("turn", "input-id")
	return a.reach(c)
}

func (a *app) terminateCommand() *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use: "terminate ID", Short: "End a task by force", Args: cobra.ExactArgs(1),
		Long: `Terminate ends a task at once: whatever its handler still does is discarded. It prints the task's
status; nothing changes on a task that has ended.`,
		Example: `  perdure terminate nightly --reason "stuck"`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.signal(c.Context(), writes, args[0], func(ctx context.Context, s *session) (perdure.Status, error) {
				return s.Terminate(ctx, args[0], &perdure.TerminateOptions{Reason: reason})
			})
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "kept with the task")
	return a.reach(c)
}

func (a *app) resumeCommand() *cobra.Command {
	return a.reach(&cobra.Command{
		Use: "resume ID", Short: "Give a parked task another chance", Args: cobra.ExactArgs(1),
		Long: `Resume takes a task out of quarantine: its turn is run again, with what it had saved. A task is parked
when every process that ran it died, or when its input does not decode ("perdure get" tells the reason).`,
		Example: "  perdure ls --status parked\n  perdure resume nightly",
		RunE: func(c *cobra.Command, args []string) error {
			return a.signal(c.Context(), needServer, args[0], func(ctx context.Context, s *session) (perdure.Status, error) {
				return s.Resume(ctx, args[0], nil)
			})
		},
	})
}

// signal does something to a task and prints its status afterwards.
func (a *app) signal(ctx context.Context, mode access, id string, do func(context.Context, *session) (perdure.Status, error)) error {
	return a.with(ctx, mode, func(ctx context.Context, s *session) error {
		status, err := do(ctx, s)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(a.out, "%s %s\n", id, status)
		return err
	})
}

func (a *app) rmCommand() *cobra.Command {
	return a.reach(&cobra.Command{
		Use: "rm ID...", Aliases: []string{"delete"}, Short: "Delete tasks, with their turns and outputs", Args: cobra.MinimumNArgs(1),
		Long: `Rm deletes tasks with all that is kept of them. What runs is ended as by terminate. A task that is not
there is no error: it is deleted.`,
		Example: "  perdure rm order-7\n  perdure ls --status failed --limit 0 --json | jq -r '.[].task_id' | xargs perdure rm",
		RunE: func(c *cobra.Command, args []string) error {
			return a.with(c.Context(), needServer, func(ctx context.Context, s *session) error {
				for _, id := range args {
					if err := s.Delete(ctx, id, nil); err != nil {
						return err
					}
				}
				return nil
			})
		},
	})
}
