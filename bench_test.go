package perdure_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/store/memstore"
)

type benchNote struct {
	Text string `json:"text"`
}

// BenchmarkCycle is a whole cycle on memory: what the engine itself costs.
func BenchmarkCycle(b *testing.B) {
	f := perdure.NewFunc[benchNote, benchNote]("trivial", &perdure.FuncOptions[benchNote]{Retention: perdure.KeepForever})
	echo := func(_ context.Context, turn *perdure.Turn[benchNote, benchNote]) (benchNote, error) {
		return turn.Input(), nil
	}
	eng, err := perdure.New(memstore.New(), &perdure.Options{Funcs: []perdure.Binding{f.Bind(echo)}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	done := make(chan error)
	go func() { done <- eng.Run(ctx) }()
	for eng.Ready() != nil {
		<-time.After(time.Millisecond)
	}
	in := benchNote{strings.Repeat("abcdefgh", 48)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.Run(ctx, eng.Client(), in, nil); err != nil {
			b.Fatal(err)
		}
	}
	stop()
	<-done
}
