//go:build unix

package engine_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/internal/rig"
	"github.com/perdure/perdure/store/sqlitestore"
)

func TestAFileThatIsRemovedIsALostStore(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "t.db")
		st, err := sqlitestore.Open(t.Context(), path, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close() // it says that the file is lost
		f := perdure.NewFunc[int, int]("f", nil)
		s := rig.Serve(t, st, perdure.Options{}, f.Bind(func(_ context.Context, turn *rig.Turn) (int, error) {
			<-turn.Interrupt().Done()
			return 1, nil
		}))
		rig.Start(t, s.Client, f, 1, "t")
		rig.After(time.Second)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		rig.After(100 * time.Millisecond) // nobody asks for anything
		wantOver(t, "Ready", s.Engine.Ready())
		began := time.Now()
		_, err = f.Start(t.Context(), s.Client, 2, nil)
		wantOver(t, "a start", err)
		rig.Is(t, "Run", s.Stop(), nil)
		rig.Is(t, "they took", time.Since(began), 0)
	})
}
