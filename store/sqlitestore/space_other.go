//go:build !linux

package sqlitestore

// spaceAt knows nothing.
func spaceAt(string) (space, bool) { return space{}, false }
