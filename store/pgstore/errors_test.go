package pgstore

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/perdure/perdure/internal/pgtest"
	"github.com/perdure/perdure/store"
)

func TestCodesAreOfOneKind(t *testing.T) {
	for code, want := range map[string]string{
		"22021": "content", "22001": "content large", "22003": "content", "22P02": "content", "54000": "content large", "54001": "content large",
		"23514": "content", "P0001": "content",
		"42501": "database", "42P01": "database", "53100": "database", "53200": "database", "53300": "database", "57014": "database",
		"25006": "database", "28P01": "database", "3D000": "database", "58030": "database", "XX001": "database", "26000": "database",
		"08006": "", "23505": "", "25P03": "", "40001": "", "40P01": "", "55P03": "", "57P01": "", "57P03": "", "0A000": "", "": "",
	} {
		err := fmt.Errorf("write: %w", &pgconn.PgError{Code: code})
		got := ""
		switch {
		case ofContent(err):
			got = "content"
		case ofTheDatabase(err):
			got = "database"
		}
		if tooLarge(err) {
			got += " large"
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", code, got, want)
		}
	}
	if err := errBusy; ofContent(err) || ofTheDatabase(err) {
		t.Error("a busy task is of a kind")
	}
}

// What who runs the database can cure is told as such, by writes and by reads, and ends when it is cured.
func TestWhatCanBeCuredIsTold(t *testing.T) {
	at := asRole(t, "on")
	s := openAt(t, at, Options{Schema: pgtest.Schema(t, at)})
	role := s.pool.Config().ConnConfig.User
	for name, c := range map[string]struct{ hinder, cure string }{
		"right of writes": {"REVOKE INSERT ON perdure.tasks FROM " + role, "GRANT INSERT ON perdure.tasks TO " + role},
		"right of reads":  {"REVOKE SELECT ON perdure.turns FROM " + role, "GRANT SELECT ON perdure.turns TO " + role},
		"quota":           {onWrite("tasks", `RAISE EXCEPTION 'full' USING ERRCODE = '53100';`), "DROP FUNCTION perdure.guard CASCADE"},
		"limit of time":   {onWrite("tasks", `RAISE EXCEPTION 'slow' USING ERRCODE = '57014';`), "DROP FUNCTION perdure.guard CASCADE"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := s.pool.Exec(t.Context(), s.sql(c.hinder)); err != nil {
				t.Fatal(err)
			}
			_, err := s.Offer(t.Context(), offerReq("t "+name))
			if name == "right of reads" {
				_, err = s.Turn(t.Context(), store.TurnQuery{TaskID: "t"})
			}
			var trouble *store.TroubleError
			if !errors.As(err, &trouble) || store.Definite(err) || !strings.Contains(err.Error(), s.opts.Schema) {
				t.Errorf("got %v, want a *store.TroubleError that names the database", err)
			}
			if _, err := s.pool.Exec(t.Context(), s.sql(c.cure)); err != nil {
				t.Fatal(err)
			}
			mustOffer(t, s, offerReq("cured "+name))
		})
	}
}

// A task with a check on it that the probe meets too is no content's fault.
func TestWhatTheProbeMeetsTooCanBeCured(t *testing.T) {
	s := guarded(t, onWrite("tasks", `RAISE EXCEPTION 'no';`))
	_, err := s.Offer(t.Context(), offerReq("t"))
	var trouble *store.TroubleError
	if !errors.As(err, &trouble) || store.Definite(err) {
		t.Errorf("got %v, want a *store.TroubleError", err)
	}
}
