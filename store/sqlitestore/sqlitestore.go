// Package sqlitestore keeps tasks in one SQLite file. It is the default store of a single machine: one
// engine at a time (rule O5), any number of other processes that offer, signal and read.
//
// An operation that has returned is synced to the disk, and in the files of the names: when these have been removed,
// moved or replaced, every operation fails until the process is restarted. On Linux, on a local disk, it is the same when
// they have been cut or written over. Operations that arrive while a commit runs are committed together, with one sync
// (rule P3).
//
// A program must not open the files of its own store in any other way (see [Store.View]).
package sqlitestore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/rules"
)

// Store is a store in a SQLite file. Use [Open].
type Store struct {
	path   string // absolute, symbolic links resolved
	opts   Options
	names  *names
	anchor *anchor // nil where the file has no locks of ours
	sole   *atomic.Bool
	clock  *rules.Clock
	writer *writer // nil when read-only
	pool   *pool

	closing sync.Once
}

var (
	_ store.Store     = (*Store)(nil)
	_ store.Exclusive = (*Store)(nil)
	_ store.Notifier  = (*Store)(nil)
	_ store.Importer  = (*Store)(nil)
	_ rules.Rows      = (*conn)(nil)
)

// Options change how a file is opened. The zero value, and nil, are the defaults.
type Options struct {
	// ReadOnly opens an existing file for reading. Operations that write fail.
	ReadOnly bool

	// UnsafeNoSync does not wait for the disk at every commit (synchronous=NORMAL). What was acknowledged
	// survives the death of the process, but may be lost when the machine goes down.
	UnsafeNoSync bool

	// BusyTimeout is how long to wait for another process that writes. Default 10 s.
	BusyTimeout time.Duration

	// UnsafeClock is the wall clock, for tests in virtual time. Default time.Now.
	UnsafeClock func() time.Time

	// Readers is how many reads run at once, each on a connection of its own. Default 4.
	Readers int

	// AllowNetworkFS opens a file on a network file system (NFS, SMB), which is refused otherwise: the locks that keep
	// two engines, and two writers, apart do not hold there.
	AllowNetworkFS bool

	// Logger is told of what happens to the file while it is open: that it has lost its name, or got another.
	// Default slog.Default.
	Logger *slog.Logger

	filesystem func(path string) (name string, err error) // of the operating system; tests have their own
}

func (o *Options) withDefaults() Options {
	opts := Options{}
	if o != nil {
		opts = *o
	}
	if opts.BusyTimeout <= 0 {
		opts.BusyTimeout = 10 * time.Second
	}
	if opts.Readers <= 0 {
		opts.Readers = 4
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	if opts.filesystem == nil {
		opts.filesystem = filesystem
	}
	return opts
}

// Open opens the store in the file at path, which it creates, or migrates to the current schema, when
// needed; ctx bounds the opening. It starts a goroutine that lives until Close.
func Open(ctx context.Context, path string, opts *Options) (*Store, error) {
	s, err := open(ctx, path, opts.withDefaults())
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	if s.writer != nil {
		go s.writer.loop()
	}
	return s, nil
}

func open(ctx context.Context, path string, opts Options) (*Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := check(path, opts); err != nil {
		return nil, err
	}
	s := &Store{opts: opts, sole: new(atomic.Bool), clock: &rules.Clock{Wall: opts.UnsafeClock}}
	before, _, missing := identifyFile(path)
	c, err := connect(path, opts, opts.ReadOnly, s.sole)
	if err != nil {
		return nil, err
	}
	if err := prepare(c, path, opts); err != nil {
		c.close()
		return nil, err
	}
	if err := s.guard(path); err != nil {
		return nil, errors.Join(err, c.close(), s.anchor.close())
	}
	if missing == nil && before != s.names.files[0].id {
		return nil, errors.Join(errors.New("it was replaced while it was being opened"), c.close(), s.anchor.close())
	}
	s.pool = newPool(opts.Readers, s.connectReader)
	if opts.ReadOnly {
		s.pool.add(c)
		return s, nil
	}
	s.writer = newWriter(c, s.clock, s.names)
	return s, nil
}

// connectReader opens a connection that reads, to the file that is open already.
func (s *Store) connectReader() (*conn, error) {
	c, err := connect(s.path, s.opts, true, s.sole)
	lost := s.names.look()
	if lost != nil && c != nil {
		c.close()
	}
	return c, cmp.Or(lost, err)
}

// guard begins to watch over what SQLite has opened, and keeps it from being taken for a file that nobody uses.
func (s *Store) guard(path string) (err error) {
	given, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if s.path, err = filepath.EvalSymlinks(given); err != nil {
		return err
	}
	if s.names, err = watchNames(given, s.path, s.opts.Logger); err != nil {
		return err
	}
	if _, on := groundOf(s.path, s.opts.filesystem); on == local && s.names.has(suffixLog) {
		if s.anchor, err = takeAnchor(s.names); err != nil {
			return err
		}
		s.names.anchor = s.anchor
	}
	return s.names.look() // that nothing was put in its place meanwhile
}

// Close ends the writer's goroutine, after what is queued, and closes the file. It returns an error when the file has
// lost its name while it was open. It may be called more than once.
func (s *Store) Close() (err error) {
	s.closing.Do(func() { err = s.close() })
	return err
}

func (s *Store) close() error {
	err := s.pool.close()
	if s.writer == nil {
		return errors.Join(err, s.anchor.close())
	}
	s.writer.close()
	if lost := s.names.look(); lost == nil {
		err = errors.Join(err, s.anchor.leave())
	} else if err = errors.Join(err, s.explain(lost)); s.anchor == nil {
		return err // the last one to close it would change, or remove, what is not ours any more; an anchor prevents that
	}
	return errors.Join(err, s.writer.conn.close(), s.anchor.close())
}

// write has the writer run one operation; size is what it adds to a batch.
func write[T any](ctx context.Context, s *Store, size int, f func(rules.Rows, time.Time) (T, error)) (T, error) {
	var out, none T
	if s.writer == nil {
		return none, fmt.Errorf("store %s is open for reading only", s.path)
	}
	err := s.writer.do(&op{ctx: ctx, size: size, run: func(c *conn, now time.Time) (err error) {
		out, err = f(c, now)
		return err
	}})
	if err != nil {
		return none, s.explain(err)
	}
	return out, nil
}

// Offer implements store.Store.
func (s *Store) Offer(ctx context.Context, req *store.OfferRequest) (*store.Offered, error) {
	return write(ctx, s, sizeOfOffer(req), func(r rules.Rows, now time.Time) (*store.Offered, error) {
		return rules.Offer(r, now, req)
	})
}

// Claim implements store.Store.
func (s *Store) Claim(ctx context.Context, req *store.ClaimRequest) (*store.Claimed, error) {
	return write(ctx, s, 0, func(r rules.Rows, now time.Time) (*store.Claimed, error) {
		return rules.Claim(r, now, req)
	})
}

// Heartbeat implements store.Store.
func (s *Store) Heartbeat(ctx context.Context, req *store.HeartbeatRequest) (*store.Beat, error) {
	return write(ctx, s, 0, func(r rules.Rows, now time.Time) (*store.Beat, error) {
		return rules.Heartbeat(r, now, req)
	})
}

// Checkpoint implements store.Store.
func (s *Store) Checkpoint(ctx context.Context, req *store.CheckpointRequest) (*store.Checkpointed, error) {
	return write(ctx, s, sizeOfCheckpoint(req), func(r rules.Rows, now time.Time) (*store.Checkpointed, error) {
		return rules.Checkpoint(r, now, req)
	})
}

// Settle implements store.Store.
func (s *Store) Settle(ctx context.Context, req *store.SettleRequest) (*store.Settled, error) {
	return write(ctx, s, sizeOfSettle(req), func(r rules.Rows, now time.Time) (*store.Settled, error) {
		return rules.Settle(r, now, req)
	})
}

// Signal implements store.Store.
func (s *Store) Signal(ctx context.Context, req *store.SignalRequest) (*store.Signalled, error) {
	return write(ctx, s, 0, func(r rules.Rows, now time.Time) (*store.Signalled, error) {
		return rules.Signal(r, now, req)
	})
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, req *store.DeleteRequest) (*store.Removed, error) {
	return write(ctx, s, 0, func(r rules.Rows, now time.Time) (*store.Removed, error) {
		return rules.Delete(r, now, req)
	})
}

// Import implements store.Importer.
func (s *Store) Import(ctx context.Context, req *store.ImportRequest) (*store.Imported, error) {
	return write(ctx, s, sizeOfImport(req), func(r rules.Rows, now time.Time) (*store.Imported, error) {
		return rules.Import(r, now, req)
	})
}

// Sweep implements store.Store.
func (s *Store) Sweep(ctx context.Context, limit int) (*store.Swept, error) {
	return write(ctx, s, 0, func(r rules.Rows, now time.Time) (*store.Swept, error) {
		return rules.Sweep(r, now, limit)
	})
}
