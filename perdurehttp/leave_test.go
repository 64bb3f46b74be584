package perdurehttp_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/internal/memnet"
	"github.com/perdure/perdure/perdurehttp"
	"github.com/perdure/perdure/store/memstore"
)

// brittle has more messages than a stream holds unread, and panics when it is closed after its reader has gone.
type brittle struct{ ctx context.Context }

func (brittle) Put(context.Context, perdure.Event) error { return nil }

func (brittle) Get(_ context.Context, after int64) (page []perdure.Event, err error) {
	for n := after + 1; n <= 1000; n++ {
		page = append(page, perdure.Event{Number: n, Kind: perdure.EventMessage, Data: []byte("1")})
	}
	return page, nil
}

func (b brittle) Close() error {
	if b.ctx.Err() != nil {
		panic("its reader has gone")
	}
	return nil
}

// treacherous is a codec whose error cannot even be asked what it is.
type treacherous struct{ perdure.Codec }

func (treacherous) Encode(_ string, plain []byte) ([]byte, error) { return plain, nil }
func (treacherous) Digests([]byte) []perdure.Digest               { return []perdure.Digest{{Sum: "x"}} }
func (treacherous) Decode(_ string, stored []byte) (p []byte, e error) {
	if bytes.Equal(stored, []byte("666")) {
		return nil, treachery{}
	}
	return stored, nil
}

type treachery struct{}

func (treachery) Error() string { return "treachery" }
func (treachery) Is(error) bool { panic("treachery") }

// streaming serves a func that emits the numbers that it is sent.
func streaming(t *testing.T, opts *perdure.FuncOptions[note], codec perdure.Codec) (n *node, emit chan<- int) {
	t.Helper()
	numbers := make(chan int)
	f := perdure.NewFunc[note, note]("streaming", opts)
	eng, err := perdure.New(memstore.New(), &perdure.Options{Logger: quiet, Codec: codec, Funcs: []perdure.Binding{
		f.Bind(func(ctx context.Context, turn *perdure.Turn[note, note]) (note, error) {
			for number := range numbers {
				if err := turn.Emit(ctx, number); err != nil {
					return note{}, err
				}
			}
			return note{}, nil
		})}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); eng.Run(ctx) }()
	t.Cleanup(func() { close(numbers); cancel(); <-done })
	net := new(memnet.Network)
	serve(t, net, perdurehttp.NewHandler(eng, &perdurehttp.HandlerOptions{Logger: quiet}))
	n = &node{t: t, client: dial(t, net, nil), net: net}
	if _, err := f.Start(t.Context(), n.client, note{}, &perdure.StartOptions{TaskID: "t"}); err != nil {
		t.Fatal(err)
	}
	return n, numbers
}

// Where one of these fails, it takes the process of the tests with it.

func TestAReaderWhoHangsUpDoesNotEndTheServerWhateverTheStreamHandlerDoes(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n, _ := streaming(t, &perdure.FuncOptions[note]{Stream: func(ctx context.Context, _ string) (perdure.StreamHandler, error) {
			return brittle{ctx}, nil
		}}, nil)
		res := n.get("/v1/tasks/t/events")
		if _, err := io.ReadFull(res.Body, make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // the server has more, and cannot send it
		res.Body.Close()
		synctest.Wait()
		if res := n.get("/v1/tasks/t/events"); res.StatusCode != http.StatusOK {
			t.Errorf("the next reader: got %d", res.StatusCode)
		}
	})
}

func TestAPanicWhileAStreamIsReadEndsTheStreamAndNotTheServer(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n, emit := streaming(t, nil, treacherous{})
		res := n.get("/v1/tasks/t/events")
		emit <- 1
		synctest.Wait()
		emit <- 666
		if body, err := io.ReadAll(res.Body); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) || !bytes.Contains(body, []byte(`"data":1`)) {
			t.Errorf("the stream: got %q, %v", body, err)
		}
		if _, err := n.client.Task(t.Context(), "t"); err != nil {
			t.Errorf("another request: %v", err)
		}
	})
}
