package sqlitestore

import (
	"context"

	"zombiezen.com/go/sqlite"
)

// View runs f with a connection that reads the file: to ask it something in SQL, or to make a copy with VACUUM INTO. A
// program must not look into its own file in another way, because SQLite's locks are gone when the program closes a
// descriptor of the file that is not SQLite's.
//
// The connection is one of Options.Readers, and f's alone until f returns; f must not keep it. What it has begun is
// rolled back. Its statements are interrupted when ctx ends. The tables are not a part of the API, and change with
// versions. The error is f's, or says that the store is closed or its file lost; then nothing that f has read counts.
func (s *Store) View(ctx context.Context, f func(*sqlite.Conn) error) error {
	_, err := borrow(ctx, s, func(c *conn) (struct{}, error) { return struct{}{}, f(c.db) })
	return err
}
