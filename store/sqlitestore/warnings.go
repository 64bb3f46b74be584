package sqlitestore

import (
	"context"
	"fmt"
)

// Warnings tells what puts work at risk that is acknowledged: the file system of the file, more than one name of it,
// and UnsafeNoSync. A file that has lost its name is an error.
func (s *Store) Warnings(context.Context) ([]string, error) {
	if err := s.names.look(); err != nil {
		return nil, s.explain(err)
	}
	var found []string
	switch name, on := groundOf(s.path, s.opts.filesystem); on {
	case network:
		found = append(found, fmt.Sprintf("the file is on a network file system (%s), as was forced: no other machine may open it, and a break of the network may damage it", name))
	case unsure:
		found = append(found, fmt.Sprintf("the file is on a file system (%s) that may be another machine's: only this machine may open the file, and whether a sync reaches the disk is up to that", name))
	}
	if s.names.linked.Load() {
		found = append(found, "the file has more than one name (hard links): whoever opens it by another one misses what is in its log, and may damage it")
	}
	if s.opts.UnsafeNoSync {
		found = append(found, "UnsafeNoSync: a crash of the machine loses what was acknowledged last")
	}
	return found, nil
}
