package pgstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/perdure/perdure/store"
)

// A server that starts shows what it had committed before, whether its standbys have it or not. If they do not, a failover takes
// it back. So what a server shows is not told, and nothing is decided by it, until a commit of this process has been confirmed by
// the standbys: the log has an order, and they then have all that could be seen before.

// serverName names a server from one start to the next, and from one promotion to the next: by the start of its first process,
// the last reset of its statistics (a crash of one process resets them, and starts all others again), and its timeline. It
// is empty for a standby.
const serverName = `CASE WHEN pg_is_in_recovery() THEN '' ELSE concat_ws(' ', extract(epoch FROM pg_postmaster_start_time()),
	extract(epoch FROM pg_stat_get_bgwriter_stat_reset_time()), left(pg_walfile_name(pg_current_wal_lsn()), 8)) END`

const (
	sqlClock       = `SELECT ` + clockNow + `, ` + serverName
	sqlWhichServer = `SELECT ` + serverName
	clockNow       = `(extract(epoch FROM clock_timestamp()) * 1000000)::bigint`
	// plainName is for servers that do not tell that much.
	plainName     = `CASE WHEN pg_is_in_recovery() THEN '' ELSE extract(epoch FROM pg_postmaster_start_time())::text END`
	sqlClockPlain = `SELECT ` + clockNow + `, ` + plainName
	sqlWhichPlain = `SELECT ` + plainName
	// sqlTimeline names the history that a server continues.
	sqlTimeline = `SELECT concat((SELECT system_identifier FROM pg_control_system()), ' ', left(pg_walfile_name(pg_current_wal_lsn()), 8))`
	// sqlNoteTimeline notes since when there is this timeline: unknown for the first.
	sqlNoteTimeline = `INSERT INTO perdure.timeline AS t (timeline, since) VALUES ($1, 0) ON CONFLICT (only_row)
		DO UPDATE SET timeline = excluded.timeline, since = $2 WHERE t.timeline <> excluded.timeline`
	sqlSince        = `SELECT timeline, since FROM perdure.timeline WHERE only_row`
	sqlBarrier      = `SELECT pg_logical_emit_message(true, 'perdure', '')`
	sqlBarrierPlain = `UPDATE perdure.timeline SET since = since WHERE only_row`
)

// either is one statement, or another one for servers that do not tell their timeline.
func (s *Store) either(sql, plain string) string {
	if s.plain {
		sql = plain
	}
	return s.sql(sql)
}

// meet asks which server answers, and finds out whether it does not know what is asked of others.
func (s *Store) meet(ctx context.Context, conn *pgx.Conn) (server string, err error) {
	err = conn.QueryRow(ctx, sqlWhichServer).Scan(&server)
	if err == nil && server != "" {
		var timeline string
		err = conn.QueryRow(ctx, sqlTimeline).Scan(&timeline)
	}
	answer, refused := errors.AsType[*pgconn.PgError](err)
	if refused && (strings.HasPrefix(answer.Code, "42") || answer.Code == pgerrUnsupported) {
		s.plain = true
		err = conn.QueryRow(ctx, sqlWhichPlain).Scan(&server)
	}
	return server, err
}

var errStandby = errors.New("the server is a standby, which may not know what was acknowledged: " +
	"say target_session_attrs=read-write in the URL, and name all servers there")

// unproven says that what a server shows may not be told yet.
type unproven struct{ server string }

func (e *unproven) Error() string {
	return "what the server shows has not been confirmed by its standbys"
}

// servers are those whose standbys have confirmed what they show.
type servers struct {
	turn chan struct{} // is held by who asks for a confirmation

	mu     sync.RWMutex
	proven map[string]time.Time // since when there is their timeline
	doubts int                  // how often one has been forgotten
	last   string
}

// maxProven is how many are remembered.
const maxProven = 16

// since returns since when there is the timeline of a server, if that is proven.
func (v *servers) since(server string) (since time.Time, proven bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	since, proven = v.proven[server]
	return since, proven
}

// doubted returns how often a server has been forgotten.
func (v *servers) doubted() int {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.doubts
}

// add notes that a server is proven, by what began when there were so many doubts. A doubt that has come since may be about what
// was not there yet.
func (v *servers) add(server string, since time.Time, doubts int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.doubts != doubts {
		return
	}
	if v.proven == nil || len(v.proven) >= maxProven {
		v.proven = map[string]time.Time{}
	}
	v.proven[server], v.last = since, server
}

// met returns the server that was proven last.
func (v *servers) met() string {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.last
}

// forget has a server be proven again before it is believed.
func (v *servers) forget(server string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.doubts++
	delete(v.proven, server)
}

// extended is when a worker's lease ends (A change of the timeline may have changed the clock by which it was given):
// not before its length has passed since then.
func extended(w *store.Worker, since time.Time) time.Time {
	if since.IsZero() {
		return w.ExpiresAt
	}
	if end := since.Add(w.ExpiresAt.Sub(w.BeatAt)); end.After(w.ExpiresAt) {
		return end
	}
	return w.ExpiresAt
}

// believe returns since when there is the timeline of a server that answers, and proves it if need be.
func (s *Store) believe(ctx context.Context, server string) (since time.Time, err error) {
	if server == "" {
		return since, errStandby
	}
	if since, proven := s.servers.since(server); proven {
		return since, nil
	}
	if err := s.prove(ctx, server); err != nil {
		return since, err
	}
	since, proven := s.servers.since(server)
	if !proven {
		return since, &unproven{server} // another one answered, or what it shows is in doubt again
	}
	return since, nil
}

// unconfirmed says why what a server shows could not be confirmed. Whatever it was, such as a lock that another one who asks
// for it holds, it is about no operation.
type unconfirmed struct{ err error }

func (e *unconfirmed) Error() string {
	return fmt.Sprintf("what the server shows is not confirmed by its standbys: %v", e.err)
}

// Is finds what those who run the database can cure.
func (e *unconfirmed) Is(target error) bool {
	return (target == errStandby || target == errWaiting) && errors.Is(e.err, target)
}

// prove has the standbys of the server that answers confirm all that it shows, unless the named one is proven meanwhile. The
// error is an *unconfirmed.
func (s *Store) prove(ctx context.Context, server string) (err error) {
	defer func() {
		if err != nil {
			err = &unconfirmed{err}
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, batchTime)
	defer cancel()
	select {
	case s.servers.turn <- struct{}{}:
		defer func() { <-s.servers.turn }()
	case <-ctx.Done():
		return unanswered(ctx.Err())
	}
	if _, proven := s.servers.since(server); proven {
		return nil
	}
	conn, err := s.connection(ctx, ctx, s.writes)
	if err != nil {
		return err
	}
	t := s.newTx(ctx, conn.Conn(), direct)
	b, timeline, noted, since := t.opening(), "", "none", time.Time{}
	t.queueClock(b)
	b.Queue(s.sql(sqlSince)).Query(each(func(rows pgx.Rows) error { return rows.Scan(&noted, (*instant)(&since)) }))
	if !s.plain {
		b.Queue(s.sql(sqlTimeline)).QueryRow(func(row pgx.Row) error { return row.Scan(&timeline) })
	}
	if err := t.sendFirst(b); err != nil || t.server == "" {
		s.release(conn, errors.Join(err, standby(t.server)))
		return unanswered(errors.Join(err, standby(t.server)))
	}
	doubts := s.servers.doubted()
	b = &pgx.Batch{}
	if noted != timeline { // who notes it has the row until its commit is confirmed
		b.Queue(s.sql(sqlNoteTimeline), timeline, micros(t.now))
		b.Queue(s.sql(sqlSince)).QueryRow(func(row pgx.Row) error { return row.Scan(&timeline, (*instant)(&since)) })
	}
	b.Queue(s.either(sqlBarrier, sqlBarrierPlain))
	if err := s.commit(ctx, conn, t.server, b, &news{}); err != nil {
		return err
	}
	s.servers.add(t.server, since, doubts)
	s.commits.leave(t.server)
	return nil
}

func standby(server string) error {
	if server == "" {
		return errStandby
	}
	return nil
}

// whichServer asks which server answers.
func (s *Store) whichServer(ctx context.Context) (server string, err error) {
	conn, err := s.writes.Acquire(ctx)
	if err != nil {
		return "", unanswered(err)
	}
	err = conn.QueryRow(ctx, s.either(sqlWhichServer, sqlWhichPlain)).Scan(&server)
	err = errors.Join(err, standby(server))
	s.release(conn, err)
	return server, unanswered(err)
}

// pgerrUnsupported is what a standby says, beside pgerrReadOnly, to whoever wants to write.
const pgerrUnsupported = "0A000"

// ofStandby reports whether an error says that a server is a standby.
func ofStandby(err error) bool {
	if errors.Is(err, errStandby) {
		return true
	}
	answer, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return false
	}
	return answer.Code == pgerrReadOnly || answer.Code == pgerrUnsupported &&
		slices.Contains([]string{"check_XactReadOnly", "check_transaction_read_only"}, answer.Routine)
}

// judge takes what the clock's statement has told of the server: nothing is decided by what an unproven one shows. In a
// transaction of a caller's, what has been read is proven now.
func (t *tx) judge() (err error) {
	if err := standby(t.server); err != nil {
		return err
	}
	since, proven := t.s.servers.since(t.server)
	switch {
	case proven:
		t.since = since
	case t.others:
		t.since, err = t.s.believe(t.ctx, t.server)
	default:
		err = &unproven{t.server}
	}
	return err
}

// reconsidered sees to what keeps a transaction from being applied and another try may find otherwise.
func (s *Store) reconsidered(ctx context.Context, err error) error {
	var failed error
	if e, ok := errors.AsType[*unproven](err); ok {
		failed = s.prove(ctx, e.server)
	} else if reused(err) {
		failed = s.renumber(ctx)
	}
	if failed != nil {
		return failed
	}
	return err
}
