package stores

import (
	"context"
	"net"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

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
		"a pooler's own trouble":   {refusal("08P01"), true},
		"a wrong password":         {refusal("28P01"), false},
		"no such user":             {refusal("28000"), false},
		"no such database":         {refusal("3D000"), false},
		"a right that is missing":  {refusal("42501"), false},
		"a URL that is none":       {"postgres://x:y:z", false},
		"an unknown setting":       {"postgres://127.0.0.1:1/x?sslmode=maybe", false},
		"a file in no folder":      {"/no/such/folder/x.db", false},
	} {
		_, err := Open(context.Background(), c.db, nil)
		if err == nil || Absent(err) != c.want {
			t.Errorf("%s: absent is %v for %v, want %v", what, !c.want, err, c.want)
		}
	}
}
