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
