package sqlitestore

import (
	"fmt"
	"path/filepath"
)

// ground is the file system that a store's files are on.
type ground int

const (
	local   ground = iota
	unsure         // it may be another machine's, and its locks may not hold
	network        // its locks do not hold, or not for long
)

// grounds of file systems, by name; others are local.
var grounds = map[string]ground{
	"nfs": network, "smb": network, "cifs": network, "smbfs": network, "afpfs": network, "webdav": network,
	"9p": unsure, "fuse": unsure, "fusefs": unsure, "macfuse": unsure, "osxfuse": unsure, "virtiofs": unsure, "ceph": unsure, "afs": unsure,
}

// groundOf returns the worse of the file systems of a file and of its folder, where the log is: a single file may be
// mounted alone. nameOf returns the name of a path's file system, or fails when there is no such path.
func groundOf(path string, nameOf func(string) (string, error)) (name string, worst ground) {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	for _, p := range []string{filepath.Dir(path), path} {
		found, err := nameOf(p)
		if err == nil && grounds[found] > worst {
			name, worst = found, grounds[found]
		}
	}
	return name, worst
}

// errNetwork says that a store is not opened where its locks do not hold.
func errNetwork(name string) error {
	return fmt.Errorf("it is on a network file system (%s), where locks do not keep two engines apart and work may be lost: put it on a local disk, or force it (allow-network-fs)", name)
}
