//go:build !linux && !darwin && !freebsd

package sqlitestore

// filesystem takes every file system for a local one.
func filesystem(string) (string, error) { return "", nil }
