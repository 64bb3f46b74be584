package perdurehttp

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/perdure/perdure"
)

// taskPath returns the path of a task; what is no identifier cannot be there.
func taskPath(id string) (string, error) {
	if !identifier.MatchString(id) {
		return "", fmt.Errorf("task %s: %w", quote(id), perdure.ErrNotFound)
	}
	return "/v1/tasks/" + id, nil
}

// turnThere returns ErrNotFound for an input ID that is no identifier: no turn can have it.
func turnThere(q perdure.TurnQuery) error {
	if q.Turn == 0 && q.InputID != "" && !identifier.MatchString(q.InputID) {
		return fmt.Errorf("turn of input %s of task %s: %w", quote(q.InputID), q.TaskID, perdure.ErrNotFound)
	}
	return nil
}

func setNumber(query url.Values, name string, n int64) {
	if n != 0 {
		query.Set(name, strconv.FormatInt(n, 10))
	}
}

// canList reports whether a task can be within the options: none has a label that is no UTF-8, which no query can ask for.
func canList(opts *perdure.ListOptions) bool {
	texts := []string{opts.Session, opts.Agent}
	for k, v := range opts.Tags {
		texts = append(texts, k, v)
	}
	return !slices.ContainsFunc(texts, func(s string) bool { return !utf8.ValidString(s) }) &&
		(len(opts.Funcs) == 0 || slices.ContainsFunc(opts.Funcs, identifier.MatchString))
}

func listQuery(opts *perdure.ListOptions) url.Values {
	query := url.Values{}
	for _, name := range opts.Funcs {
		if identifier.MatchString(name) {
			query.Add("func", name)
		}
	}
	for _, s := range opts.Statuses {
		query.Add("status", string(s))
	}
	for name, value := range map[string]string{"session": opts.Session, "agent": opts.Agent} {
		if value != "" {
			query.Set(name, value)
		}
	}
	for k, v := range opts.Tags {
		query.Add("tag", formatTag(k, v))
	}
	if opts.Before > 0 {
		query.Set("cursor", formatCursor(opts.Before))
	}
	return query
}
