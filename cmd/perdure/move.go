package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/internal/move"
	"github.com/perdure/perdure/internal/stores"
	"github.com/perdure/perdure/store"
)

const exportLong = `Export writes all tasks of a SQLite file or Postgres database to the output, as JSON lines: their turns,
inputs, outputs, metadata, events and labels. Import reads them into another.

Each task is written as it was at one moment. While servers run tasks go on meanwhile, so stop them before
you move: then nothing is missing. Payloads that a codec has encrypted stay so.`

const importLong = `Import reads what "perdure export" has written, from a file or the standard input, into a SQLite file or
Postgres database, which it makes if it is missing. Tasks keep their IDs, turns and event numbers; those
that were running are taken up by the first server that starts.

No server may run on it meanwhile. An import that was broken off can be begun again. A task that is there
with the same ID and is not the one of the file ends it.`

func (a *app) exportCommand() *cobra.Command {
	var db string
	c := &cobra.Command{
		Use: "export", Short: "Write all tasks as JSON lines", Long: exportLong, Args: cobra.NoArgs,
		Example: "  perdure export --db perdure.db > tasks.jsonl\n  perdure export --db perdure.db | perdure import --db postgres://localhost/perdure",
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := interruptible(c.Context())
			defer stop()
			return a.export(ctx, db)
		},
	}
	c.Flags().StringVar(&db, "db", "", "the SQLite file or the URL of the Postgres `DATABASE`")
	return c
}

func (a *app) importCommand() *cobra.Command {
	var db string
	c := &cobra.Command{
		Use: "import [FILE]", Short: "Read tasks that export has written", Long: importLong, Args: cobra.MaximumNArgs(1),
		Example: "  perdure import --db postgres://localhost/perdure tasks.jsonl",
		RunE: func(c *cobra.Command, args []string) error {
			ctx, stop := interruptible(c.Context())
			defer stop()
			in := a.in
			if len(args) > 0 && args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return usage("%w", err)
				}
				defer f.Close()
				in = f
			}
			return a.importTasks(ctx, db, in)
		},
	}
	c.Flags().StringVar(&db, "db", "", "the SQLite file or the URL of the Postgres `DATABASE`")
	return c
}

func (a *app) export(ctx context.Context, db string) error {
	if db == "" {
		return usage("--db is missing: the file or database to export")
	}
	if _, err := os.Stat(db); err != nil && !stores.IsPostgres(db) {
		return fmt.Errorf("open store: %w", err)
	}
	st, err := stores.Open(ctx, db, a.beside(reads))
	if err != nil {
		return err
	}
	if n, err := alive(ctx, st); err == nil && n > 0 {
		a.say("servers run on %s (%d): what they do from now on is not in the export", stores.Name(db), n)
	}
	n, err := move.Export(ctx, st, a.out)
	if err == nil {
		a.say("exported %d tasks", n)
	}
	return errors.Join(err, st.Close())
}

func (a *app) importTasks(ctx context.Context, db string, in io.Reader) error {
	if db == "" {
		return usage("--db is missing: the file or database to import into")
	}
	st, err := stores.Open(ctx, db, &stores.Options{AllowNetworkFS: a.networkAllowed()})
	if err != nil {
		return err
	}
	return errors.Join(a.importInto(ctx, st, stores.Name(db), in), st.Close())
}

func (a *app) importInto(ctx context.Context, st store.Store, name string, in io.Reader) error {
	switch n, err := alive(ctx, st); {
	case err != nil:
		return err
	case n > 0:
		return fmt.Errorf("servers run on %s, or have not lapsed yet (%d): stop them first", name, n)
	}
	if x, ok := st.(store.Exclusive); ok { // none starts meanwhile
		unlock, err := x.Lock()
		if err != nil {
			return err
		}
		defer unlock()
	}
	n, err := move.Import(ctx, st, in)
	if err != nil {
		return fmt.Errorf("after %d tasks: %w", n, err)
	}
	a.say("imported %d tasks", n)
	return nil
}

// alive counts the workers that are alive. A file's lock tells more than its rows.
func alive(ctx context.Context, st store.Store) (int, error) {
	if x, ok := st.(store.Exclusive); ok {
		unlock, err := x.Lock()
		if err == nil {
			unlock()
			return 0, nil
		}
	}
	workers, err := st.Workers(ctx)
	return len(workers), err
}
