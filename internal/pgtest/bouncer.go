package pgtest

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/perdure/perdure/internal/need"
)

// Bouncer starts a PgBouncer in transaction mode in front of the server at a URL, and returns the URL to use instead. settings are
// lines of its configuration.
func Bouncer(t testing.TB, server string, settings ...string) string {
	t.Helper()
	bin := need.Program(t, "pgbouncer", "/usr/sbin/pgbouncer")
	dir, err := os.MkdirTemp("", "pgbouncer-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	config, err := bouncerConfig(server, port)
	for _, line := range settings {
		config += line + "\n"
	}
	if err != nil {
		t.Fatal(err)
	}
	ini := filepath.Join(dir, "pgbouncer.ini")
	if err := os.WriteFile(ini, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	cred, err := unprivileged()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "-q", ini)
	cmd.SysProcAttr = runAs(cred)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	u := &url.URL{Scheme: "postgres", User: url.User("perdure"), Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), Path: "/perdure",
		RawQuery: "sslmode=disable&default_query_exec_mode=cache_describe"}
	answers(t, u.String())
	return u.String()
}

// bouncerConfig lets everybody in, as the user of the server's URL. Few connections to the server serve many clients,
// so that clients change between them.
func bouncerConfig(server string, port int) (string, error) {
	c, err := pgx.ParseConfig(server)
	if err != nil {
		return "", err
	}
	password := ""
	if c.Password != "" {
		password = " password=" + c.Password
	}
	return fmt.Sprintf(`[databases]
perdure = host=%s port=%d dbname=%s user=%s%s

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
auth_type = any
pool_mode = transaction
default_pool_size = 5
max_client_conn = 200
unix_socket_dir =
`, c.Host, c.Port, c.Database, c.User, password, port), nil
}

// answers waits until a server answers.
func answers(t testing.TB, at string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), answerWithin)
	defer cancel()
	for {
		err := execute(at, "SELECT 1")
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s does not answer: %v", at, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
