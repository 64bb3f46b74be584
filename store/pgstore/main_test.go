package pgstore

import (
	"testing"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/clienttest"
	"github.com/perdure/perdure/internal/pgtest"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/rules"
	"github.com/perdure/perdure/store/storetest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// inBubble returns what opens a store in a schema of its own, which keeps the time of the test's bubble. The server is
// started now, outside of the bubbles.
func inBubble(t *testing.T, opts Options) func(t *testing.T) store.Store {
	direct := pgtest.URL(t)
	return inBubbleAt(direct, direct, opts)
}

func inBubbleAt(direct, url string, opts Options) func(t *testing.T) store.Store {
	return func(t *testing.T) store.Store {
		t.Helper()
		opts.UnsafeClock = new(rules.Clock).Now
		opts.Schema = pgtest.Schema(t, direct)
		s := openAt(t, url, opts)
		if _, err := s.Workers(t.Context()); err != nil { // the first answer proves the server: what comes next takes one try
			t.Fatal(err)
		}
		return s
	}
}

func TestConformance(t *testing.T) { storetest.Run(t, inBubble(t, Options{})) }

// Without LISTEN, NOTIFY and prepared statements, in transactions that may each be on another connection.
func TestConformanceBehindPgBouncer(t *testing.T) {
	direct := pgtest.URL(t)
	storetest.Run(t, inBubbleAt(direct, pgtest.Bouncer(t, direct), Options{}))
}

func TestModel(t *testing.T) { storetest.RunModel(t, inBubble(t, Options{PollOnly: true})) }

func TestLinear(t *testing.T) { storetest.RunLinear(t, inBubble(t, Options{})) }

// The suite of clients, with an engine on the store. A connection that waits for notifications would hold virtual
// time up.
func TestLocalClient(t *testing.T) {
	clienttest.Run(t, inBubble(t, Options{PollOnly: true}), func(_ *testing.T, eng *perdure.Engine) perdure.Client { return eng.Client() })
}
