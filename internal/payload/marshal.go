package payload

import (
	"bytes"
	"encoding"
	"encoding/json"
	"reflect"
	"unicode/utf8"
)

// Marshal is json.Marshal, and reports whether bytes that are no UTF-8 have become U+FFFD. What is nested deeper than MaxDepth
// is ErrDepth. It calls methods of v, which may panic.
func Marshal(v any) (data []byte, replaced bool, err error) {
	data, err = json.Marshal(v)
	switch {
	case err != nil:
		return nil, false, err
	case deep(data):
		return nil, false, ErrDepth
	case !utf8.Valid(data): // a method's, which json.Marshal leaves as they are
		return bytes.ToValidUTF8(data, []byte("\uFFFD")), true, nil
	}
	return data, bytes.Contains(data, replacement) && replaces(reflect.ValueOf(v)), nil
}

// replacement is what json.Marshal writes for a byte that is no UTF-8. The character U+FFFD itself it writes in three bytes.
var replacement = []byte(`\ufffd`)

// replaces reports whether json.Marshal of a value replaces bytes. JSON that a value holds already is as it was written; of what
// other methods write, the replacement is taken to be one.
func replaces(v reflect.Value) bool {
	switch {
	case !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil():
		return false
	case v.Kind() == reflect.Interface:
		return replaces(v.Elem())
	}
	if found, own := writtenByItself(v); own {
		return found
	}
	switch v.Kind() {
	case reflect.String:
		return !utf8.ValidString(v.String())
	case reflect.Pointer:
		return replaces(v.Elem())
	case reflect.Slice, reflect.Array:
		return !isBytes(v) && anyReplaces(v.Len(), v.Index)
	case reflect.Map:
		keys := v.MapKeys()
		return anyReplaces(len(keys), func(i int) reflect.Value { return keys[i] }) ||
			anyReplaces(len(keys), func(i int) reflect.Value { return v.MapIndex(keys[i]) })
	case reflect.Struct:
		return anyReplaces(v.NumField(), func(i int) reflect.Value {
			if f := v.Type().Field(i); !written(f) {
				return reflect.Value{}
			}
			return v.Field(i)
		})
	}
	return false
}

// writtenByItself is replaces for a value whose own method json.Marshal calls; own is false if it has none.
func writtenByItself(v reflect.Value) (found, own bool) {
	if !v.CanInterface() {
		return false, false
	}
	methods := []any{v.Interface()}
	if v.CanAddr() {
		methods = append(methods, v.Addr().Interface())
	}
	for _, m := range methods {
		if m, ok := m.(json.Marshaler); ok {
			data, err := m.MarshalJSON()
			return err == nil && !isBytes(v) && bytes.Contains(data, replacement), true
		}
	}
	for _, m := range methods {
		if m, ok := m.(encoding.TextMarshaler); ok {
			text, err := m.MarshalText()
			return err == nil && !utf8.Valid(text), true
		}
	}
	return false, false
}

func isBytes(v reflect.Value) bool {
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	return v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8
}

func anyReplaces(n int, part func(int) reflect.Value) bool {
	for i := range n {
		if replaces(part(i)) {
			return true
		}
	}
	return false
}

// written reports whether encoding/json knows a field, or the fields in it.
func written(f reflect.StructField) bool {
	return (f.IsExported() || f.Anonymous) && f.Tag.Get("json") != "-"
}
