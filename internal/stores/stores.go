// Package stores opens a store by what --db says: the URL of a Postgres database, or the path of a SQLite file.
package stores

import (
	"context"
	"log/slog"

	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/pgstore"
	"github.com/perdure/perdure/store/sqlitestore"
)

// Options say how a store is opened. The zero value, and nil, open and make where it is missing what db names.
type Options struct {
	Existing bool // what is not there is not made: the tables of a Postgres database

	// Of SQLite files only.
	ReadOnly       bool
	AllowNetworkFS bool
	Logger         *slog.Logger
}

// Open opens what db names.
func Open(ctx context.Context, db string, opts *Options) (store.Store, error) {
	if opts == nil {
		opts = &Options{}
	}
	if IsPostgres(db) {
		return opened(pgstore.Open(ctx, db, &pgstore.Options{NoMigrate: opts.Existing}))
	}
	return opened(sqlitestore.Open(ctx, db, &sqlitestore.Options{ReadOnly: opts.ReadOnly, AllowNetworkFS: opts.AllowNetworkFS, Logger: opts.Logger}))
}

// opened keeps a nil store from becoming an interface that is not nil.
func opened[S store.Store](st S, err error) (store.Store, error) {
	if err != nil {
		return nil, Redacted(err)
	}
	return st, nil
}
