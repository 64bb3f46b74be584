package bench

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/perdure/perdure/internal/stores"
)

// place returns where a measurement keeps its tasks, as [stores.Open] reads it: a file of its own, or a schema of its
// own in the database of Options.DB.
func (o Options) place(name string) string {
	if o.DB == "" {
		return filepath.Join(o.Dir, "bench-"+name+".db")
	}
	return withSchema(o.DB, fmt.Sprintf("perdure_bench_%d_%s", os.Getpid(), name))
}

// withSchema adds a schema to the URL of a database.
func withSchema(db, schema string) string {
	u, err := url.Parse(db)
	if err != nil {
		return db // who opens it says so
	}
	q := u.Query()
	q.Set("schema", schema)
	u.RawQuery = q.Encode()
	return u.String()
}

// schemaOf takes a place in a database apart.
func schemaOf(place string) (db, schema string) {
	u, err := url.Parse(place)
	if err != nil {
		return place, ""
	}
	q := u.Query()
	schema = q.Get("schema")
	q.Del("schema")
	u.RawQuery = q.Encode()
	return u.String(), schema
}

// remove removes a place.
func remove(place string) {
	if !stores.IsPostgres(place) {
		for _, suffix := range []string{"", "-wal", "-shm", ".lock"} {
			os.Remove(place + suffix)
		}
		return
	}
	inDatabase(place, func(ctx context.Context, conn *pgx.Conn, schema string) {
		conn.Exec(ctx, `DROP SCHEMA IF EXISTS `+pgx.Identifier{schema}.Sanitize()+` CASCADE`)
	})
}

// size returns how many bytes a place has, 0 if that is not known.
func size(place string) (bytes int64) {
	if !stores.IsPostgres(place) {
		if info, err := os.Stat(place); err == nil {
			bytes = info.Size()
		}
		return bytes
	}
	inDatabase(place, func(ctx context.Context, conn *pgx.Conn, schema string) {
		conn.QueryRow(ctx, `SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c
			JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relkind = 'r'`, schema).Scan(&bytes)
	})
	return bytes
}

// tidying bounds what is done before and after a measurement.
const tidying = time.Minute

func inDatabase(place string, do func(context.Context, *pgx.Conn, string)) {
	ctx, cancel := context.WithTimeout(context.Background(), tidying)
	defer cancel()
	db, schema := schemaOf(place)
	conn, err := pgx.Connect(ctx, db)
	if err != nil {
		return
	}
	defer conn.Close(ctx)
	do(ctx, conn, schema)
}
