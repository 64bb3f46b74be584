package clienttest_test

import (
	"testing"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/clienttest"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/memstore"
)

func TestLocalClient(t *testing.T) {
	clienttest.Run(t, func(*testing.T) store.Store { return memstore.New() },
		func(_ *testing.T, eng *perdure.Engine) perdure.Client { return eng.Client() })
}
