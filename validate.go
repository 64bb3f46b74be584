package perdure

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/perdure/perdure/internal/engine"
	"github.com/perdure/perdure/internal/payload"
	"github.com/perdure/perdure/store"
)

// reservedPrefix begins the tag and metadata keys that are the framework's (S9).
const reservedPrefix = "perdure."

// identifier is what task and input IDs, and names of funcs, match (S5).
const identifier = `^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$`

// isIdentifier reports whether s matches identifier.
func isIdentifier(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case i > 0 && (c == '.' || c == '_' || c == ':' || c == '-'):
		default:
			return false
		}
	}
	return true
}

// Limits bound what is stored (S6). Zero values are the defaults. Going over one is ErrTooLarge at the
// call that does it.
type Limits struct {
	Input       int // bytes of JSON: default 10 MiB
	Output      int // bytes of JSON: default 10 MiB
	Metadata    int // bytes of keys and JSON per task: default 1 MiB
	Event       int // bytes of JSON: default 1 MiB
	Title       int // characters: default 256
	Description int // characters: default 1024
	Tags        int // number: default 16
	TagKey      int // characters: default 64
	TagValue    int // characters: default 256
}

func (l Limits) withDefaults() Limits {
	const mib = 1 << 20
	return Limits{
		Input: or(l.Input, 10*mib), Output: or(l.Output, 10*mib), Metadata: or(l.Metadata, mib), Event: or(l.Event, mib),
		Title: or(l.Title, 256), Description: or(l.Description, 1024),
		Tags: or(l.Tags, 16), TagKey: or(l.TagKey, 64), TagValue: or(l.TagValue, 256),
	}
}

// defaultIDs gives a request the IDs that its caller did not. They are made before the first try, so that
// a repeated try is recognised (O6).
func (r *StartRequest) defaultIDs() {
	for _, id := range []*string{&r.TaskID, &r.InputID} {
		if *id == "" {
			*id = uuid.Must(uuid.NewV7()).String()
		}
	}
}

// validate refuses, before any write, what cannot be stored; validateLabels does so for the labels.
func (r *StartRequest) validate(l Limits) error {
	if !isIdentifier(r.Func) {
		return invalid("func %s: a name matches %s", quote(r.Func), identifier)
	}
	if err := errors.Join(validID("task_id", r.TaskID), validID("input_id", r.InputID)); err != nil {
		return err
	}
	if !store.ValidText(r.IfLastInputID) {
		return invalid("if_last_input_id %s is not UTF-8 or contains the character U+0000", quote(r.IfLastInputID))
	}
	if r.IfExists != "" && r.IfExists != Attach {
		return invalid("if_exists %s: it can be %q", quote(string(r.IfExists)), Attach)
	}
	switch r.Deliver {
	case "", Interrupt, Enqueue, Reject, Replace:
	default:
		return invalid("deliver %s: it can be interrupt, enqueue, reject or replace", quote(string(r.Deliver)))
	}
	if r.Retry != nil {
		if err := r.Retry.validate(); err != nil {
			return err
		}
	}
	return r.validateInput(l.Input)
}

func (o *EventOptions) validate() error {
	if o.After < 0 {
		return invalid("after must not be %d", o.After)
	}
	if o.Turn < 0 {
		return invalid("turn must not be %d", o.Turn)
	}
	if o.Limit < 0 {
		return invalid("limit must not be %d", o.Limit)
	}
	return nil
}

// maxFilters is how many values a filter of a list may have.
const maxFilters = 100

func (o *ListOptions) validate() error {
	for _, f := range []struct {
		what string
		n    int
	}{{"Funcs", len(o.Funcs)}, {"Statuses", len(o.Statuses)}, {"Tags", len(o.Tags)}} {
		if f.n > maxFilters {
			return invalid("%s has %d values: %d are the most", f.what, f.n, maxFilters)
		}
	}
	return nil
}

// validRequestID checks the ID that a caller gives to an operation; empty means that it gets one.
func validRequestID(id string) error {
	if id == "" {
		return nil
	}
	return validID("request_id", id)
}

func validID(field, id string) error {
	if !isIdentifier(id) {
		return invalid("%s %s: an ID matches %s", field, quote(id), identifier)
	}
	return nil
}

func (r *StartRequest) validateLabels(l Limits) error {
	for _, s := range []struct {
		field, value string
		limit        int
	}{{"title", r.Title, l.Title}, {"description", r.Description, l.Description}, {"session", r.Session, l.TagValue}} {
		if err := validText(s.field, s.value, s.limit); err != nil {
			return err
		}
	}
	if len(r.Tags) > l.Tags {
		return fmt.Errorf("%d tags: %w: the limit is %d", len(r.Tags), ErrTooLarge, l.Tags)
	}
	for k, v := range r.Tags {
		if k == "" {
			return invalid("a tag has an empty key")
		}
		if strings.HasPrefix(k, reservedPrefix) {
			return invalid("tag %q: keys that begin with %q are the framework's", k, reservedPrefix)
		}
		if err := validText("tag key", k, l.TagKey); err != nil {
			return err
		}
		if err := validText("tag "+k, v, l.TagValue); err != nil {
			return err
		}
	}
	return nil
}

func validText(field, s string, limit int) error {
	if !utf8.ValidString(s) {
		return invalid("%s is not UTF-8", field)
	}
	if strings.ContainsRune(s, 0) {
		return invalid("%s contains the character U+0000", field)
	}
	if n := utf8.RuneCountInString(s); n > limit {
		return fmt.Errorf("%s of %d characters: %w: the limit is %d", field, n, ErrTooLarge, limit)
	}
	return nil
}

// validateInput looks into the input. JSON within that of a typed start may be anything.
func (r *StartRequest) validateInput(limit int) error {
	input := r.Input
	if len(input) > limit {
		return fmt.Errorf("input of %d bytes: %w: the limit is %d", len(input), ErrTooLarge, limit)
	}
	if len(bytes.TrimSpace(input)) == 0 {
		return invalid("input is missing")
	}
	if err := payload.Check(input); err != nil {
		return invalid("input %w", err)
	}
	return nil
}

// inputProblem says what is wrong with an input without quoting it.
func inputProblem(err error) (problem string) {
	if _, ok := err.(*PanicError); ok {
		return "its decoder panicked"
	}
	panicked := engine.Guard(func() error { // an error may be of the program's own type
		problem = readProblem(err)
		return nil
	})
	if panicked != nil {
		return "the error of its decoder panicked"
	}
	return problem
}

func readProblem(err error) string {
	var typ *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	text := strings.TrimPrefix(err.Error(), "json: ")
	switch {
	case errors.As(err, &typ):
		got, _, _ := strings.Cut(typ.Value, " ") // "number 1e400" quotes the number
		if typ.Field == "" {
			return fmt.Sprintf("got a JSON %s, want %s", got, typ.Type)
		}
		return fmt.Sprintf("field %q: got a JSON %s, want %s", typ.Field, got, typ.Type)
	case errors.Is(err, io.EOF):
		return "it is empty"
	case errors.As(err, &syntax), strings.HasPrefix(text, "unknown field "):
		return text
	}
	return "a value is not what its type accepts"
}

// quote shortens a value for a message.
func quote(s string) string {
	const most = 40
	if utf8.RuneCountInString(s) > most {
		return fmt.Sprintf("%q… (%d bytes)", string([]rune(s)[:most]), len(s))
	}
	return fmt.Sprintf("%q", s)
}
