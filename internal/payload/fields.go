package payload

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"unicode"
)

// Fields reports a key of data that is not the name, as it is declared, of a field of the struct that it would be decoded into
// if all of data went into a value of type t. encoding/json takes a name in any case. Keys of maps are data; types that decode
// themselves are left to themselves. Data must be sound.
func Fields(data []byte, t reflect.Type) error {
	w := walker{data: data}
	return w.match(t)
}

// match passes a value that goes into a type; nil if that is not known.
func (w *walker) match(t reflect.Type) error {
	t = target(t)
	switch w.next() {
	case '{':
		return w.matchObject(t)
	case '[':
		if t != nil && t.Kind() != reflect.Slice && t.Kind() != reflect.Array {
			t = nil
		}
		if t != nil {
			t = t.Elem()
		}
		w.at++
		for first := true; w.goesOn(']', first); first = false {
			if err := w.match(t); err != nil {
				return err
			}
		}
	case '"':
		w.quoted()
	default:
		w.scalar()
	}
	return nil
}

func (w *walker) matchObject(t reflect.Type) error {
	var names map[string]reflect.Type
	var value reflect.Type
	switch {
	case t == nil:
	case t.Kind() == reflect.Struct:
		names = namesOf(t)
	case t.Kind() == reflect.Map:
		value = t.Elem()
	}
	w.at++
	for first := true; w.goesOn('}', first); first = false {
		key := w.key()
		if names != nil {
			var known bool
			if value, known = names[string(key)]; !known {
				return fmt.Errorf("unknown field %s", short(key))
			}
		}
		if err := w.match(value); err != nil {
			return err
		}
	}
	return nil
}

// target returns what is decoded into, behind pointers; nil if that is its own affair.
func target(t reflect.Type) reflect.Type {
	if t == nil {
		return nil
	}
	if known, ok := targets.Load(t); ok {
		return known.(typeOf).Type
	}
	found := behind(t)
	targets.Store(t, typeOf{found})
	return found
}

// What types come to is found out once.
var (
	targets sync.Map // reflect.Type to typeOf
	fields  sync.Map // reflect.Type of a struct to map[string]reflect.Type
)

// typeOf holds a type, which may be nil.
type typeOf struct{ reflect.Type }

func behind(t reflect.Type) reflect.Type {
	for ; ; t = t.Elem() {
		for _, own := range []reflect.Type{reflect.TypeFor[json.Unmarshaler](), reflect.TypeFor[encoding.TextUnmarshaler]()} {
			if t.Implements(own) || reflect.PointerTo(t).Implements(own) {
				return nil
			}
		}
		if t.Kind() != reflect.Pointer {
			return t
		}
	}
}

// namesOf returns the names of a struct's fields, with their types; nil where it is not known which field has the name.
func namesOf(t reflect.Type) map[string]reflect.Type {
	if known, ok := fields.Load(t); ok {
		return known.(map[string]reflect.Type)
	}
	names := map[string]reflect.Type{}
	seen := map[reflect.Type]bool{t: true}
	for level := []reflect.Type{t}; len(level) > 0; {
		var embedded []reflect.Type
		here := map[string]field{}
		for _, t := range level {
			embedded = append(embedded, addFields(t, here)...)
		}
		for name, f := range here {
			if _, nearer := names[name]; !nearer {
				names[name] = f.t
			}
		}
		level = slices.DeleteFunc(embedded, func(t reflect.Type) bool {
			again := seen[t]
			seen[t] = true
			return again
		})
	}
	fields.Store(t, names)
	return names
}

// field is one that has a name on its level: encoding/json takes the one that is tagged with it, or the only one.
type field struct {
	t      reflect.Type
	tagged bool
}

// addFields adds the fields of a struct to those of its level, and returns the structs that are embedded in it.
func addFields(t reflect.Type, level map[string]field) (embedded []reflect.Type) {
	for f := range t.Fields() {
		if !written(f) {
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		inner := f.Type
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		if f.Anonymous && name == "" && inner.Kind() == reflect.Struct {
			embedded = append(embedded, inner)
			continue
		}
		tagged := isName(name)
		if !tagged {
			name = f.Name
		}
		switch other, twice := level[name]; {
		case !twice || tagged && !other.tagged:
			level[name] = field{f.Type, tagged}
		case tagged == other.tagged:
			level[name] = field{nil, tagged}
		}
	}
	return embedded
}

// isName reports whether encoding/json takes a name from a tag.
func isName(name string) bool {
	for _, c := range name {
		if !strings.ContainsRune("!#$%&()*+-./:;<=>?@[]^_{|}~ ", c) && !unicode.IsLetter(c) && !unicode.IsDigit(c) {
			return false
		}
	}
	return name != ""
}
