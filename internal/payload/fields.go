package payload

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
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
		names = map[string]reflect.Type{}
		collect(t, names, map[reflect.Type]bool{})
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
	for ; t != nil; t = t.Elem() {
		for _, own := range []reflect.Type{reflect.TypeFor[json.Unmarshaler](), reflect.TypeFor[encoding.TextUnmarshaler]()} {
			if t.Implements(own) || reflect.PointerTo(t).Implements(own) {
				return nil
			}
		}
		if t.Kind() != reflect.Pointer {
			break
		}
	}
	return t
}

// collect adds the names of a struct's fields, and their types. What is nearer to the top comes first.
func collect(t reflect.Type, names map[string]reflect.Type, seen map[reflect.Type]bool) {
	if seen[t] {
		return
	}
	seen[t] = true
	var embedded []reflect.Type
	for f := range t.Fields() {
		if !written(f) {
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		inner := f.Type
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		switch {
		case f.Anonymous && name == "" && inner.Kind() == reflect.Struct:
			embedded = append(embedded, inner)
			continue
		case !isName(name):
			name = f.Name
		}
		if _, known := names[name]; !known {
			names[name] = f.Type
		}
	}
	for _, inner := range embedded {
		collect(inner, names, seen)
	}
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
