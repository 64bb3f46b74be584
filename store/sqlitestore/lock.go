package sqlitestore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gofrs/flock"

	"github.com/perdure/perdure/store"
)

// Lock implements store.Exclusive with locks of the operating system: on the file itself where that is possible, and on
// one beside it, which is all that other systems and programs of before take. They end with the process, however that
// ends.
func (s *Store) Lock() (unlock func(), err error) {
	beside, err := lockBeside(s.path)
	if err != nil {
		return nil, fmt.Errorf("lock store %s: %w", s.path, err)
	}
	itself, err := s.anchor.lock()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock store %s: %w", s.path, err), beside.Close())
	}
	s.sole.Store(true)
	return func() {
		s.sole.Store(false)
		itself()
		beside.Close()
	}, nil
}

func lockBeside(path string) (*flock.Flock, error) {
	lock := flock.New(path + ".lock")
	held, err := lock.TryLock()
	if err == nil && !held {
		err = store.ErrStoreInUse
	}
	return lock, err
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
		if errors.Is(lost, store.ErrClosed) || s.names.gone() != nil {
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
	return func(context.Context) (int64, error) {
		n, err := c.version()
		return n, cmp.Or(err, s.names.look())
	}, func() { c.close() }, nil
}

func (s *Store) version(ctx context.Context) (int64, error) {
	var version int64
	err := s.writer.do(&op{ctx: ctx, plain: true, run: func(c *conn, _ time.Time) (err error) {
		if version, err = c.version(); err == nil {
			err = s.names.notBefore(c)
		}
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
