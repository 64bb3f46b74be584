package pgstore

import (
	"cmp"
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// oldestWith is the oldest schema version that this program works with. A program that finds an older one migrates
// it; the programs of the version before go on working meanwhile, because a migration only adds what they do not
// need to know (the rule of rolling upgrades: a version of the schema works with the programs of that before).
const oldestWith = 1

// migrations returns the steps from one schema version to the next; the first makes version 1.
func migrations() ([]string, error) {
	names, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	var steps []string
	for _, name := range names {
		text, err := migrationFiles.ReadFile(name)
		if err != nil {
			return nil, err
		}
		steps = append(steps, string(text))
	}
	return steps, nil
}

// sqlVersions is made before any version: migrations take turns at its only row.
const sqlVersions = `CREATE SCHEMA IF NOT EXISTS perdure_schema;
CREATE TABLE IF NOT EXISTS perdure.schema_version (
	only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
	version    bigint NOT NULL,
	works_with bigint NOT NULL -- the oldest version whose programs work with this one
);
INSERT INTO perdure.schema_version (version, works_with) VALUES (0, 0) ON CONFLICT DO NOTHING;
`

// Script returns the SQL that brings an empty database, or one of an older version, to this program's schema version:
// what Open and Migrate do, for those who apply such things by hand. from is the version that is there, 0 if none.
func Script(schema string, from int) (string, error) {
	steps, err := migrations()
	if err != nil {
		return "", err
	}
	if from < 0 || from > len(steps) {
		return "", fmt.Errorf("schema version %d is not known: this program's is %d", from, len(steps))
	}
	x := texts{schema: schema}
	if schema == "" {
		x.schema = DefaultSchema
	}
	var b strings.Builder
	b.WriteString("BEGIN;\n")
	b.WriteString(x.versions())
	for i, step := range steps[from:] {
		fmt.Fprintf(&b, "\n-- version %d\n%s", from+i+1, x.text(step))
	}
	fmt.Fprintf(&b, "\n%s;\nCOMMIT;\n", x.setVersion(len(steps)))
	return b.String(), nil
}

func (x *texts) versions() string {
	return x.text(strings.ReplaceAll(sqlVersions, "perdure_schema", pgx.Identifier{x.schema}.Sanitize()))
}

func (x *texts) setVersion(n int) string {
	return x.text(fmt.Sprintf(`UPDATE perdure.schema_version SET version = %d, works_with = %d`, n, oldestWith))
}

// Migrate creates the tables in a schema (default: what the URL says with schema=NAME, else "perdure"), or brings them to this program's version, in one
// transaction. Programs that do so at the same time take turns. It is what Open does unless told not to.
func Migrate(ctx context.Context, url, schema string) error {
	x, conn, err := connect(ctx, url, schema)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	defer hangUp(conn)
	steps, err := migrations()
	if err != nil {
		return err
	}
	if err := x.migrate(ctx, conn, steps); err != nil {
		return fmt.Errorf("migrate schema %s: %w", x.schema, err)
	}
	return nil
}

// Missing returns what Migrate would do to a schema, as Script does; nothing when that is up to date.
func Missing(ctx context.Context, url, schema string) (string, error) {
	x, conn, err := connect(ctx, url, schema)
	if err != nil {
		return "", fmt.Errorf("migrate: %w", err)
	}
	defer hangUp(conn)
	steps, err := migrations()
	if err != nil {
		return "", err
	}
	v, err := x.version(ctx, conn)
	if err != nil || v.number == len(steps) {
		return "", err
	}
	return Script(x.schema, v.number)
}

// connect connects to migrate a schema.
func connect(ctx context.Context, url, schema string) (*texts, *pgx.Conn, error) {
	settings, err := pgxpool.ParseConfig(url) // takes out what it says of pools, which the server does not know
	if err != nil {
		return nil, nil, err
	}
	config := settings.ConnConfig
	x := &texts{schema: cmp.Or(schema, takeSchema(config), DefaultSchema)}
	guard(&config.Config)
	conn, err := pgx.ConnectConfig(ctx, config)
	return x, conn, err
}

// prepare makes sure that the tables are there and that this program can work with them.
func (s *Store) prepare(ctx context.Context) error {
	steps, err := migrations()
	if err != nil {
		return err
	}
	conn, err := s.writes.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	server, err := s.meet(ctx, conn.Conn())
	if err != nil {
		return err
	}
	if err := s.upToDate(ctx, conn.Conn(), steps); err != nil || server == "" {
		return err
	}
	return s.raiseSequences(ctx, conn.Conn())
}

// upToDate makes sure that the tables are of a version with which this program works.
func (s *Store) upToDate(ctx context.Context, conn *pgx.Conn, steps []string) error {
	v, err := s.texts.version(ctx, conn)
	switch {
	case err != nil:
		return err
	case v.number == len(steps):
		return nil
	case v.number > len(steps) && v.worksWith <= len(steps):
		return nil // a program of the next version is being rolled out
	case v.number > len(steps):
		return fmt.Errorf("its schema version %d is newer than %d, the newest that this program works with", v.number, len(steps))
	case s.opts.NoMigrate:
		return fmt.Errorf("its schema version is %d, this program's %d: apply what \"perdure migrate --print\" prints", v.number, len(steps))
	}
	return s.texts.migrate(ctx, conn, steps)
}

// schemaVersion is the version of the tables, and the oldest whose programs work with them.
type schemaVersion struct{ number, worksWith int }

const sqlVersion = `SELECT version, works_with FROM perdure.schema_version`

// Codes of errors that say that there is nothing yet.
const (
	pgerrNoTable  = "42P01"
	pgerrNoSchema = "3F000"
)

// version returns the version of the schema, 0 when there is none.
func (x *texts) version(ctx context.Context, conn *pgx.Conn) (v schemaVersion, err error) {
	err = conn.QueryRow(ctx, x.text(sqlVersion)).Scan(&v.number, &v.worksWith)
	if answer, ok := errors.AsType[*pgconn.PgError](err); ok && (answer.Code == pgerrNoTable || answer.Code == pgerrNoSchema) {
		return schemaVersion{}, nil
	}
	return v, err
}

// migrate brings the tables to the version that the steps lead to. While it waits for a transaction that has used a table,
// everybody else who wants to use that waits behind it: it gives up after a while, lets them pass, and tries again.
func (x *texts) migrate(ctx context.Context, conn *pgx.Conn, steps []string) error {
	err := pgx.BeginTxFunc(ctx, conn, migrating, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, migrateWait+"; "+x.versions())
		return err
	})
	if err != nil && !exists(err) {
		return err
	}
	err = x.apply(ctx, conn, steps)
	for range migrateTries {
		if !contended(err) {
			break
		}
		err = x.apply(ctx, conn, steps)
	}
	if tookWarning(conn.PgConn()) {
		err = errors.Join(err, errWarned)
	}
	return err
}

// migrateTries is how often a migration tries again, and migrateWait how long it waits for each lock.
const (
	migrateTries = 30
	migrateWait  = `SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = '1min'`
)

// migrating is how a migration's transaction begins, whatever the defaults are.
var migrating = pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}

// apply takes the steps that are missing, in one transaction. Programs that do so at the same time take turns at the row of
// the version.
func (x *texts) apply(ctx context.Context, conn *pgx.Conn, steps []string) error {
	return pgx.BeginTxFunc(ctx, conn, migrating, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, migrateWait); err != nil {
			return err
		}
		var v schemaVersion
		if err := tx.QueryRow(ctx, x.text(sqlVersion+` FOR UPDATE`)).Scan(&v.number, &v.worksWith); err != nil {
			return err
		}
		if v.number >= len(steps) {
			return nil
		}
		for i, step := range steps[v.number:] {
			if _, err := tx.Exec(ctx, x.text(step)); err != nil {
				return fmt.Errorf("schema version %d: %w", v.number+i+1, err)
			}
		}
		_, err := tx.Exec(ctx, x.setVersion(len(steps)))
		return err
	})
}

// exists reports whether somebody else has just made what was to be made: IF NOT EXISTS does not see that.
func exists(err error) bool {
	answer, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (answer.Code == pgerrUnique || answer.Code == "42P06" || answer.Code == "42P07")
}
