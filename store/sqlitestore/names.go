package sqlitestore

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync/atomic"
	"syscall"

	"github.com/perdure/perdure/store"
)

// What SQLite puts beside a database. All three files are one store.
const (
	suffixLog    = "-wal"
	suffixShared = "-shm"
)

// names watches over the names of the files that a store has open. A file that has lost its name is found by nobody who
// opens the store next: what is committed to it would be acknowledged, and gone.
type names struct {
	files  []named
	anchor *anchor // compares what is in the files; nil where that is not done
	logger *slog.Logger
	lost   atomic.Pointer[lostError]
	linked atomic.Bool // the database has had more than one name when it was last looked at
}

// named is a file by one of its names.
type named struct {
	name   string
	id     fileID
	suffix string
}

// stat is what is known of a file without opening it. Size and time are known where anchors compare them.
type stat struct {
	links uint64
	size  int64
	at    int64 // when it was written to last, in nanoseconds
}

// fileID tells files apart for as long as they are open.
type fileID struct{ dev, ino uint64 }

// lostError says that a file has lost its name. That is for good: whoever has opened what has the name now, or the
// file where it is now, may have made it different from what this process knows of it.
type lostError struct{ name, now string }

func (e *lostError) Error() string {
	return fmt.Sprintf("%s has been removed, moved or replaced, cut or written over, while it was open (%s): nothing is acknowledged any more; "+
		"put the right file with its %s under the name, or a backup without one, then restart the process", e.name, e.now, suffixLog)
}

// Unwrap says of which kind it is.
func (e *lostError) Unwrap() error { return store.ErrLost }

// watchNames begins to watch a database that SQLite has opened, by the name that was given and by the one without
// symbolic links; both are absolute.
func watchNames(given, path string, logger *slog.Logger) (*names, error) {
	n := &names{logger: logger}
	id, _, err := identifyFile(path)
	if err != nil {
		return nil, err
	}
	n.files = append(n.files, named{path, id, ""})
	if given != path {
		n.files = append(n.files, named{given, id, ""})
	}
	for _, suffix := range []string{suffixLog, suffixShared} {
		id, _, err := identifyFile(path + suffix)
		if errors.Is(err, fs.ErrNotExist) { // of a copy that is open for reading only
			continue
		}
		if err != nil {
			return nil, err
		}
		n.files = append(n.files, named{path + suffix, id, suffix})
	}
	return n, nil
}

// has reports whether the file with a suffix is watched.
func (n *names) has(suffix string) bool {
	for _, f := range n.files {
		if f.suffix == suffix {
			return true
		}
	}
	return false
}

// gone returns the error of a file that has been found to have lost its name; nil otherwise.
func (n *names) gone() error {
	if lost := n.lost.Load(); lost != nil {
		return lost
	}
	return nil
}

// look compares what is open with what has the names, and what is in it with what SQLite has written. It returns an error
// if they differ, now or ever before, or cannot be told. Any goroutine may call it.
func (n *names) look() error {
	if err := n.gone(); err != nil {
		return err
	}
	var database, log stat
	for i, f := range n.files {
		id, is, err := identifyFile(f.name)
		switch {
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR):
			return n.lose(&lostError{f.name, "there is none"})
		case err != nil:
			return &store.TroubleError{Err: fmt.Errorf("look at what is acknowledged: %w", err)}
		case id != f.id:
			return n.lose(&lostError{f.name, "there is another one"})
		}
		switch {
		case i == 0:
			n.count(is.links)
			database = is
		case f.suffix == suffixLog:
			log = is
		}
	}
	found, err := n.anchor.intact(database, log)
	switch {
	case err != nil:
		return &store.TroubleError{Err: fmt.Errorf("look at what is acknowledged: %w", err)}
	case found != nil:
		return n.lose(&lostError{n.files[0].name + found.suffix, found.what})
	}
	return nil
}

// lose notes that a file has lost its name, and tells the operator once.
func (n *names) lose(lost *lostError) error {
	if n.lost.CompareAndSwap(nil, lost) {
		n.logger.Error("the store's file is lost: "+lost.Error(), "file", n.files[0].name)
	}
	return n.gone()
}

// count looks at the number of the database's names. More than one is told of when it begins: tools that make backups
// link files for a while.
func (n *names) count(links uint64) {
	if linked := links > 1; n.linked.Swap(linked) != linked && linked {
		n.logger.Warn("the store's file has more than one name (hard links): whoever opens it by another one misses what is in its log, and may damage it",
			"file", n.files[0].name, "names", links)
	}
}
