//go:build unix

package sqlitestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/perdure/perdure/store"
)

// openLogged opens a store whose log is kept.
func openLogged(t *testing.T, path string) (*Store, *bytes.Buffer) {
	t.Helper()
	logs := new(bytes.Buffer)
	return openAt(t, path, &Options{Logger: slog.New(slog.NewTextHandler(logs, nil))}), logs
}

// losses are ways in which the files of a store lose their names.
var losses = map[string]func(path string) error{
	"removed": os.Remove,
	"moved":   func(path string) error { return os.Rename(path, path+".moved") },
	"replaced": func(path string) error {
		return errors.Join(os.WriteFile(path+".new", nil, 0o600), os.Rename(path+".new", path))
	},
	"removed and made again": func(path string) error { return errors.Join(os.Remove(path), os.WriteFile(path, nil, 0o600)) },
	"its log removed":        func(path string) error { return os.Remove(path + suffixLog) },
	"its log replaced": func(path string) error {
		return errors.Join(os.Remove(path+suffixLog), os.WriteFile(path+suffixLog, nil, 0o600))
	},
	"its shared memory removed": func(path string) error { return os.Remove(path + suffixShared) },
	"its folder moved":          func(path string) error { return os.Rename(filepath.Dir(path), filepath.Dir(path)+".moved") },
	"its folder made a file": func(path string) error {
		dir := filepath.Dir(path)
		return errors.Join(os.Rename(dir, dir+".moved"), os.WriteFile(dir, nil, 0o600))
	},
}

// newPlace returns the path for a store in a folder of its own, which may be moved.
func newPlace(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "place")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "store.db")
}

func wantLost(t *testing.T, what string, err error) {
	t.Helper()
	var lost *lostError
	if !errors.As(err, &lost) || !errors.Is(err, store.ErrLost) || store.Definite(err) {
		t.Errorf("%s: got error %v, want that the file is lost, and that the result is unknown", what, err)
	}
}

func TestNothingIsAcknowledgedWhenTheFileHasLostItsName(t *testing.T) {
	for how, lose := range losses {
		t.Run(how, func(t *testing.T) {
			path := newPlace(t)
			s, logs := openLogged(t, path)
			mustOffer(t, s, "before")
			if err := lose(path); err != nil {
				t.Fatal(err)
			}
			wantNothingAcknowledged(t, s, logs)
		})
	}
}

// wantNothingAcknowledged checks that a store, which was offered "before", knows of its loss.
func wantNothingAcknowledged(t *testing.T, s *Store, logs fmt.Stringer) {
	t.Helper()
	for range 2 {
		_, err := s.Offer(t.Context(), offerReq("after"))
		wantLost(t, "Offer", err)
		_, err = s.Offer(t.Context(), offerReq("before")) // its answer would be definite
		wantLost(t, "Offer of what was known", err)
		_, err = s.Get(t.Context(), "before")
		wantLost(t, "Get", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	wantLost(t, "Listen", s.Listen(ctx, func(store.Hint) {}))
	if n := strings.Count(logs.String(), "restart the process"); n != 1 {
		t.Errorf("the log says %d times what to do: %s", n, logs)
	}
	wantLost(t, "Close", s.Close())
}

func TestALossDuringACommitIsNoticedBeforeItsAnswers(t *testing.T) {
	path := newPlace(t)
	s, _ := openLogged(t, path)
	err := s.writer.do(&op{ctx: t.Context(), run: func(c *conn, _ time.Time) error {
		return errors.Join(c.AddMail(store.Mail{Worker: "w", TaskID: "t", Kind: store.MailCancel}), os.Remove(path))
	}})
	wantLost(t, "the commit", err)
}

func TestALossDuringAReadIsNoticedBeforeItsAnswer(t *testing.T) {
	path := newPlace(t)
	s, _ := openLogged(t, path)
	wantLost(t, "View", s.View(t.Context(), func(*sqlite.Conn) error { return os.Remove(path) }))
}

func TestALossIsForGood(t *testing.T) {
	path := newPlace(t)
	s, _ := openLogged(t, path)
	mustOffer(t, s, "before")
	if err := os.Rename(path, path+".moved"); err != nil {
		t.Fatal(err)
	}
	_, err := s.Get(t.Context(), "before")
	wantLost(t, "Get", err)
	if err := os.Rename(path+".moved", path); err != nil {
		t.Fatal(err)
	}
	_, err = s.Get(t.Context(), "before")
	wantLost(t, "Get when it has its name again", err)
	wantLost(t, "Close", s.Close())
	if _, err := openAt(t, path, nil).Get(t.Context(), "before"); err != nil {
		t.Errorf("Get when it was opened again: %v", err)
	}
}

// What cannot be told is no loss.
func TestAFileThatCannotBeLookedAtIsCured(t *testing.T) {
	path := newPlace(t)
	s, _ := openLogged(t, path)
	mustOffer(t, s, "before")
	dir := filepath.Dir(path)
	if err := errors.Join(os.Rename(dir, dir+".moved"), os.Symlink(dir, dir)); err != nil {
		t.Fatal(err)
	}
	_, err := s.Get(t.Context(), "before")
	_, werr := s.Offer(t.Context(), offerReq("after"))
	for _, err := range []error{err, werr} {
		if !errors.As(err, new(*store.TroubleError)) || errors.Is(err, store.ErrLost) || store.Definite(err) {
			t.Errorf("got %v, want a *store.TroubleError", err)
		}
	}
	if err := errors.Join(os.Remove(dir), os.Rename(dir+".moved", dir)); err != nil {
		t.Fatal(err)
	}
	mustOffer(t, s, "after")
}

func TestALossIsNoticedWithoutCommits(t *testing.T) {
	path := newPlace(t)
	s, logs := openLogged(t, path)
	ended := make(chan error, 1)
	listening := make(chan struct{}, 100)
	go func() { ended <- s.Listen(t.Context(), func(store.Hint) { listening <- struct{}{} }) }()
	<-listening
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	wantLost(t, "Listen", <-ended)
	if !strings.Contains(logs.String(), "removed, moved or replaced") {
		t.Errorf("the log is %q", logs)
	}
}

func TestWhatTakesTheNameOfALostFileIsLeftAlone(t *testing.T) {
	path := newPlace(t)
	s, _ := openLogged(t, path)
	mustOffer(t, s, "before")
	if err := errors.Join(os.Remove(path+suffixLog), os.WriteFile(path+suffixLog, []byte("another's"), 0o600)); err != nil {
		t.Fatal(err)
	}
	wantLost(t, "Close", s.Close())
	if b, err := os.ReadFile(path + suffixLog); string(b) != "another's" {
		t.Errorf("the log of the name is %q, %v", b, err)
	}
}

func TestASymbolicLinkThatIsTurnedIsNoticed(t *testing.T) {
	path := newPlace(t)
	link := path + ".link"
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	s, _ := openLogged(t, link)
	mustOffer(t, s, "before")
	other := newPlace(t)
	openAt(t, other, nil).Close()
	if err := errors.Join(os.Remove(link), os.Symlink(other, link)); err != nil {
		t.Fatal(err)
	}
	_, err := s.Offer(t.Context(), offerReq("after"))
	wantLost(t, "Offer", err)
}

func TestAHardLinkIsRefusedAtOpenAndToldOfLater(t *testing.T) {
	path := newPlace(t)
	s, logs := openLogged(t, path)
	for range 2 {
		if err := os.Link(path, path+".backup"); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			mustOffer(t, s, "one")
		}
		if found, err := s.Warnings(t.Context()); err != nil || len(found) != 1 || !strings.Contains(found[0], "more than one name") {
			t.Errorf("Warnings: %v, %v", found, err)
		}
		for _, name := range []string{path, path + ".backup"} {
			wantError(t, refusal(t, name, nil), "2 names (hard links)")
			wantError(t, refusal(t, name, &Options{ReadOnly: true}), "2 names (hard links)")
		}
		if err := os.Remove(path + ".backup"); err != nil {
			t.Fatal(err)
		}
		mustOffer(t, s, "one")
	}
	if n := strings.Count(logs.String(), "more than one name"); n != 2 {
		t.Errorf("the log tells %d times of two links: %s", n, logs)
	}
}

func TestNetworkFileSystemsAreRefusedUnlessForced(t *testing.T) {
	for _, c := range []struct {
		file, folder string
		refused      bool
		warned       string
	}{
		{"", "", false, ""},
		{"xfs", "overlay", false, ""},
		{"nfs", "nfs", true, "network file system (nfs)"},
		{"xfs", "cifs", true, "network file system (cifs)"},
		{"smb", "xfs", true, "network file system (smb)"},
		{"9p", "9p", false, "(9p)"},
		{"fuse", "xfs", false, "(fuse)"},
	} {
		t.Run(fmt.Sprint(c.file, " in ", c.folder), func(t *testing.T) {
			path := newPlace(t)
			opts := &Options{filesystem: func(p string) (string, error) {
				if filepath.Base(p) == filepath.Base(path) {
					return c.file, nil
				}
				return c.folder, nil
			}}
			if c.refused {
				wantError(t, refusal(t, path, opts), c.warned)
				if _, err := os.Stat(path); err == nil {
					t.Error("the file was made")
				}
				opts.AllowNetworkFS = true
			}
			s := openAt(t, path, opts)
			mustOffer(t, s, "one")
			found, err := s.Warnings(t.Context())
			if got := strings.Join(found, " "); err != nil || (got != "") != (c.warned != "") || !strings.Contains(got, c.warned) {
				t.Errorf("Warnings: %q, %v, want %q", got, err, c.warned)
			}
		})
	}
}

func TestTheFileSystemOfAFolderIsKnown(t *testing.T) {
	if _, err := filesystem(t.TempDir()); err != nil {
		t.Error(err)
	}
	if _, err := filesystem(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a file that is not there has a file system")
	}
}

func TestACleanEndLeavesNoLog(t *testing.T) {
	path := newPlace(t)
	first, second := openAt(t, path, nil), openAt(t, path, nil)
	reader := openAt(t, path, &Options{ReadOnly: true})
	mustOffer(t, first, "one")
	for _, s := range []*Store{reader, first, second} {
		if _, err := os.Stat(path + suffixLog); err != nil {
			t.Errorf("the log went before the last store was closed: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(path + suffixLog); err == nil {
		t.Error("the log is left")
	}
}

func TestAReaderIsNotMistakenForNobody(t *testing.T) {
	path := newPlace(t)
	s := openAt(t, path, nil)
	mustOffer(t, s, "one")
	r := openAt(t, path, &Options{ReadOnly: true})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	mustOffer(t, openAt(t, path, nil), "two")
	if _, err := r.Get(t.Context(), "two"); err != nil {
		t.Errorf("Get after the store was opened again: %v", err)
	}
}
