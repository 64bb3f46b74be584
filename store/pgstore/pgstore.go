// Package pgstore keeps tasks in a Postgres database, for any number of engines and other processes on any number
// of machines.
//
// Operations that arrive while others are written are collected and written together, in one transaction of a few
// statements (rule P3). An operation that has returned is committed and on the server's disk, as far as the server's fsync
// and full_page_writes are on: see [Store.Warnings]. The store's clock is the database's.
//
// Everything is right without LISTEN and NOTIFY, by polling; advisory locks are not used.
package pgstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/rules"
)

// Store is a store in a Postgres database. Use [Open] or [New].
type Store struct {
	pool    *pgxpool.Pool   // for reads and notifications
	writes  *pgxpool.Pool   // for transactions that write
	beats   *pgxpool.Pool   // one connection, for heartbeats
	polls   *pgxpool.Pool   // one connection, for what a worker asks and claims
	owned   []*pgxpool.Pool // are closed with the store
	readers chan struct{}   // holds a token for each read on the pool
	texts   texts
	plain   bool   // the server does not tell its timeline
	forgets bool   // connections may not know what they have sent
	limit   string // how long a statement of a read may take, as Postgres' statement_timeout: readLimit
	servers servers
	commits commits
	opts    Options
	writer  *writer
	shared  shared
	news    *notifier
}

var (
	_ store.Store    = (*Store)(nil)
	_ store.Notifier = (*Store)(nil)
	_ store.Importer = (*Store)(nil)
	_ rules.Rows     = (*tx)(nil)
)

// Options change how a database is used. The zero value, and nil, are the defaults.
type Options struct {
	// Schema is the Postgres schema that holds the tables. Default: what the URL given to Open says with schema=NAME,
	// else "perdure".
	Schema string

	// Writers is how many batches of operations are written at the same time, each on a connection. Default 2.
	Writers int

	// Readers is how many reads, such as those of watchers and of HTTP requests, are made at the same time, each on a
	// connection. Others wait. Default 4.
	Readers int

	// PollOnly uses neither LISTEN nor NOTIFY: what other processes write is found by polling, within about a
	// second. For databases without them. That notifications do not arrive, as behind PgBouncer, is found out
	// without it.
	PollOnly bool

	// ListenURL is where the connection that hears notifications goes, for programs whose pool goes through a pooler
	// that does not pass them on. Default: the pool's database.
	ListenURL string

	// NoMigrate does not create or change tables, but fails when they are not of this program's schema version:
	// for programs whose database user may not. See [Migrate].
	NoMigrate bool

	// UnsafeNoSync leaves synchronous_commit as the role's or the database's default has it: where that is weaker than
	// on, an operation that has returned does not wait for the server's disk, or its standby's, and may be lost with
	// the server's last moments. Without it the store sets synchronous_commit to on for its transactions, unless the
	// default is remote_apply.
	UnsafeNoSync bool

	// UnsafeClock takes the place of the database's clock, for tests in virtual time. All that work on the tables
	// must have the same.
	UnsafeClock func() time.Time
}

func (o *Options) withDefaults() Options {
	opts := Options{}
	if o != nil {
		opts = *o
	}
	if opts.Schema == "" {
		opts.Schema = DefaultSchema
	}
	if opts.Writers <= 0 {
		opts.Writers = 2
	}
	if opts.Readers <= 0 {
		opts.Readers = 4
	}
	return opts
}

// DefaultSchema is the schema that is used unless another is named.
const DefaultSchema = "perdure"

// maxIdentifier is how many bytes Postgres keeps of a name.
const maxIdentifier = 63

// answerWithin is how long a server may take to accept a connection, unless the URL says connect_timeout, and to show
// that one still lives. A network that is cut without a word would else hold up one operation after the other.
const answerWithin = 5 * time.Second

// writeConns is how many connections a store writes over at most at once, beside heartbeats and claims: batches, operations
// that go alone, a sweep.
func (o *Options) writeConns() int { return o.Writers + aloneOps + againOps + 1 }

// readConns is how many connections a store reads and notifies over at most at once: reads, a notification, and a look
// whether notifications come.
func (o *Options) readConns() int { return o.Readers + 2 }

// Open connects to the database at url, a URL or a key=value string as pgx reads them, and creates or migrates the
// tables when needed. The URL may also say schema=NAME. ctx bounds the opening. It starts goroutines that live until
// Close.
//
// A store opens two pools: one of Options.Readers and two connections for reads and notifications, one of Options.Writers
// and five for what it writes; each of as many as the URL says with pool_max_conns, if it does. Beside them it opens two, so that
// nothing in a pool holds up a worker: one for heartbeats, one for what the worker asks for. With Listen comes one more.
//
// Behind a pooler in transaction mode, such as PgBouncer, the URL must say default_query_exec_mode=cache_describe.
func Open(ctx context.Context, url string, opts *Options) (*Store, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err) // pgx leaves out the password
	}
	given := opts.withDefaults()
	if named := takeSchema(config.ConnConfig); opts == nil || opts.Schema == "" {
		given.Schema = cmp.Or(named, DefaultSchema)
	}
	writing := config.Copy()
	if !saysMaxConns(url) {
		config.MaxConns, writing.MaxConns = int32(given.readConns()), int32(given.writeConns())
	}
	noticeDeath(&config.ConnConfig.Config)
	guard(&writing.ConnConfig.Config)
	for _, own := range []*pgxpool.Config{config, writing} {
		answersSoon(own)
		keepStatements(own)
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	writes, err := pgxpool.NewWithConfig(ctx, writing)
	if err != nil {
		pool.Close()
		return nil, fmt.Errorf("open store: %w", err)
	}
	return newStore(ctx, pool, writes, []*pgxpool.Pool{pool, writes}, &given)
}

// answersSoon bounds how long a server may take to accept a connection, and to show that one still lives.
func answersSoon(config *pgxpool.Config) {
	config.PingTimeout = answerWithin
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = answerWithin
	}
}

// takeSchema takes the schema out of what a URL says; the server does not know that parameter.
func takeSchema(config *pgx.ConnConfig) string {
	schema := config.RuntimeParams[schemaParam]
	delete(config.RuntimeParams, schemaParam)
	return schema
}

const schemaParam = "schema"

// New is Open on a pool of the caller's, which stays open when the store is closed. The store takes up to
// Options.Readers and two more connections from it at once, each for the time of one transaction: for reads and
// notifications. When its server turns out to be a standby, the connections of the pool are closed as they come back. What it writes goes over connections of its own, with the pool's configuration: up to Options.Writers
// and five, which are seven by default, and the two of heartbeats and of what a worker asks for. For pgx sends a request
// to cancel when the context of a commit ends or its connection breaks, and a server that waits for its standbys then
// shows what they do not have. The store's own connections send none. A caller whose transaction has an offer in it
// ([Store.OfferTx]) should commit that under a context that does not end, for the same reason.
func New(ctx context.Context, pool *pgxpool.Pool, opts *Options) (*Store, error) {
	given := opts.withDefaults()
	config := pool.Config()
	guard(&config.ConnConfig.Config)
	config.MaxConns = int32(given.writeConns())
	config.MinConns, config.MinIdleConns = 0, 0
	answersSoon(config)
	keepStatements(config)
	writes, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	return newStore(ctx, pool, writes, []*pgxpool.Pool{writes}, &given)
}

// newStore makes a store on pools, and closes those that are its own when that fails.
func newStore(ctx context.Context, pool, writes *pgxpool.Pool, owned []*pgxpool.Pool, opts *Options) (*Store, error) {
	s := &Store{pool: pool, writes: writes, owned: owned, opts: opts.withDefaults(), forgets: forgets(pool), limit: readLimit}
	s.texts.schema = s.opts.Schema
	s.servers.turn = make(chan struct{}, 1)
	var err error
	if len(s.opts.Schema) > maxIdentifier {
		err = fmt.Errorf("schema %q has more than %d bytes", s.opts.Schema, maxIdentifier)
	}
	if err == nil {
		err = s.openLanes(ctx)
	}
	if err == nil {
		err = s.prepare(ctx)
	}
	if err != nil {
		err = fmt.Errorf("open store %s: %w", s.where(), err)
		s.closePools()
		return nil, err
	}
	s.news = newNotifier(s)
	s.writer = newWriter(s)
	return s, nil
}

// openLanes opens the pools of one connection each.
func (s *Store) openLanes(ctx context.Context) (err error) {
	s.readers = make(chan struct{}, s.opts.Readers)
	for _, lane := range []**pgxpool.Pool{&s.beats, &s.polls} {
		config := s.writes.Config()
		config.MaxConns, config.MinConns, config.MinIdleConns = 1, 0, 0
		answersSoon(config)
		if *lane, err = pgxpool.NewWithConfig(ctx, config); err != nil {
			return err
		}
		s.owned = append(s.owned, *lane)
	}
	return nil
}

// where names the database in errors.
func (s *Store) where() string {
	c := s.pool.Config().ConnConfig
	return fmt.Sprintf("%s/%s schema %s", c.Host, c.Database, s.opts.Schema)
}

// Close ends the store's goroutines, after what is queued, and its connections. Commits that still wait for the server are left to
// it.
func (s *Store) Close() error {
	s.writer.close()
	s.news.stop()
	s.commits.close()
	s.closePools()
	return nil
}

func (s *Store) closePools() {
	for _, pool := range s.owned {
		pool.Close()
	}
}

// explain names the database in an error that is not an answer of the store.
func (s *Store) explain(err error) error {
	if err == nil || store.Definite(err) || err == context.Canceled || err == context.DeadlineExceeded {
		return err
	}
	return curable(err, fmt.Errorf("store %s: %w", s.where(), err))
}

// pgerrText says that a text cannot be stored: it has a NUL, or is not UTF-8. No row has it.
const pgerrText = "22021"

// explainRead is explain for reads: who looks for what cannot be stored does not find it.
func (s *Store) explainRead(err error) error {
	if answer, ok := errors.AsType[*pgconn.PgError](err); ok && answer.Code == pgerrText {
		return store.ErrNotFound
	}
	if ofContent(err) {
		return s.contentError(err)
	}
	return s.explain(err)
}

// request is a request of one of the store's operations.
type request interface{ Valid() error }

// write has a writer run one operation. Its request is looked at before anything is read for it: the database would refuse
// its batch.
func write[T any](ctx context.Context, s *Store, o *op, req request, f func(rules.Rows, time.Time) (T, error)) (T, error) {
	var out, none T
	if err := req.Valid(); err != nil {
		return none, err
	}
	o.ctx = ctx
	o.run = func(t *tx) (err error) {
		out, err = f(t, t.now)
		return err
	}
	if err := s.writer.do(o); err != nil {
		return none, s.explain(err)
	}
	return out, nil
}

// Offer implements store.Store.
func (s *Store) Offer(ctx context.Context, req *store.OfferRequest) (*store.Offered, error) {
	o := &op{id: req.TaskID, offer: req, waits: !req.Lease, size: len(req.Input)}
	return write(ctx, s, o, req, func(r rules.Rows, now time.Time) (*store.Offered, error) {
		return rules.Offer(r, now, req)
	})
}

// Checkpoint implements store.Store.
func (s *Store) Checkpoint(ctx context.Context, req *store.CheckpointRequest) (*store.Checkpointed, error) {
	o := &op{key: req.Lease.Incarnation, size: bytesOf(req.Metadata, req.Events)}
	return write(ctx, s, o, req, func(r rules.Rows, now time.Time) (*store.Checkpointed, error) {
		return rules.Checkpoint(r, now, req)
	})
}

// Settle implements store.Store.
func (s *Store) Settle(ctx context.Context, req *store.SettleRequest) (*store.Settled, error) {
	o := &op{
		key: req.Lease.Incarnation, settle: req, size: len(req.Output) + bytesOf(req.Metadata, req.Events),
		waits: req.Kind == store.SettleRetry || req.Kind == store.SettleRelease || req.IfQueued,
	}
	return write(ctx, s, o, req, func(r rules.Rows, now time.Time) (*store.Settled, error) {
		return rules.Settle(r, now, req)
	})
}

func bytesOf(changes []store.Change, events [][]byte) int {
	n := 0
	for _, c := range changes {
		n += len(c.Key) + len(c.Value)
	}
	for _, e := range events {
		n += len(e)
	}
	return n
}

// Signal implements store.Store.
func (s *Store) Signal(ctx context.Context, req *store.SignalRequest) (*store.Signalled, error) {
	o := &op{id: req.TaskID, request: req.RequestID, waits: req.Kind == store.Resume}
	return write(ctx, s, o, req, func(r rules.Rows, now time.Time) (*store.Signalled, error) { return rules.Signal(r, now, req) })
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, req *store.DeleteRequest) (*store.Removed, error) {
	o := &op{id: req.TaskID, request: req.RequestID}
	if !store.ValidText(o.id) {
		return &store.Removed{}, nil // there is no such task to remove
	}
	return write(ctx, s, o, req, func(r rules.Rows, now time.Time) (*store.Removed, error) { return rules.Delete(r, now, req) })
}

// Import implements store.Importer.
func (s *Store) Import(ctx context.Context, req *store.ImportRequest) (*store.Imported, error) {
	return write(ctx, s, &op{id: req.TaskID}, req, func(r rules.Rows, now time.Time) (*store.Imported, error) {
		return rules.Import(r, now, req)
	})
}

// Claim implements store.Store.
func (s *Store) Claim(ctx context.Context, req *store.ClaimRequest) (*store.Claimed, error) {
	return beside(ctx, s, s.polls, &op{worker: req.Worker}, req, func(r rules.Rows, now time.Time) (*store.Claimed, error) {
		return rules.Claim(r, now, req)
	})
}

// Heartbeat implements store.Store.
func (s *Store) Heartbeat(ctx context.Context, req *store.HeartbeatRequest) (*store.Beat, error) {
	return beside(ctx, s, s.beats, &op{worker: req.Worker, beat: req}, req, func(r rules.Rows, now time.Time) (*store.Beat, error) {
		return rules.Heartbeat(r, now, req)
	})
}

// noTexts is a request that has none.
type noTexts struct{}

func (noTexts) Valid() error { return nil }

// Sweep implements store.Store.
func (s *Store) Sweep(ctx context.Context, limit int) (*store.Swept, error) {
	return beside(ctx, s, s.writes, &op{}, noTexts{}, func(r rules.Rows, now time.Time) (*store.Swept, error) {
		return rules.Sweep(r, now, limit)
	})
}

func saysMaxConns(url string) bool { return strings.Contains(url, "pool_max_conns") }
