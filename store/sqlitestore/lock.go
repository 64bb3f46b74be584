package sqlitestore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gofrs/flock"

	"github.com/perdure/perdure/store"
)

// Lock implements store.Exclusive with a lock of the operating system on a file beside the store's. The
// lock ends with the process, however that ends.
func (s *Store) Lock() (unlock func(), err error) {
	lock := flock.New(s.path + ".lock")
	held, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock store %s: %w", s.path, err)
	}
	if !held {
		return nil, fmt.Errorf("lock store %s: %w", s.path, store.ErrStoreInUse)
	}
	s.sole.Store(true)
	return func() {
		s.sole.Store(false)
		lock.Close()
	}, nil
}

// listenEvery is how often Listen looks for commits of other processes.
const listenEvery = 50 * time.Millisecond

// Listen implements store.Notifier.
func (s *Store) Listen(ctx context.Context, hint func(store.Hint)) error {
	version, stop, err := s.watch()
	if err != nil {
		return s.explain(err)
	}
	defer stop()
	tick := time.NewTicker(listenEvery)
	defer tick.Stop()
	last, err := version(ctx)
	hint(store.Hint{All: true})
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		now, lost := version(ctx)
		if errors.Is(lost, store.ErrClosed) {
			return lost
		}
		if lost == nil && (err != nil || now != last) {
			hint(store.Hint{All: true})
		}
		last, err = now, lost
	}
}

// watch returns a function that returns a number that changes with the commits of other connections.
// Asked on the writer's connection, its own do not count; a store without one gets a connection.
func (s *Store) watch() (version func(context.Context) (int64, error), stop func(), err error) {
	if s.writer != nil {
		return s.version, func() {}, nil
	}
	c, err := s.pool.open()
	if err != nil {
		return nil, nil, err
	}
	return func(context.Context) (int64, error) { return c.version() }, func() { c.close() }, nil
}

func (s *Store) version(ctx context.Context) (int64, error) {
	var version int64
	err := s.writer.do(&op{ctx: ctx, plain: true, run: func(c *conn, _ time.Time) (err error) {
		version, err = c.version()
		return err
	}})
	if err != nil {
		return 0, err
	}
	return version, nil
}

const sqlVersion = `PRAGMA data_version`

func (c *conn) version() (n int64, err error) {
	s := c.stmt(sqlVersion)
	err = s.each(func() error { n = s.nextInt(); return nil })
	return n, err
}
