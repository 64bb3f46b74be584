//go:build unix

package sqlitestore

import (
	"io/fs"
	"syscall"
)

// identifyFile returns what file has a name, and how many names it has.
func identifyFile(name string) (id fileID, links uint64, err error) {
	var st syscall.Stat_t
	for {
		err = syscall.Stat(name, &st)
		if err != syscall.EINTR {
			break
		}
	}
	if err != nil {
		return fileID{}, 0, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return fileID{dev: uint64(st.Dev), ino: uint64(st.Ino)}, uint64(st.Nlink), nil
}
