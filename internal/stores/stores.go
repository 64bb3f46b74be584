// Package stores opens a store by what --db says: the URL of a Postgres database, or the path of a SQLite file.
package stores

import (
	"context"

	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/pgstore"
	"github.com/perdure/perdure/store/sqlitestore"
)

// Open opens, and makes where it is missing, what db names.
func Open(ctx context.Context, db string) (store.Store, error) {
	if IsPostgres(db) {
		return opened(pgstore.Open(ctx, db, nil))
	}
	return opened(sqlitestore.Open(ctx, db, nil))
}

// OpenExisting opens what is there; a SQLite file for reading only, if that is all that is wanted.
func OpenExisting(ctx context.Context, db string, readOnly bool) (store.Store, error) {
	if IsPostgres(db) {
		return opened(pgstore.Open(ctx, db, &pgstore.Options{NoMigrate: true}))
	}
	return opened(sqlitestore.Open(ctx, db, &sqlitestore.Options{ReadOnly: readOnly}))
}

// opened keeps a nil store from becoming an interface that is not nil.
func opened[S store.Store](st S, err error) (store.Store, error) {
	if err != nil {
		return nil, Redacted(err)
	}
	return st, nil
}
