package stores

import (
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

func TestWhatCannotBeUnderstoodOfAURLIsMalformedAndShowsNoPassword(t *testing.T) {
	for _, db := range []string{
		"postgres://u:s3cret@h/x?sslmode=maybe", "postgres://u:s3cret@h:port/x", "postgres://h/x?password=s3cret&connect_timeout=soon",
		"postgres://u:s3cret@h/x?pool_max_conns=many", "postgres://u:s3cret@h/x?pool_max_conns=0", "postgres://u:s3cret@h/x?target_session_attrs=best",
		"postgres://u:s3cret@h/x?sslrootcert=/no/such/file&sslmode=verify-ca", "postgres://u:s3cret@h/x?statement_cache_capacity=x",
		"postgres://u:s3cret@h/x?default_query_exec_mode=slowly", "postgres://u:%zzs3cret@h/x", "postgres://u@h/x?pass%77ord=s3cret&sslmode=x",
	} {
		_, err := Open(t.Context(), db, nil)
		for how, err := range map[string]error{"opened": err, "reached": Reach(t.Context(), db)} {
			if !Malformed(err) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("%s %s: got %v, want that it is malformed, and no password", db, how, err)
			}
		}
	}
}

// answering returns the URL of a database server that gives everybody one answer, and hangs up.
func answering(t *testing.T, answer ...pgproto3.BackendMessage) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			back := pgproto3.NewBackend(conn, conn)
			if _, err := back.ReceiveStartupMessage(); err == nil {
				for _, m := range answer {
					back.Send(m)
				}
				back.Flush()
			}
			conn.Close()
		}
	}()
	return "postgres://u:s3cret@" + l.Addr().String() + "/x?sslmode=disable"
}

func TestOnlyWhatMayGoAwayByItselfIsWaitedFor(t *testing.T) {
	refusal := func(code string) string {
		return answering(t, &pgproto3.ErrorResponse{Severity: "FATAL", Code: code, Message: "no"})
	}
	for what, c := range map[string]struct {
		db   string
		want bool
	}{
		"nobody listens":           {"postgres://127.0.0.1:1/x", true},
		"a name that is not there": {"postgres://nowhere.invalid/x", true},
		"a hang-up":                {answering(t), true},
		"it starts":                {refusal("57P03"), true},
		"it stops":                 {refusal("57P01"), true},
		"it is full":               {refusal("53300"), true},
		"a table is locked":        {refusal("55P03"), true},
		"a pooler's own trouble":   {refusal("08P01"), true},
		"a wrong password":         {refusal("28P01"), false},
		"no such user":             {refusal("28000"), false},
		"no such database":         {refusal("3D000"), false},
		"a right that is missing":  {refusal("42501"), false},
		"a URL that is none":       {"postgres://x:y:z", false},
		"an unknown setting":       {"postgres://127.0.0.1:1/x?sslmode=maybe", false},
		"a file in no folder":      {"/no/such/folder/x.db", false},
	} {
		_, err := Open(t.Context(), c.db, nil)
		if err == nil || Absent(err) != c.want {
			t.Errorf("%s: absent is %v for %v, want %v", what, !c.want, err, c.want)
		}
		if !IsPostgres(c.db) {
			continue
		}
		if err := Reach(t.Context(), c.db); err == nil || Absent(err) != c.want || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: reached: absent is %v for %v, want %v", what, !c.want, err, c.want)
		}
	}
}
