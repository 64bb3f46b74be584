package stores

import (
	"errors"
	"strings"
	"testing"
)

func TestWhatIsNoFileAndNoPostgresIsRefusedWithoutBeingRepeated(t *testing.T) {
	for db, hint := range map[string]string{
		"host=127.0.0.1 port=1 user=u password=s3cret dbname=x":    "host=…",
		"dbname=x password='s3 cret'":                              "dbname=…",
		"Server=tcp:h,1433;Initial Catalog=x;User ID=u;Pwd=s3cret": "Server=…",
		"mysql://u:s3cret@h/db":                                    "not with mysql://",
		"redis://:s3cret@h:6379/0":                                 "not with redis://",
		"postgresql+psycopg://u:s3cret@h/db":                       "not with postgresql+psycopg://",
		"pg://u:s3cret@h/db":                                       "not with pg://",
		"POSTGRES://u:s3cret@h/db":                                 "begins with postgres://",
		"postgres:u:s3cret@h/db":                                   "not with postgres:",
		"jdbc:postgresql://h/db?user=u&password=s3cret":            "not with jdbc:",
		"sqlite:///s3cret.db":                                      "leave out sqlite:",
		"sqlite3:s3cret.db":                                        "leave out sqlite3:",
		"u:s3cret@tcp(127.0.0.1:3306)/db":                          "USER:PASSWORD@HOST",
		"u:s3/cret@localhost/db":                                   "USER:PASSWORD@HOST",
		"file:x.db?mode=ro&_auth_user=u&_auth_pass=s3cret":         "parameters",
		"file://elsewhere/s3cret.db":                               "must not name a machine",
		"file:%zz-s3cret":                                          "%XX",
		"file:":                                                    "names no file",
		"postgres//u:s3cret@h/x":                                   "lost the beginning",
		"//u:s3cret@h/x":                                           "lost the beginning",
		"h:5432:x:u:s3cret":                                        ".pgpass",
		"s3cret p://x":                                             "begins with postgres://",
		"postgres://u:p@s3cret/w@h/db":                             "not a valid URL",
		"postgres://u:1#s3cret@h/db":                               "not a valid URL",
		"postgres://u:1?s3cret@h/db":                               "not a valid URL",
		"postgres://u:s3cret:x@h:y:z":                              "not a valid URL",
		"":                                                         "must not be empty",
	} {
		got, err := Resolve(db)
		if err == nil {
			t.Errorf("%q was taken for %q", db, got)
			continue
		}
		if text := err.Error(); strings.Contains(text, "s3") || strings.Contains(text, "cret") || !strings.Contains(text, hint) {
			t.Errorf("%q: %q, want %q and no part of the secret in it", db, text, hint)
		}
	}
}

func TestPathsAndURLsAreTakenAsTheyAreMeant(t *testing.T) {
	for db, want := range map[string]string{
		"perdure.db":                       "perdure.db",
		"a folder/my tasks.db":             "a folder/my tasks.db",
		"/data/user=5/tasks.db":            "/data/user=5/tasks.db",
		"./host=x":                         "./host=x",
		"../a:b@c":                         "../a:b@c",
		`C:\data\tasks.db`:                 `C:\data\tasks.db`,
		"C:/data/tasks.db":                 "C:/data/tasks.db",
		"backup-12:30.db":                  "backup-12:30.db",
		"year=2026.db":                     "year=2026.db",
		"file:tasks.db":                    "./tasks.db",
		"file:mysql%3a.db":                 "./mysql:.db",
		"FILE:///var/lib/my%20tasks.db":    "/var/lib/my tasks.db",
		"file://localhost/var/lib/t.db#x":  "/var/lib/t.db",
		"postgres://u:pw@h/db?schema=x":    "postgres://u:pw@h/db?schema=x",
		"postgresql://h,h2/db?password=pw": "postgresql://h,h2/db?password=pw",
	} {
		got, err := Resolve(db)
		if err != nil || got != want {
			t.Errorf("%q: got %q, %v, want %q", db, got, err, want)
		}
		if again, err := Resolve(got); err != nil || again != got {
			t.Errorf("%q: what it was resolved to is resolved to %q, %v", db, again, err)
		}
	}
}

func TestNoPasswordIsShown(t *testing.T) {
	for _, db := range []string{
		"postgres://u:s3cret@h/db", "postgres://h/db?user=u&password=s3cret", "postgres://h/db?sslpassword=s3cret",
		"postgres://u:%zzs3cret@h/db", "postgres://u:s3cret:x@h:y:z",
		"postgres://h/db?options=-c%20x.password%3Ds3cret",
	} {
		if got := Name(db); strings.Contains(got, "s3cret") || !strings.HasPrefix(got, "postgres://") {
			t.Errorf("the name of %q is %q", db, got)
		}
	}
	for _, text := range []string{
		`unknown command "mysql://u:s3cret@h/db" for "perdure serve"`, `parse "http://u:p@s3cret@h:x": invalid port`, "redis://:s3cret@h",
		"password=s3cret host=h", "PGPASSWORD = 's3 s3cret'", "?api_key=s3cret&x=1", "u:s3cret@tcp(h)/db", "Pwd=s3cret;x=1",
	} {
		got := Redact(text)
		if strings.Contains(got, "s3cret") || !strings.Contains(got, hidden) {
			t.Errorf("of %q is shown %q", text, got)
		}
		if err := Redacted(errors.New(text)); err.Error() != got {
			t.Errorf("an error is shown as %q, want %q", err, got)
		}
	}
	if text := `--url nonsense: it must be the URL of a server, such as http://127.0.0.1:8088`; Redact(text) != text {
		t.Errorf("got %q", Redact(text))
	}
}
