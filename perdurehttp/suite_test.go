package perdurehttp_test

import (
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/clienttest"
	"github.com/perdure/perdure/internal/memnet"
	"github.com/perdure/perdure/perdurehttp"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/memstore"
	"github.com/perdure/perdure/store/sqlitestore"
)

// TestClient holds the client to the suite that the engine's own client is held to (P1).
func TestClient(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		clienttest.Run(t, func(*testing.T) store.Store { return memstore.New() }, connect)
	})
	t.Run("sqlite", func(t *testing.T) {
		clienttest.Run(t, func(t *testing.T) store.Store {
			st, err := sqlitestore.Open(t.Context(), filepath.Join(t.TempDir(), "perdure.db"), nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { st.Close() })
			return st
		}, connect)
	})
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// connect serves an engine on a network in memory and returns a client of it.
func connect(t *testing.T, eng *perdure.Engine) perdure.Client {
	n := new(memnet.Network)
	serve(t, n, perdurehttp.NewHandler(eng, &perdurehttp.HandlerOptions{Logger: quiet}))
	return dial(t, n, nil)
}

// serve serves a handler on a network, until the test ends or the returned function is called.
func serve(t *testing.T, n *memnet.Network, h http.Handler) (stop func()) {
	srv := &http.Server{Handler: h}
	go srv.Serve(n.Listen())
	stop = func() {
		srv.Close()
		<-time.After(time.Second) // a connection that is closed with a body unread lingers half a second
	}
	t.Cleanup(stop)
	return stop
}

func dial(t *testing.T, n *memnet.Network, opts *perdurehttp.ClientOptions) *perdurehttp.Client {
	t.Helper()
	if opts == nil {
		opts = &perdurehttp.ClientOptions{}
	}
	transport := n.Transport()
	t.Cleanup(transport.CloseIdleConnections)
	opts.HTTPClient = &http.Client{Transport: transport}
	c, err := perdurehttp.NewClient("http://127.0.0.1", opts)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
