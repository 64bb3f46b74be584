//go:build linux

package sqlitestore

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestWhatAFileSystemLacksIsSaid(t *testing.T) {
	for want, r := range map[string]space{
		"":                      {bytes: 1 << 30},
		"reading only":          {readOnly: true},
		"disk is full":          {bytes: leastSpace - 1},
		"no more files (inodes": {bytes: 1 << 30, noFiles: true},
	} {
		if got := r.lacks(); !strings.Contains(got, want) || (got == "") != (want == "") {
			t.Errorf("%+v lacks %q, want %q", r, got, want)
		}
	}
}

// mounted returns a folder that is a file system of its own.
func mounted(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Skip("only root may mount: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestOpenSaysThatTheDiskIsFull(t *testing.T) {
	dir := mounted(t)
	path := filepath.Join(dir, "store.db")
	s := openAt(t, path, nil)
	mustOffer(t, s, "one")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	for _, p := range []string{path, filepath.Join(dir, "new.db")} {
		wantError(t, refusal(t, p, nil), "its disk is full")
	}
}

func TestOpenSaysThatTheFileSystemIsForReadingOnly(t *testing.T) {
	dir := mounted(t)
	path := filepath.Join(dir, "store.db")
	openAt(t, path, nil).Close()
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, filepath.Join(dir, "new.db")} {
		wantError(t, refusal(t, p, nil), "mounted for reading only")
	}
	wantError(t, refusal(t, path, &Options{ReadOnly: true}), "mounted for reading only")
}
