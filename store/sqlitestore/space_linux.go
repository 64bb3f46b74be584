package sqlitestore

import (
	"os"

	"golang.org/x/sys/unix"
)

// spaceAt returns what the file system of a path has for this user.
func spaceAt(path string) (space, bool) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return space{}, false
	}
	blocks := st.Bavail
	if os.Geteuid() == 0 {
		blocks = st.Bfree // some are kept for root
	}
	return space{
		readOnly: st.Flags&unix.ST_RDONLY != 0,
		bytes:    blocks * uint64(st.Bsize),
		noFiles:  st.Files > 0 && st.Ffree == 0, // some file systems count none
	}, true
}
