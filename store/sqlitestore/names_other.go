//go:build !unix

package sqlitestore

// identifyFile finds all well: a file that is open keeps its name here.
func identifyFile(string) (id fileID, is stat, err error) { return fileID{}, stat{links: 1}, nil }
