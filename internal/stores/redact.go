package stores

import (
	"net/url"
	"regexp"
	"strings"
)

// hidden stands where a password was.
const hidden = "xxxxx"

// Name is a db that [Resolve] returned as it may be shown: without a password.
func Name(db string) string {
	if !IsPostgres(db) {
		return db
	}
	u, err := url.Parse(db)
	if err != nil {
		scheme, _, _ := strings.Cut(db, ":")
		return scheme + "://…"
	}
	q := u.Query()
	for key, values := range q {
		for i, value := range values {
			if secret.MatchString(key) {
				value = hidden
			}
			values[i] = Redact(value)
		}
	}
	u.RawQuery = q.Encode()
	return u.Redacted()
}

var (
	secret   = regexp.MustCompile(`(?i)` + secretWord)
	userinfo = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://[^\s:@/]*):[^\s"'` + "`" + `]*@`)
	userDSN  = regexp.MustCompile(`([^\s:@/"'` + "`" + `]+):[^\s"'` + "`" + `]*@((?:tcp|unix)\()`)
	setting  = regexp.MustCompile(`(?i)([A-Za-z_-]*(?:` + secretWord + `)[A-Za-z_-]*\s*=\s*)(?:'(?:\\.|[^'\\])*'?|[^\s&;"'` + "`" + `]+)`)
)

// secretWord is in the name of a setting whose value is not shown.
const secretWord = `pass|pwd|secret|token|api_?key`

// Redact takes out of a text what looks like a password: in a URL, a connection string or a parameter.
func Redact(text string) string {
	text = userinfo.ReplaceAllString(text, "$1:"+hidden+"@")
	text = userDSN.ReplaceAllString(text, "$1:"+hidden+"@$2")
	return setting.ReplaceAllString(text, "${1}"+hidden)
}

// Redacted returns an error that says the same, without what looks like a password.
func Redacted(err error) error {
	if err == nil {
		return nil
	}
	return redacted{err}
}

type redacted struct{ error }

func (e redacted) Error() string { return Redact(e.error.Error()) }
func (e redacted) Unwrap() error { return e.error }
