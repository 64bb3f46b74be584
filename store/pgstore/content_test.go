package pgstore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/perdure/perdure/internal/pgtest"
	"github.com/perdure/perdure/store"
)

// guarded returns a store with something more in its schema, and a worker.
func guarded(t *testing.T, more ...string) *Store {
	t.Helper()
	url := pgtest.URL(t)
	s := openAt(t, url, Options{Schema: pgtest.Schema(t, url)})
	register(t, s, "w")
	for _, sql := range more {
		if _, err := s.pool.Exec(t.Context(), s.sql(sql)); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// onWrite is a trigger on the writes of a table, with a body in PL/pgSQL.
func onWrite(table, body string) string {
	return `CREATE FUNCTION perdure.guard() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN ` + body + ` RETURN NEW; END$$;
		CREATE TRIGGER guard BEFORE INSERT OR UPDATE ON perdure.` + table + ` FOR EACH ROW EXECUTE FUNCTION perdure.guard()`
}

const badOutput = `"bad"`

func completing(lease store.Lease, output string) *store.SettleRequest {
	return &store.SettleRequest{Lease: lease, Kind: store.SettleEnd, Outcome: store.Completed, Then: store.Completed, Output: []byte(output)}
}

// refusesContent checks that an error is one of the content, and its cause with it.
func refusesContent(t *testing.T, what string, err error) {
	t.Helper()
	var content *store.ContentError
	if !errors.As(err, &content) || content.Err == nil || !store.Definite(err) {
		t.Errorf("%s: got %v, want a ContentError", what, err)
	}
}

func TestContentThatTheDatabaseRefuses(t *testing.T) {
	endless := make([]byte, 10_000)
	for i := range endless {
		endless[i] = "abcdefghijklmnopqrstuvwxyz"[rand.IntN(26)]
	}
	settling := func(change func(*store.SettleRequest)) func(*Store, store.Lease) error {
		return func(s *Store, lease store.Lease) error {
			req := completing(lease, badOutput)
			change(req)
			_, err := s.Settle(t.Context(), req)
			return err
		}
	}
	asIs := func(*store.SettleRequest) {}
	for name, c := range map[string]struct {
		guard string
		write func(*Store, store.Lease) error
	}{
		"Check":   {`ALTER TABLE perdure.turns ADD CHECK (output <> '"bad"')`, settling(asIs)},
		"Trigger": {onWrite("turns", `IF NEW.output = '"bad"' THEN RAISE EXCEPTION 'no'; END IF;`), settling(asIs)},
		"Text":    {"", settling(func(req *store.SettleRequest) { req.Reason = "\x00" })},
		"TooLarge": {"", settling(func(req *store.SettleRequest) {
			req.Metadata = []store.Change{{Key: string(endless), Value: []byte("1")}}
		})},
		"Checkpoint": {onWrite("metadata", `IF NEW.key = 'bad' THEN RAISE EXCEPTION 'no'; END IF;`), func(s *Store, lease store.Lease) error {
			_, err := s.Checkpoint(t.Context(), &store.CheckpointRequest{Lease: lease, Number: 1, Commit: true, Metadata: []store.Change{{Key: "bad", Value: []byte("1")}}})
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := guarded(t, c.guard)
			lease := leased(t, s, "one", "w", 0)
			refusesContent(t, "the write", c.write(s, lease))
			task := get(t, s, "one")
			same(t, "status afterwards", task.Status, store.InProgress)
			same(t, "its turn ends another way", settle(t, s, completing(lease, `"good"`)).Status, store.Completed)
			left := 0
			err := s.pool.QueryRow(t.Context(), s.sql(`SELECT count(*) FROM perdure.tasks WHERE id = '`+probeID+`'`)).Scan(&left)
			if err != nil || left != 0 {
				t.Errorf("%d tasks are left of the probe, %v", left, err)
			}
		})
	}
}

// What would be refused whatever it is, or is refused for another reason, is not known to fail for ever.
func TestWhatIsRefusedForOtherReasonsIsUnknown(t *testing.T) {
	for name, guard := range map[string]string{
		"AllTurns":    onWrite("turns", `IF TG_OP = 'UPDATE' THEN RAISE EXCEPTION 'read only'; END IF;`),
		"AllTasks":    onWrite("tasks", `IF TG_OP = 'UPDATE' THEN RAISE EXCEPTION 'read only'; END IF;`),
		"BadTrigger":  onWrite("turns", `IF NEW.output = '"bad"' THEN PERFORM 1 FROM nowhere; END IF;`),
		"NoResources": onWrite("turns", `IF NEW.output = '"bad"' THEN RAISE EXCEPTION 'full' USING ERRCODE = '53100'; END IF;`),
	} {
		t.Run(name, func(t *testing.T) {
			s := guarded(t)
			lease := leased(t, s, "one", "w", 0)
			if _, err := s.pool.Exec(t.Context(), s.sql(guard)); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Settle(t.Context(), completing(lease, badOutput)); err == nil || store.Definite(err) {
				t.Errorf("got %v, want an error that leaves the result unknown", err)
			}
			same(t, "status afterwards", get(t, s, "one").Status, store.InProgress)
			if _, err := s.pool.Exec(t.Context(), s.sql(`DROP FUNCTION perdure.guard CASCADE`)); err != nil {
				t.Fatal(err)
			}
			settle(t, s, completing(lease, badOutput))
		})
	}
}

func TestContentIsRefusedOfWhoHasIt(t *testing.T) {
	s := guarded(t, `ALTER TABLE perdure.turns ADD CHECK (output <> '"bad"')`)
	var all sync.WaitGroup
	for i := range 20 {
		id := fmt.Sprint("t", i)
		lease := leased(t, s, id, "w", 0)
		all.Go(func() {
			if i == 7 {
				_, err := s.Settle(t.Context(), completing(lease, badOutput))
				refusesContent(t, id, err)
			} else if _, err := s.Settle(t.Context(), completing(lease, `1`)); err != nil {
				t.Errorf("%s: %v", id, err)
			}
		})
	}
	all.Wait()
}
