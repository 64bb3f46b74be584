package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/internal/stores"
	"github.com/perdure/perdure/store/pgstore"
)

const migrateLong = `Migrate makes the tables of a Postgres database, or brings them to this program's version, in one
transaction. "perdure serve" does so by itself unless it is told not to; migrate is for database users
that may not, and for deployments in which one step does it for all.

Programs of the version before go on working while programs of the new version are rolled out.

With --print it writes the SQL to the output and changes nothing: what the database lacks, or all of it
without --db.`

func (a *app) migrateCommand() *cobra.Command {
	var db string
	var onlyPrint bool
	c := &cobra.Command{
		Use: "migrate", Short: "Make or migrate the tables of a Postgres database", Long: migrateLong, Args: cobra.NoArgs,
		Example: "  perdure migrate --db postgres://owner@localhost/perdure\n  perdure migrate --print | psql -v ON_ERROR_STOP=1 perdure",
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := interruptible(c.Context())
			defer stop()
			switch {
			case db != "" && !stores.IsPostgres(db):
				return usage("--db %s: it must be the URL of a Postgres database; a SQLite file is migrated by who opens it", stores.Name(db))
			case onlyPrint:
				return a.printMigration(ctx, db)
			case db == "":
				return usage("--db is missing: the URL of a Postgres database")
			}
			return stores.Redacted(pgstore.Migrate(ctx, db, ""))
		},
	}
	c.Flags().StringVar(&db, "db", "", "the URL of the Postgres `DATABASE`")
	c.Flags().BoolVar(&onlyPrint, "print", false, "print the SQL instead")
	return c
}

// printMigration prints what a database lacks, or what an empty one does.
func (a *app) printMigration(ctx context.Context, db string) error {
	script, err := pgstore.Script("", 0)
	if db != "" {
		script, err = pgstore.Missing(ctx, db, "")
	}
	if err != nil {
		return stores.Redacted(err)
	}
	_, err = fmt.Fprint(a.out, script)
	return err
}
