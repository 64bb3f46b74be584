//go:build linux

package sqlitestore

import (
	"strings"
	"testing"

	"zombiezen.com/go/sqlite"
)

func TestWhatAFileSystemLacksIsSaid(t *testing.T) {
	for want, r := range map[string]space{
		"":                      {bytes: 1 << 30},
		"reading only":          {readOnly: true},
		"disk is full":          {bytes: leastSpace - 1},
		"no more files (inodes": {bytes: 1 << 30, noFiles: true},
	} {
		if got := r.lacks(); !strings.Contains(got, want) || (got == "") != (want == "") {
			t.Errorf("%+v lacks %q, want %q", r, got, want)
		}
	}
}

func TestOpenSaysWhatTheFileSystemLacks(t *testing.T) {
	for code, plain := range map[sqlite.ResultCode]string{
		sqlite.ResultCantOpen: "by this user", sqlite.ResultReadOnly: "by this user", sqlite.ResultIOErr: "disk I/O", sqlite.ResultFull: "no room",
	} {
		for lack, want := range map[string]string{"": plain, "its disk is full": "its disk is full"} {
			err := causeOf("store.db", code.ToError(), func(string) string { return lack })
			if wantError(t, err.Error(), want); sqlite.ErrCode(err) != code {
				t.Errorf("%v is not within %v", code, err)
			}
		}
	}
}

func TestTheSpaceOfAFolderIsKnown(t *testing.T) {
	if s, known := spaceAt(t.TempDir()); !known || s.lacks() != "" {
		t.Errorf("got %+v, %v", s, known)
	}
}
