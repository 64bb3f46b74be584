//go:build linux

package sqlitestore

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/perdure/perdure/store"
)

func TestAProcessMayReadItsOwnFile(t *testing.T) {
	path := newPlace(t)
	s := openAt(t, path, nil)
	mustOffer(t, s, "one")
	for _, suffix := range []string{"", suffixLog, suffixShared} {
		if _, err := os.ReadFile(path + suffix); err != nil { // SQLite's locks are gone with its end
			t.Fatal(err)
		}
		visit(t, path)
		mustOffer(t, s, "after a visit"+suffix)
	}
	openAt(t, path, &Options{ReadOnly: true}).Close() // it has the same anchor
	visit(t, path)
	mustOffer(t, s, "at last")
}

func TestOneEngineForAllNamesOfAFile(t *testing.T) {
	path := newPlace(t)
	s := openAt(t, path, nil)
	unlock, err := s.Lock()
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	other := path + ".other" // by another name, as of a mount of the file alone: the lock beside it is another one
	if err := os.Link(path, other); err != nil {
		t.Fatal(err)
	}
	id, _, err := identifyFile(path)
	if err != nil {
		t.Fatal(err)
	}
	mounted := &anchor{id: id} // what another process would have
	if mounted.db, err = os.Open(other); err != nil {
		t.Fatal(err)
	}
	defer mounted.closeFiles()
	if _, err := mounted.lock(); !errors.Is(err, store.ErrStoreInUse) {
		t.Errorf("O5: the lock by another name: %v, want ErrStoreInUse", err)
	}
}

func TestTheLockBesideKeepsProgramsOfBeforeOut(t *testing.T) {
	path := newPlace(t)
	s := openAt(t, path, nil)
	older, err := lockBeside(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Lock(); !errors.Is(err, store.ErrStoreInUse) {
		t.Errorf("O5: Lock beside an older program: %v, want ErrStoreInUse", err)
	}
	older.Close()
	unlock, err := s.Lock()
	if err != nil {
		t.Fatal(err)
	}
	if older, err = lockBeside(path); !errors.Is(err, store.ErrStoreInUse) {
		t.Errorf("O5: an older program beside Lock: %v, want ErrStoreInUse", err)
	}
	older.Close()
	if err := os.Remove(path + ".lock"); err != nil {
		t.Fatal(err)
	}
	if _, err := openAt(t, path, nil).Lock(); !errors.Is(err, store.ErrStoreInUse) {
		t.Errorf("O5: Lock when the file beside was removed: %v, want ErrStoreInUse", err)
	}
	unlock()
}

// TestTheFilesAreInUseWhateverTheProcessCloses: who finds nobody's lock on the database removes the log; who finds none on
// the shared memory begins it anew, under the feet of those who have it mapped.
func TestTheFilesAreInUseWhateverTheProcessCloses(t *testing.T) {
	path := newPlace(t)
	mustOffer(t, openAt(t, path, nil), "one")
	for suffix, where := range map[string]unix.Flock_t{"": sharedRange, suffixShared: deadManRange} {
		if _, err := os.ReadFile(path + suffix); err != nil { // SQLite's locks are gone with its end
			t.Fatal(err)
		}
		f, err := os.Open(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		where.Type = unix.F_WRLCK
		if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &where); err != nil || where.Type != unix.F_RDLCK {
			t.Errorf("nothing says that store.db%s is in use: %v", suffix, err)
		}
	}
}
