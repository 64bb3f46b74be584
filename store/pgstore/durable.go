package pgstore

import (
	"context"
	"fmt"
)

const sqlSettings = `SELECT current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit')`

// Warnings tells what of the server's settings puts at risk what operations have been acknowledged for; nothing when all
// is well. ctx bounds it.
func (s *Store) Warnings(ctx context.Context) ([]string, error) {
	var fsync, fullPages, commit string
	if err := s.pool.QueryRow(ctx, sqlSettings).Scan(&fsync, &fullPages, &commit); err != nil {
		return nil, s.explain(fmt.Errorf("read settings: %w", err))
	}
	var found []string
	if fsync == "off" {
		found = append(found, "fsync is off: a crash of the server's machine loses what was acknowledged, and may destroy the database")
	}
	if fullPages == "off" {
		found = append(found, "full_page_writes is off: a crash of the server's machine may destroy the database, unless its disk writes pages as a whole")
	}
	if s.opts.UnsafeNoSync && commit != "on" && commit != "remote_apply" {
		found = append(found, fmt.Sprintf("synchronous_commit is %s, and UnsafeNoSync leaves it: a crash of the server loses what was acknowledged last", commit))
	}
	return found, nil
}
