package perdure

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/store/memstore"
)

func TestAMessageNeverQuotesTheInput(t *testing.T) {
	type input struct {
		N  int
		At time.Time
	}
	f := NewFunc[input, int]("f", nil)
	eng, err := New(memstore.New(), &Options{Funcs: []Binding{f.Bind(func(context.Context, *Turn[input, int]) (int, error) { return 0, nil })}})
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{`{"N":987654321.5}`, `{"At":"987654321"}`, `{"N":"987654321"}`, "\"\xff987654321\""} {
		_, err := eng.Client().Start(t.Context(), &StartRequest{Func: "f", Input: []byte(body)})
		if !errors.Is(err, ErrInvalid) || strings.Contains(err.Error(), "987654321") {
			t.Errorf("Start with %s: got %v, want ErrInvalid without the input", body, err)
		}
	}
}

func TestALabelFunctionsErrorIsInvalid(t *testing.T) {
	cause := errors.New("no subject")
	f := NewFunc[int, int]("f", &FuncOptions[int]{Title: func(int, string) (string, error) { return "", cause }})
	eng, err := New(memstore.New(), &Options{Funcs: []Binding{f.Bind(func(context.Context, *Turn[int, int]) (int, error) { return 0, nil })}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Start(t.Context(), eng.Client(), 1, nil); !errors.Is(err, ErrInvalid) || !errors.Is(err, cause) {
		t.Errorf("got %v, want ErrInvalid and the function's own", err)
	}
}
