//go:build darwin || freebsd

package sqlitestore

import "golang.org/x/sys/unix"

// filesystem returns the name of the file system of a path.
func filesystem(path string) (string, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return "", err
	}
	return unix.ByteSliceToString(st.Fstypename[:]), nil
}
