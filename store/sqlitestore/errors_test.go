package sqlitestore

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"zombiezen.com/go/sqlite"

	"github.com/perdure/perdure/store"
)

// What who runs the store can cure is told as such, by writes and by reads, and ends when it is cured.
func TestWhatCanBeCuredIsTold(t *testing.T) {
	for name, c := range map[string]struct{ hinder, cure string }{
		"read only": {"PRAGMA query_only = 1", "PRAGMA query_only = 0"},
		"full":      {"PRAGMA max_page_count = 1", "PRAGMA max_page_count = 1000000"},
		"no table":  {"ALTER TABLE turns RENAME TO elsewhere", "ALTER TABLE elsewhere RENAME TO turns"},
	} {
		t.Run(name, func(t *testing.T) {
			s := openTemp(t)
			onWriterRun(t, s, c.hinder)
			req := offerReq("t")
			req.Input = []byte(`"` + strings.Repeat("x", 1<<20) + `"`)
			_, err := s.Offer(t.Context(), req)
			var trouble *store.TroubleError
			if !errors.As(err, &trouble) || store.Definite(err) || !strings.Contains(err.Error(), s.path) {
				t.Errorf("got %v, want a *store.TroubleError that names the file", err)
			}
			onWriterRun(t, s, c.cure)
			if _, err := s.Offer(t.Context(), req); err != nil {
				t.Errorf("when it is cured: %v", err)
			}
		})
	}
}

func TestAFilterThatIsMoreThanSQLiteReadsIsRefusedAsTooLarge(t *testing.T) {
	s := openTemp(t)
	q := store.ListQuery{Tags: map[string]string{}, Limit: 10}
	for i := range 1200 {
		q.Tags[fmt.Sprint("k", i)] = "v"
	}
	_, err := s.List(t.Context(), q)
	var refused *store.ContentError
	if !errors.As(err, &refused) || !refused.Large {
		t.Errorf("got %v, want a *store.ContentError of size", err)
	}
}

func TestCodesAreOfOneKind(t *testing.T) {
	for code, want := range map[sqlite.ResultCode]string{
		sqlite.ResultTooBig: "content", sqlite.ResultConstraintCheck: "content", sqlite.ResultConstraintTrigger: "content",
		resultConstraintDatatype: "content", sqlite.ResultRange: "content",
		sqlite.ResultFull: "file", sqlite.ResultReadOnly: "file", sqlite.ResultReadOnlyDBMoved: "file", sqlite.ResultIOErrWrite: "file",
		sqlite.ResultCorrupt: "file", sqlite.ResultCantOpen: "file", sqlite.ResultPerm: "file", sqlite.ResultNotADB: "file",
		sqlite.ResultNoMem: "file", sqlite.ResultConstraintUnique: "file",
		sqlite.ResultBusy: "", sqlite.ResultBusySnapshot: "", sqlite.ResultLocked: "", sqlite.ResultInterrupt: "",
		sqlite.ResultError: "", sqlite.ResultSchema: "", sqlite.ResultProtocol: "",
	} {
		got := ""
		switch err := fmt.Errorf("step: %w", code.ToError()); {
		case ofContent(err):
			got = "content"
		case ofTheFile(err):
			got = "file"
		}
		if got != want {
			t.Errorf("%v: got %q, want %q", code, got, want)
		}
	}
	if err := errors.New("no such thing"); ofContent(err) || ofTheFile(err) || ofContent(nil) || ofTheFile(nil) {
		t.Error("an error that is not SQLite's is of a kind")
	}
}
