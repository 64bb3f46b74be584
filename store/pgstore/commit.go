package pgstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Bounds of commits for which nobody waits any more.
const (
	lateCommits = 4                // with so many nothing more is begun at the same server
	lateLimit   = 10 * time.Minute // after that they are left to the server alone
)

var (
	errLate    = errors.New("no answer in time: the commit is under way, or waits for the server's standbys")
	errWarned  = errors.New("the server has ended the wait for its standbys: they may not have what was committed")
	errWaiting = errors.New("commits wait for the server's standbys")
)

// commits are those whose time for an answer was up. Each goes on, on a connection that is not its pool's any more: to cancel
// it, or to begin another one in its place, would not make the server faster.
type commits struct {
	mu     sync.Mutex
	late   map[*pgx.Conn]string // the server of each
	closed bool
	wg     sync.WaitGroup
}

// commit sends the last statements of a transaction, and gives its connection back. Within ctx it tells what became of it;
// afterwards the commit goes on, and is unknown.
func (s *Store) commit(ctx context.Context, pooled *pgxpool.Conn, server string, b *pgx.Batch, told *news) error {
	conn := pooled.Conn()
	b.Queue(sqlCommit)
	ended := make(chan error, 1)
	go func() { ended <- s.outcome(server, conn, b) }()
	select {
	case err := <-ended:
		s.release(pooled, err)
		if err == nil {
			s.news.add(told)
		}
		return err
	case <-ctx.Done():
	}
	pooled.Hijack()
	s.commits.add(conn, server, func() {
		if <-ended == nil {
			s.news.add(told)
		}
		hangUp(conn)
	})
	return errLate
}

// outcome commits. The context does not end: when one does, pgx gives up the connection.
func (s *Store) outcome(server string, conn *pgx.Conn, b *pgx.Batch) error {
	err := conn.SendBatch(context.Background(), b).Close()
	if warned := tookWarning(conn.PgConn()); warned {
		err = errors.Join(errWarned, err)
	}
	if err != nil && !rolledBack(err) {
		s.servers.forget(server) // others may see what its standbys do not have
	}
	return err
}

// rolledBack reports whether the server has answered that it did not commit, and lives on.
func rolledBack(err error) bool {
	answer, ok := errors.AsType[*pgconn.PgError](err)
	return ok && !errors.Is(err, errWarned) && (answer.SeverityUnlocalized == "ERROR" || answer.Severity == "ERROR")
}

// release gives a connection back after a transaction.
func (s *Store) release(conn *pgxpool.Conn, err error) {
	if err != nil {
		rollback(conn.Conn())
	}
	conn.Release()
	if ofStandby(err) {
		s.reset()
	}
}

// reset closes connections, as they are given back: they lead to a server that is none any more, or not yet.
func (s *Store) reset() {
	for _, pool := range []*pgxpool.Pool{s.pool, s.writes, s.beats, s.polls} {
		pool.Reset()
	}
}

// add has a commit wait for its end. After close it hangs up, and waits itself, for that is soon.
func (c *commits) add(conn *pgx.Conn, server string, wait func()) {
	if !c.adds(conn, server, wait) {
		conn.PgConn().Conn().Close()
		wait()
	}
}

// adds is add; it reports false, and does nothing, after close.
func (c *commits) adds(conn *pgx.Conn, server string, wait func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	if c.late == nil {
		c.late = map[*pgx.Conn]string{}
	}
	c.late[conn] = server
	limit := time.AfterFunc(lateLimit, func() { conn.PgConn().Conn().Close() })
	c.wg.Go(func() {
		wait()
		limit.Stop()
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.late, conn)
	})
	return true
}

// waiting returns how many commits wait, all or at one server.
func (c *commits) waiting(server string) (all, there int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, at := range c.late {
		if at == server {
			there++
		}
	}
	return len(c.late), there
}

// leave hangs up on what waits at other servers than this one.
func (c *commits) leave(server string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn, at := range c.late {
		if at != server {
			conn.PgConn().Conn().Close()
		}
	}
}

// close hangs up on all that waits.
func (c *commits) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.leave("")
	c.wg.Wait()
}

// mayBegin reports an error if nothing is to be begun, because commits wait at the server that answers now. What waits at another
// one, which has been replaced, is given up.
func (s *Store) mayBegin(ctx context.Context) error {
	if all, _ := s.commits.waiting(""); all < lateCommits {
		return nil
	}
	asking, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	server, err := s.whichServer(asking)
	if err != nil {
		return err
	}
	if _, there := s.commits.waiting(server); there > 0 {
		return fmt.Errorf("%d %w: nothing is acknowledged until one has what was committed", there, errWaiting)
	}
	s.commits.leave(server)
	return nil
}
