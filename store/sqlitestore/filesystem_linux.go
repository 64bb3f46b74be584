package sqlitestore

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// filesystem returns the name of the file system of a path.
func filesystem(path string) (string, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return "", err
	}
	switch kind := uint32(st.Type); kind {
	case unix.NFS_SUPER_MAGIC:
		return "nfs", nil
	case unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC:
		return "smb", nil
	case unix.CIFS_SUPER_MAGIC:
		return "cifs", nil
	case unix.V9FS_MAGIC:
		return "9p", nil
	case unix.FUSE_SUPER_MAGIC: // virtiofs as well
		return "fuse", nil
	case unix.CEPH_SUPER_MAGIC:
		return "ceph", nil
	case unix.AFS_SUPER_MAGIC, unix.AFS_FS_MAGIC:
		return "afs", nil
	default:
		return fmt.Sprintf("%#x", kind), nil
	}
}
