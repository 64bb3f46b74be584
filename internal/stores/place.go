package stores

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// IsPostgres reports whether db is the URL of a Postgres database.
func IsPostgres(db string) bool {
	return strings.HasPrefix(db, "postgres://") || strings.HasPrefix(db, "postgresql://")
}

// Resolve returns the path or the URL that a user means by db. A URI of SQLite's, file:PATH, stands for its path.
// What looks like the connection string of another program is an error, and not the name of a new file. The error
// does not repeat it: there may be a password in it.
func Resolve(db string) (string, error) {
	switch {
	case db == "":
		return "", errors.New("it must not be empty")
	case IsPostgres(db):
		return db, checkURL(db)
	case lostScheme.MatchString(db):
		return "", errors.New(wanted + "; it looks like a URL that has lost the beginning, or the colon; a file of that name is meant by ./NAME")
	case isPath(db):
		return db, nil
	case hasPrefixFold(db, "file:"):
		return filePath(db[len("file:"):])
	}
	for _, form := range foreign() {
		if m := form.looks.FindStringSubmatch(db); m != nil {
			return "", fmt.Errorf(form.hint+"; a file of that name is meant by ./NAME", m[1])
		}
	}
	return db, nil
}

const wanted = "it must be the path of a SQLite file, or a URL that begins with postgres://"

// form is what the connection strings of some program look like. The hint may say its first group.
type form struct {
	looks *regexp.Regexp
	hint  string
}

// foreign returns the forms that are refused.
func foreign() []form {
	return []form{
		{regexp.MustCompile(`(?i)^(sqlite3?):`), wanted + ": leave out %s:"},
		{regexp.MustCompile(`^([A-Za-z][A-Za-z0-9+.-]*)://`), wanted + ", not with %s://"},
		{regexp.MustCompile(`(?i)^(jdbc|odbc|postgres|postgresql|pg|pgsql|mysql|mariadb|sqlserver|mssql|oracle|mongodb|redis|rediss|libsql|cockroachdb):`), wanted + ", not with %s:"},
		{regexp.MustCompile(`()://`), wanted + "%s"},
		{regexp.MustCompile(`(?i)(?:^|[\s;])(` + keyword + `)\s*=`), wanted + "; it looks like a list of %s=… and more: write postgres://USER@HOST:PORT/DATABASE"},
		{regexp.MustCompile(`^[^/\\]*:[^@]*@()`), wanted + "; it looks like USER:PASSWORD@HOST%s"},
		{regexp.MustCompile(`^[^/\\:]*:(?:\d+|\*):[^:]*:[^:]*:()`), wanted + "; it looks like a line of a .pgpass file%s"},
	}
}

// keyword is a word before the = of a connection string in its own form.
const keyword = `host|hostaddr|server|data source|port|user|user id|uid|username|password|passwd|pass|pwd|passfile|db|dbname|database|initial catalog|sslmode|service`

// checkURL refuses a URL that does not mean what it was meant to: a password with an @, /, ? or # in it makes another
// host of it, which would be told everywhere.
func checkURL(db string) error {
	u, err := url.Parse(db)
	if err != nil || u.Fragment != "" || strings.Contains(u.Path, "@") || u.User == nil && strings.Contains(u.RawQuery, "@") {
		return errors.New("it is not a valid URL; write postgres://USER@HOST:PORT/DATABASE, and special characters in it, as those of a password, as %XX")
	}
	return nil
}

// isPath reports whether db can only be a path: who writes it so means a file, whatever its name looks like.
func isPath(db string) bool {
	return strings.HasPrefix(db, "/") || strings.HasPrefix(db, "./") || strings.HasPrefix(db, "../") ||
		strings.HasPrefix(db, `\`) || strings.HasPrefix(db, `.\`) || strings.HasPrefix(db, `..\`) || drive.MatchString(db)
}

// lostScheme is a URL with user and password, without the beginning, or the colon, by which it would be known as one.
var lostScheme = regexp.MustCompile(`^[A-Za-z0-9+.-]*//[^/\s]*:[^/\s]*@`)

// drive begins a path of Windows.
var drive = regexp.MustCompile(`^[A-Za-z]:[\\/]`)

// filePath returns the path of a URI of SQLite's, without its "file:". Parameters are refused: they are settings of
// SQLite, and the store has its own.
func filePath(uri string) (string, error) {
	path, _, _ := strings.Cut(uri, "#")
	path, _, parameters := strings.Cut(path, "?")
	if parameters {
		return "", errors.New("a file: URI with parameters (?…) is refused: the store sets up SQLite by itself; give the path of the file")
	}
	if after, ok := strings.CutPrefix(path, "//"); ok {
		host, rest, _ := strings.Cut(after, "/")
		if host != "" && host != "localhost" {
			return "", errors.New("a file: URI must not name a machine: write file:///PATH, or the path of the file")
		}
		path = "/" + rest
	}
	path, err := url.PathUnescape(path)
	if err != nil {
		return "", errors.New("the %XX in a file: URI are not valid: give the path of the file")
	}
	if path == "" || path == "/" {
		return "", errors.New("the file: URI names no file")
	}
	if !isPath(path) {
		path = "./" + path
	}
	return path, nil
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}
