package storetest

import (
	"context"
	"sync"
	"time"

	"github.com/perdure/perdure/store"
)

// What stores have beside store.Store: in a file, on Postgres, in memory.
type (
	inFile interface {
		store.Exclusive
		store.Notifier
		store.Importer
	}
	onPostgres interface {
		store.Notifier
		store.Transactional
		store.Importer
		store.Uptimer
	}
	inMemory interface{ store.Importer }
)

// The same in front of them.
type (
	faultyFile struct {
		*Faulty
		exclusiveFaulty
		notifierFaulty
		importerFaulty
	}
	faultyPostgres struct {
		*Faulty
		notifierFaulty
		transactionalFaulty
		importerFaulty
		uptimerFaulty
	}
	faultyMemory struct {
		*Faulty
		importerFaulty
	}
)

var (
	_ inFile     = faultyFile{}
	_ onPostgres = faultyPostgres{}
	_ inMemory   = faultyMemory{}

	_ store.Store = faultyFile{}
	_ store.Store = faultyPostgres{}
	_ store.Store = faultyMemory{}
)

// Store returns f as a store that has what the wrapped one has beside store.Store: all that stores in a file, on
// Postgres and in memory have. Of a store that is like none of them it has what the first of these has that is less.
func (f *Faulty) Store() store.Store {
	switch f.inner.(type) {
	case onPostgres:
		return faultyPostgres{f, notifierFaulty{f}, transactionalFaulty{f}, importerFaulty{f}, uptimerFaulty{f}}
	case inFile:
		return faultyFile{f, exclusiveFaulty{f}, notifierFaulty{f}, importerFaulty{f}}
	case inMemory:
		return faultyMemory{f, importerFaulty{f}}
	}
	return f
}

type exclusiveFaulty struct{ f *Faulty }

// Lock implements store.Exclusive. A lock that was taken with an answer that is lost is given back, as that
// of a dead process is.
func (e exclusiveFaulty) Lock() (func(), error) {
	f := e.f
	var taken func()
	_, err := pass(context.Background(), f, "Lock", nil, func(context.Context) (struct{}, error) {
		unlock, err := f.inner.(store.Exclusive).Lock()
		if err == nil {
			taken = sync.OnceFunc(unlock)
		}
		return struct{}{}, err
	})
	if err == nil && f.keep(taken) {
		return taken, nil
	}
	if taken != nil {
		taken()
	}
	if err == nil {
		err = store.ErrClosed
	}
	return nil, err
}

// keep remembers what gives the lock back, unless the process has died meanwhile.
func (f *Faulty) keep(unlock func()) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.killed {
		f.unlock = unlock
	}
	return !f.killed
}

type notifierFaulty struct{ f *Faulty }

// Listen implements store.Notifier. It ends when the store is killed.
func (n notifierFaulty) Listen(ctx context.Context, hint func(store.Hint)) error {
	f := n.f
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-f.dead:
			cancel()
		case <-ended:
		}
	}()
	_, err := pass(ctx, f, "Listen", nil, func(context.Context) (struct{}, error) {
		return struct{}{}, f.inner.(store.Notifier).Listen(ctx, hint)
	})
	return err
}

type importerFaulty struct{ f *Faulty }

// Import implements store.Importer.
func (i importerFaulty) Import(ctx context.Context, req *store.ImportRequest) (*store.Imported, error) {
	return pass(ctx, i.f, "Import", req, func(ctx context.Context) (*store.Imported, error) {
		return i.f.inner.(store.Importer).Import(ctx, req)
	})
}

type transactionalFaulty struct{ f *Faulty }

// OfferTx implements store.Transactional.
func (t transactionalFaulty) OfferTx(ctx context.Context, tx any, req *store.OfferRequest) (*store.Offered, error) {
	return pass(ctx, t.f, "OfferTx", req, func(ctx context.Context) (*store.Offered, error) {
		return t.f.inner.(store.Transactional).OfferTx(ctx, tx, req)
	})
}

type uptimerFaulty struct{ f *Faulty }

// Uptime implements store.Uptimer.
func (u uptimerFaulty) Uptime() time.Duration { return u.f.inner.(store.Uptimer).Uptime() }
