package perdure_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/internal/rig"
	"github.com/perdure/perdure/store/memstore"
	"github.com/perdure/perdure/store/sqlitestore"
)

func key(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

// keys returns a codec that writes with the first of the named keys.
func keys(t *testing.T, names ...string) *perdure.AESGCM {
	t.Helper()
	held := map[string][]byte{}
	for _, name := range names {
		held[name] = key(name[0])
	}
	c, err := perdure.NewAESGCM(names[0], held)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNothingThatIsSecretIsInTheFile(t *testing.T) {
	const secret = "hunter2-is-my-password"
	f := perdure.NewFunc[string, string]("f", &perdure.FuncOptions[string]{MultiTurn: true})
	bubble.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		st, err := sqlitestore.Open(t.Context(), filepath.Join(dir, "t.db"), nil)
		if err != nil {
			t.Fatal(err)
		}
		s := rig.Serve(t, st, perdure.Options{Codec: keys(t, "a")}, f.Bind(func(ctx context.Context, turn *perdure.Turn[string, string]) (string, error) {
			for range 2 {
				if err := turn.Metadata().Append("key", turn.Input()); err != nil {
					return "", err
				}
				if err := turn.Checkpoint(ctx); err != nil {
					return "", err
				}
			}
			return "out of " + turn.Input(), nil
		}))
		for range 2 {
			r, err := f.Run(t.Context(), s.Client, secret, &perdure.StartOptions{TaskID: "t"})
			if err != nil || r.Output != "out of "+secret {
				t.Fatalf("got %q, %v", r.Output, err)
			}
		}
		rig.Is(t, "metadata", strings.Count(string(rig.Task(t, s.Client, "t").Metadata["key"]), secret), 4)
		if strings.Contains(s.Logs.String(), secret) {
			t.Error("the log has the secret")
		}
		rig.Is(t, "Run", s.Stop(), nil)
		rig.Is(t, "Close", st.Close(), nil)
		files, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil || len(files) == 0 {
			t.Fatalf("files: %v, %v", files, err)
		}
		for _, file := range files {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(content, []byte(secret)) {
				t.Errorf("%s has the secret in the clear", filepath.Base(file))
			}
		}
	})
}

func TestKeysRotateAndAMissingOneIsAnErrorAndNoMismatch(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", nil)
	bubble.Test(t, func(t *testing.T) {
		mem := memstore.New()
		engine := func(codec perdure.Codec) perdure.Client {
			eng, err := perdure.New(mem, &perdure.Options{Codec: codec})
			if err != nil {
				t.Fatal(err)
			}
			return eng.Client()
		}
		again := func(c perdure.Client, n int) error {
			h, err := f.Start(t.Context(), c, n, &perdure.StartOptions{TaskID: "t", InputID: "i"})
			if err == nil && !h.Known() {
				t.Error("S2: the input is not known")
			}
			return err
		}
		s := rig.Serve(t, mem, perdure.Options{Codec: keys(t, "old")}, f.Bind(rig.Echo))
		h := rig.StartWith(t, s.Client, f, 7, &perdure.StartOptions{TaskID: "t", InputID: "i"})
		rig.Ends(t, "codec", h, perdure.Completed)
		rig.Is(t, "stop", s.Stop(), nil)

		rotated, without := engine(keys(t, "new", "old")), engine(keys(t, "new"))
		rig.Is(t, "S2: the same input under both keys", again(rotated, 7), nil)
		rig.Fails(t, "S2: another input under both keys", again(rotated, 8), perdure.ErrInputMismatch)
		rig.Fails(t, "Digest: the same input without the key", again(without, 7), perdure.ErrDigestKey)
		rig.Fails(t, "Digest: another input without the key", again(without, 8), perdure.ErrDigestKey)
		q := perdure.TurnQuery{TaskID: "t"}
		o, err := rotated.Outcome(t.Context(), q)
		if err != nil || string(o.Output) != "7" {
			t.Errorf("rotation: got %s, %v, want 7", o.Output, err)
		}
		if _, err = without.Outcome(t.Context(), q); err == nil || !strings.Contains(err.Error(), "old") {
			t.Errorf("missing key: got %v, want an error that names it", err)
		}
		rig.Start(t, engine(keys(t, "old")), f, 9, "late")
		s = rig.Serve(t, mem, perdure.Options{Codec: keys(t, "new")}, f.Bind(rig.Echo))
		info := rig.Task(t, s.Client, "late")
		rig.Is(t, "Parked: status of what the worker cannot read", info.Status, perdure.Parked)
		if !strings.Contains(info.Reason, "old") {
			t.Errorf("Parked: reason: got %q, want one that names the key", info.Reason)
		}
	})
}

func TestACodecRefusesWhatWasMovedChangedOrIsNotItsOwn(t *testing.T) {
	c := keys(t, "a")
	sealed, err := c.Encode("input:t", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Decode("input:t", sealed); err != nil || string(got) != "secret" {
		t.Errorf("got %q, %v", got, err)
	}
	changed := bytes.Clone(sealed)
	changed[len(changed)-1]++
	for name, try := range map[string]struct {
		label  string
		sealed []byte
	}{"moved": {"input:u", sealed}, "changed": {"input:t", changed}, "cut": {"input:t", sealed[:1]}, "empty": {"input:t", nil}, "plain": {"input:t", []byte(`"x"`)}} {
		if got, err := c.Decode(try.label, try.sealed); err == nil {
			t.Errorf("%s: got %q, want an error", name, got)
		}
	}
	one, two := c.Digests([]byte("7"))[0], keys(t, "b").Digests([]byte("7"))[0]
	if one.Sum == two.Sum {
		t.Error("S2: the digest does not depend on the key")
	}
}

// labels keeps the labels of what is encoded.
type labels struct {
	perdure.Codec
	seen rig.Box[map[string]string]
}

func (l *labels) Encode(label string, plain []byte) ([]byte, error) {
	seen := l.seen.Get()
	if other, ok := seen[label]; ok && strings.HasPrefix(label, "metadata") && other != string(plain) {
		return nil, fmt.Errorf("label %s is used twice", label)
	}
	seen[label] = string(plain)
	return l.Codec.Encode(label, plain)
}

func TestNoTwoPlacesHaveOneLabel(t *testing.T) {
	f := perdure.NewFunc[string, int]("f", nil)
	bubble.Test(t, func(t *testing.T) {
		codec := &labels{Codec: keys(t, "a")}
		codec.seen.Set(map[string]string{})
		s := rig.Serve(t, memstore.New(), perdure.Options{Codec: codec}, f.Bind(func(_ context.Context, turn *perdure.Turn[string, int]) (int, error) {
			return 0, turn.Metadata().Set(turn.Input(), turn.TaskID())
		}))
		for id, key := range map[string]string{"a:b": "c", "a": "b:c"} {
			if _, err := f.Run(t.Context(), s.Client, key, &perdure.StartOptions{TaskID: id}); err != nil {
				t.Errorf("metadata %s of %s: %v", key, id, err)
			}
		}
	})
}

var errNo = errors.New("no")

// broken is a codec that cannot write.
type broken struct{ perdure.Codec }

func (broken) Encode(string, []byte) ([]byte, error) { return nil, errNo }

func TestACodecThatFailsReachesTheCaller(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", nil)
	bubble.Test(t, func(t *testing.T) {
		s := rig.Serve(t, memstore.New(), perdure.Options{Codec: broken{keys(t, "a")}}, f.Bind(rig.Echo))
		_, err := f.Start(t.Context(), s.Client, 1, &perdure.StartOptions{TaskID: "t"})
		if !errors.Is(err, errNo) {
			t.Errorf("S6: got %v, want the codec's error", err)
		}
		_, err = s.Client.Task(t.Context(), "t")
		rig.Fails(t, "S6: a task was created", err, perdure.ErrNotFound)
		rig.After(time.Second)
	})
}
