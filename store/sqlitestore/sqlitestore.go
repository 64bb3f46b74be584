// Package sqlitestore keeps tasks in one SQLite file. It is the default store of a single machine: one
// engine at a time (rule O5), any number of other processes that offer, signal and read.
//
// An operation that has returned is synced to the disk. Operations that arrive while a commit runs are
// committed together, with one sync (rule P3).
package sqlitestore

import (
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/rules"
)

// Store is a store in a SQLite file. Use [Open].
type Store struct {
	path   string // absolute, symbolic links resolved
	sole   *atomic.Bool
	clock  *rules.Clock
	writer *writer // nil when read-only
	pool   *pool
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
	s := &Store{sole: new(atomic.Bool), clock: &rules.Clock{Wall: opts.UnsafeClock}}
	c, err := connect(path, opts, opts.ReadOnly, s.sole)
	if err != nil {
		return nil, err
	}
	if err := prepare(c, path, opts); err != nil {
		c.close()
		return nil, err
	}
	if s.path, err = resolve(path); err != nil {
		c.close()
		return nil, err
	}
	s.pool = newPool(opts.Readers, func() (*conn, error) { return connect(s.path, opts, true, s.sole) })
	if opts.ReadOnly {
		return s, c.close()
	}
	s.writer = newWriter(c, s.clock)
	return s, nil
}

// resolve makes a path absolute and follows symbolic links: one name for one file.
func resolve(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", err
	}
	return filepath.Abs(real)
}

// Close ends the writer's goroutine, after what is queued, and closes the file.
func (s *Store) Close() error {
	err := s.pool.close()
	if s.writer == nil {
		return err
	}
	if werr := s.writer.close(); werr != nil {
		return werr
	}
	return err
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
