package perdurehttp

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// param is a query parameter that a route takes.
type param struct {
	name     string
	about    string
	number   bool
	repeat   bool
	min, max int64    // of a number; 0: none
	oneOf    []string // empty: anything
}

// identifier is what task IDs, input IDs and func names match (S5).
var identifier = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$`)

// parseQuery checks a query against the parameters that its route takes. Errors name the parameter.
func parseQuery(raw string, params []param) (url.Values, error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, invalid("the query is not well-formed")
	}
	for _, name := range sortedKeys(values) {
		i := slices.IndexFunc(params, func(p param) bool { return p.name == name })
		if i < 0 {
			return nil, invalid("query parameter %s is unknown", quote(name))
		}
		if err := params[i].check(values[name]); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// maxRepeats is how often a parameter that may be repeated may be given.
const maxRepeats = 100

func (p param) check(values []string) error {
	if len(values) > p.most() {
		return invalid("query parameter %q is given %d times: %d is the most", p.name, len(values), p.most())
	}
	for _, v := range values {
		switch {
		case v == "":
			return invalid("query parameter %q is empty", p.name)
		case !utf8.ValidString(v):
			return invalid("query parameter %q is not UTF-8 text", p.name)
		case len(p.oneOf) > 0 && !slices.Contains(p.oneOf, v):
			return invalid("query parameter %q: %s is none of %s", p.name, quote(v), strings.Join(p.oneOf, ", "))
		}
		if err := p.checkNumber(v); err != nil {
			return err
		}
	}
	return nil
}

// most is how often a parameter may be given.
func (p param) most() int {
	if p.repeat {
		return maxRepeats
	}
	return 1
}

func (p param) checkNumber(v string) error {
	if !p.number {
		return nil
	}
	n, err := strconv.ParseInt(v, 10, 64)
	switch {
	case err != nil:
		return invalid("query parameter %q: %s is not an integer", p.name, quote(v))
	case n < p.min:
		return invalid("query parameter %q must be at least %d", p.name, p.min)
	case p.max > 0 && n > p.max:
		return invalid("query parameter %q must be at most %d", p.name, p.max)
	}
	return nil
}

// number returns a number that check has passed, or the default.
func number(values url.Values, name string, otherwise int64) int64 {
	if n, err := strconv.ParseInt(values.Get(name), 10, 64); err == nil {
		return n
	}
	return otherwise
}

// parseTags reads tag=key:value parameters. A colon or backslash of a key has a backslash before it.
func parseTags(values []string) (map[string]string, error) {
	if len(values) == 0 {
		return nil, nil
	}
	tags := make(map[string]string, len(values))
	for _, v := range values {
		key, value, ok := cutTag(v)
		if !ok || key == "" {
			return nil, invalid("query parameter \"tag\": %s is not key:value", quote(v))
		}
		if _, twice := tags[key]; twice {
			return nil, invalid("query parameter \"tag\": key %s is given twice", quote(key))
		}
		tags[key] = value
	}
	return tags, nil
}

func cutTag(tag string) (key, value string, ok bool) {
	var k strings.Builder
	for i := 0; i < len(tag); i++ {
		switch c := tag[i]; {
		case c == ':':
			return k.String(), tag[i+1:], true
		case c == '\\' && i+1 < len(tag):
			i++
			k.WriteByte(tag[i])
		default:
			k.WriteByte(c)
		}
	}
	return "", "", false
}

// formatTag writes what cutTag reads.
func formatTag(key, value string) string {
	return strings.NewReplacer(`\`, `\\`, `:`, `\:`).Replace(key) + ":" + value
}

// cursorPrefix versions cursors; they are opaque to callers.
const cursorPrefix = "1:"

// formatCursor returns the cursor that goes on below an incarnation.
func formatCursor(before int64) string {
	return base64.RawURLEncoding.EncodeToString([]byte(cursorPrefix + strconv.FormatInt(before, 36)))
}

func parseCursor(cursor string) (int64, error) {
	if cursor == "" {
		return 0, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	digits, ok := strings.CutPrefix(string(text), cursorPrefix)
	before, numErr := strconv.ParseInt(digits, 36, 64)
	if err != nil || numErr != nil || !ok || before <= 0 {
		return 0, invalid("query parameter \"cursor\" is not one that this API has given")
	}
	return before, nil
}

// maxWait bounds Prefer: wait.
const maxWait = 60 * time.Second

// parsePrefer returns how long the Prefer headers (RFC 7240) ask to wait, at most maxWait. Preferences
// other than wait are ignored.
func parsePrefer(headers []string) (time.Duration, error) {
	for _, preference := range strings.Split(strings.Join(headers, ","), ",") {
		preference, _, _ = strings.Cut(preference, ";")
		name, value, _ := strings.Cut(preference, "=")
		if !strings.EqualFold(strings.TrimSpace(name), "wait") {
			continue
		}
		value = strings.Trim(strings.TrimSpace(value), `"`)
		seconds, err := strconv.ParseUint(value, 10, 31)
		if err != nil {
			return 0, invalid("header Prefer: wait=%s is not a number of seconds", quote(value))
		}
		return min(time.Duration(seconds)*time.Second, maxWait), nil
	}
	return 0, nil
}

// formatETag returns the entity tag of a task's version.
func formatETag(incarnation, version int64) string {
	return fmt.Sprintf(`"%d-%d"`, incarnation, version)
}

// ifMatch reads the If-Match header of a request, if it has one. An empty one is a mistake: a client that
// lost its ETag must not act without a condition.
func ifMatch(h http.Header) (incarnation, version int64, err error) {
	switch values := h.Values("If-Match"); len(values) {
	case 0:
		return 0, 0, nil
	case 1:
		return parseIfMatch(values[0])
	}
	return 0, 0, invalid("header If-Match is given more than once")
}

// parseIfMatch reads an If-Match header: one entity tag of this API, or *, which any version matches.
func parseIfMatch(header string) (incarnation, version int64, err error) {
	if header == "*" {
		return 0, 0, nil
	}
	i, v, ok := strings.Cut(strings.Trim(header, `"`), "-")
	incarnation, err1 := strconv.ParseInt(i, 10, 64)
	version, err2 := strconv.ParseInt(v, 10, 64)
	if !ok || err1 != nil || err2 != nil || incarnation <= 0 || version <= 0 || header != formatETag(incarnation, version) {
		return 0, 0, invalid("header If-Match: want * or one ETag of a task, got %s", quote(header))
	}
	return incarnation, version, nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// quote shortens a value for a message.
func quote(s string) string {
	const most = 40
	if utf8.RuneCountInString(s) > most {
		return fmt.Sprintf("%q…", string([]rune(s)[:most]))
	}
	return fmt.Sprintf("%q", s)
}
