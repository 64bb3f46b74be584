package memstore_test

import (
	"testing"

	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/memstore"
	"github.com/perdure/perdure/store/storetest"
)

func open(*testing.T) store.Store { return memstore.New() }

func TestModel(t *testing.T) { storetest.RunModel(t, open) }
