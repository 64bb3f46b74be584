package sqlitestore

import (
	"testing"

	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/storetest"
)

func TestModel(t *testing.T) {
	storetest.RunModel(t, func(t *testing.T) store.Store { return openTemp(t) })
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return openTemp(t) })
}

func TestLinear(t *testing.T) {
	storetest.RunLinear(t, func(t *testing.T) store.Store { return openTemp(t) })
}

func TestContexts(t *testing.T) {
	storetest.RunContexts(t, func(t *testing.T) store.Store { return openTemp(t) })
}

func TestKilledFaultyGivesTheLockBack(t *testing.T) {
	s := openTemp(t)
	f := storetest.NewFaulty(s, nil)
	if _, ok := f.Store().(store.Notifier); !ok {
		t.Error("no notifier")
	}
	if _, ok := f.Store().(store.Importer); !ok {
		t.Error("no importer")
	}
	exclusive, ok := f.Store().(store.Exclusive)
	if !ok {
		t.Fatal("not exclusive")
	}
	if _, err := exclusive.Lock(); err != nil {
		t.Fatal(err)
	}
	f.Kill()
	unlock, err := s.Lock()
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}
