package stores

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// reachWithin bounds how long a database server may take for a connection, and then for an answer, unless the URL says
// connect_timeout.
const reachWithin = 5 * time.Second

// Reach returns nil if the database at a URL, which [IsPostgres], lets in who asks and answers before ctx ends. Other
// errors are as those of [Open]: see [Absent].
func Reach(ctx context.Context, url string) error {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return Redacted(fmt.Errorf("open store: %w", err))
	}
	delete(config.ConnConfig.RuntimeParams, "schema") // which the server does not know
	config.ConnConfig.ConnectTimeout = cmp.Or(config.ConnConfig.ConnectTimeout, reachWithin)
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig)
	if err != nil {
		return Redacted(fmt.Errorf("open store: %w", err))
	}
	defer conn.Close(ctx)
	ctx, cancel := context.WithTimeout(ctx, reachWithin)
	defer cancel()
	if err := conn.Ping(ctx); err != nil { // a pooler lets in while its server is away
		return Redacted(fmt.Errorf("open store: %w", err))
	}
	return nil
}

// Malformed reports whether an error is that what db says cannot be understood: a setting of the URL, or what it names.
func Malformed(err error) bool {
	_, ok := errors.AsType[*pgconn.ParseConfigError](err)
	return ok
}

// Absent reports whether an error of [Open] may go away by itself: nobody answers yet, the database server is
// starting, stopping or full, or somebody has locked a table. A wrong password, a database that does not exist, a certificate that is not trusted
// and a URL that cannot be read are there until somebody does something.
func Absent(err error) bool {
	if answer, ok := errors.AsType[*pgconn.PgError](err); ok {
		return slices.Contains([]string{"57P01", "57P02", "57P03", "53300", "55P03"}, answer.Code) || strings.HasPrefix(answer.Code, "08")
	}
	if Malformed(err) {
		return false
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok || errors.Is(err, fs.ErrPermission) {
		return false
	}
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return true
	}
	return pgconn.Timeout(err) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.DeadlineExceeded)
}
