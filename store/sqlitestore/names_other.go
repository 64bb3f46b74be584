//go:build !unix

package sqlitestore

// identifyFile finds all well: a file that is open keeps its name here.
func identifyFile(string) (id fileID, links uint64, err error) { return fileID{}, 1, nil }
