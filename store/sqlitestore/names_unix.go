//go:build unix

package sqlitestore

import (
	"io/fs"
	"syscall"
)

// identifyFile returns what file has a name, and what is known of it without opening it.
func identifyFile(name string) (id fileID, is stat, err error) {
	var st syscall.Stat_t
	for {
		err = syscall.Stat(name, &st)
		if err != syscall.EINTR {
			break
		}
	}
	if err != nil {
		return fileID{}, stat{}, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return fileID{dev: uint64(st.Dev), ino: uint64(st.Ino)}, statOf(&st), nil
}
