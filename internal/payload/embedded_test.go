package payload

import (
	"encoding/json"
	"reflect"
	"testing"
)

type (
	deepX struct {
		X struct{ Old int } `json:"x"`
	}
	firstX  struct{ deepX }
	secondX struct {
		X struct{ New int } `json:"x"`
	}
	taggedX struct {
		X struct{ Tagged int } `json:"X"`
	}
	plainX struct{ X struct{ Plain int } }
	otherX struct{ X struct{ Other int } }
)

// Which of several fields of embedded structs has a name is as encoding/json decides it.
func TestNamesOfEmbeddedStructsAreThoseThatJSONTakes(t *testing.T) {
	for name, v := range map[string]any{
		"the nearer one": struct {
			firstX
			secondX
		}{secondX: secondX{X: struct{ New int }{1}}},
		"the nearer one, last": struct {
			secondX
			firstX
		}{secondX: secondX{X: struct{ New int }{1}}},
		"the tagged one": struct {
			plainX
			taggedX
		}{taggedX: taggedX{X: struct{ Tagged int }{1}}},
		"the tagged one first": struct {
			taggedX
			plainX
		}{taggedX: taggedX{X: struct{ Tagged int }{1}}},
		"none of two": struct {
			plainX
			otherX
		}{},
	} {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := Fields(data, reflect.TypeOf(v)); err != nil {
			t.Errorf("%s: %s is refused: %v", name, data, err)
		}
	}
	if err := Fields([]byte(`{"x":{"Old":1}}`), reflect.TypeFor[struct {
		firstX
		secondX
	}]()); err == nil {
		t.Error("the field of the deeper one is taken")
	}
}
