package pgstore

import (
	"testing"

	"github.com/perdure/perdure/internal/pgtest"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/rules"
	"github.com/perdure/perdure/store/storetest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// openTemp opens a store in a schema of its own, which keeps the time of the test's bubble.
func openTemp(t *testing.T) *Store {
	t.Helper()
	url := pgtest.URL(t)
	s, err := Open(t.Context(), url, &Options{Schema: pgtest.Schema(t, url), clock: rules.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestConformance(t *testing.T) {
	pgtest.URL(t) // outside of the bubbles
	storetest.Run(t, func(t *testing.T) store.Store { return openTemp(t) })
}

func TestModel(t *testing.T) {
	pgtest.URL(t) // outside of the bubbles
	storetest.RunModel(t, func(t *testing.T) store.Store { return openTemp(t) })
}

func TestLinear(t *testing.T) {
	pgtest.URL(t) // outside of the bubbles
	storetest.RunLinear(t, func(t *testing.T) store.Store { return openTemp(t) })
}
