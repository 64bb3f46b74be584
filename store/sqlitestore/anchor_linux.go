package sqlitestore

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/perdure/perdure/store"
)

// anchor keeps a database from what SQLite's own locks do not keep it from. They are POSIX locks: when a process closes
// any descriptor of a file, all that it has on the file are gone, also those that SQLite took through other
// descriptors. Locks of an open file description are not. The ones here say to other processes what SQLite's say: that
// the database is in use, so that nobody takes itself for the last and removes the log, or takes itself for the first
// and cuts off the shared memory.
//
// Closing its descriptors would drop SQLite's locks as well, so all stores of a file in this process have one anchor,
// which is closed after the last one's connections.
type anchor struct {
	id     fileID
	stores int
	engine bool // an engine has the lock
	db     *os.File
	log    *os.File // has no locks
	shared *os.File // nil when there is none
	last   atomic.Pointer[written]
	print  atomic.Pointer[imprint]
}

// anchors are the anchors of this process. They are the process', like the locks.
var anchors = struct {
	sync.Mutex
	of map[fileID]*anchor
}{of: map[fileID]*anchor{}}

// The ranges that SQLite locks: shared by all who have the database open, and by all who have the shared memory open.
var (
	sharedRange  = unix.Flock_t{Start: 0x40000000 + 2, Len: 510}
	deadManRange = unix.Flock_t{Start: 128, Len: 1}
)

// takeAnchor takes the anchor of a database whose names are watched.
func takeAnchor(n *names) (*anchor, error) {
	anchors.Lock()
	defer anchors.Unlock()
	a := anchors.of[n.files[0].id]
	if a == nil {
		a = &anchor{id: n.files[0].id}
		if err := a.open(n); err != nil {
			return nil, errors.Join(err, a.closeFiles())
		}
		anchors.of[a.id] = a
	} else if err := a.setLocks(unix.F_RDLCK); err != nil { // another store may be leaving
		return nil, err
	}
	a.stores++
	return a, nil
}

func (a *anchor) open(n *names) (err error) {
	name := n.files[0].name
	if a.db, err = os.Open(name); err != nil {
		return err
	}
	if a.log, err = os.Open(name + suffixLog); err != nil {
		return err
	}
	if n.has(suffixShared) {
		if a.shared, err = os.Open(name + suffixShared); err != nil {
			return err
		}
	}
	return a.setLocks(unix.F_RDLCK)
}

// setLocks takes the shared locks, or gives them back.
func (a *anchor) setLocks(kind int16) error {
	err := setLock(a.db, kind, sharedRange)
	if err != nil || a.shared == nil {
		return err
	}
	return setLock(a.shared, kind, deadManRange)
}

func setLock(f *os.File, kind int16, where unix.Flock_t) error {
	where.Type = kind
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &where); err != nil && !unsupported(err) {
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return nil
}

// unsupported reports whether there are no such locks here: then the store does without, as on other systems.
func unsupported(err error) bool {
	switch err {
	case unix.EINVAL, unix.ENOSYS, unix.EOPNOTSUPP, unix.ENOLCK:
		return true
	}
	return false
}

// lock takes the engine's lock, which is on the file itself: whatever name an engine knows it by, there is one. It does
// not meet SQLite's locks, which are of another kind.
func (a *anchor) lock() (unlock func(), err error) {
	if a == nil {
		return func() {}, nil
	}
	anchors.Lock()
	defer anchors.Unlock()
	if a.engine {
		return nil, store.ErrStoreInUse
	}
	switch err = unix.Flock(int(a.db.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
	case err == unix.EWOULDBLOCK:
		return nil, store.ErrStoreInUse
	case err != nil && !unsupported(err):
		return nil, err
	}
	a.engine = true
	return a.unlock, nil
}

func (a *anchor) unlock() {
	anchors.Lock()
	defer anchors.Unlock()
	a.engine = false
	unix.Flock(int(a.db.Fd()), unix.LOCK_UN)
}

// leave lets SQLite close a database as its last user, unless this process has other stores on it.
func (a *anchor) leave() error {
	if a == nil {
		return nil
	}
	anchors.Lock()
	defer anchors.Unlock()
	if a.stores > 1 {
		return nil
	}
	return a.setLocks(unix.F_UNLCK)
}

// close gives the anchor back when the store's connections are closed.
func (a *anchor) close() error {
	if a == nil {
		return nil
	}
	anchors.Lock()
	defer anchors.Unlock()
	if a.stores--; a.stores > 0 {
		return nil
	}
	delete(anchors.of, a.id)
	return a.closeFiles()
}

func (a *anchor) closeFiles() error {
	var errs []error
	for _, f := range []*os.File{a.db, a.log, a.shared} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}
