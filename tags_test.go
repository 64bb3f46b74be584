package perdure_test

import (
	"maps"
	"testing"
	"testing/synctest"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/rig"
)

func TestTheTagsOfACallerAndOfAFuncStayTheirOwn(t *testing.T) {
	byFunc := map[string]string{"a": "func", "b": "func"}
	f := perdure.NewFunc[int, int]("f", nil)
	g := perdure.NewFunc[int, int]("g", &rig.Options{
		Tags: func(int, string) (map[string]string, error) { return byFunc, nil },
	})
	rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
		for name, start := range map[string]func(id string, tags map[string]string) error{
			"typed": func(id string, tags map[string]string) error {
				_, err := f.Start(t.Context(), s.Client, 1, &perdure.StartOptions{TaskID: id, Tags: tags})
				return err
			},
			"untyped": func(id string, tags map[string]string) error {
				_, err := s.Client.Start(t.Context(), &perdure.StartRequest{Func: "f", TaskID: id, Input: []byte("1"), Tags: tags})
				return err
			},
		} {
			tags := map[string]string{"a": "call"}
			if err := start(name, tags); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			tags["a"] = "changed"
			rig.Is(t, name+": S8: tag after the caller has changed its map", rig.Task(t, s.Client, name).Tags["a"], "call")
		}
		rig.StartWith(t, s.Client, g, 1, &perdure.StartOptions{TaskID: "labelled", Tags: map[string]string{"b": "call"}})
		if want := map[string]string{"a": "func", "b": "func"}; !maps.Equal(byFunc, want) {
			t.Errorf("S8: the func's map became %v, want %v", byFunc, want)
		}
	}, f.Bind(rig.Stay), g.Bind(rig.Echo))
}
