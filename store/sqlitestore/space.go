package sqlitestore

import "path/filepath"

// space is what a file system has for a user.
type space struct {
	readOnly bool
	bytes    uint64
	noFiles  bool // no more can be made
}

// leastSpace is what SQLite needs for a new log and its shared memory.
const leastSpace = 64 << 10

// lacks says what keeps SQLite from writing; nothing if it is not that.
func (r space) lacks() string {
	switch {
	case r.readOnly:
		return "it is on a file system that is mounted for reading only, where SQLite cannot make the files that it needs, not even to read"
	case r.bytes < leastSpace:
		return "its disk is full"
	case r.noFiles:
		return "its disk is full: it takes no more files (inodes)"
	}
	return ""
}

// lackAt says what keeps SQLite from writing to a path, whose folder has the log.
func lackAt(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	if r, known := spaceAt(filepath.Dir(path)); known {
		return r.lacks()
	}
	return ""
}
