package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/perdure/perdure/internal/stores"
	"github.com/perdure/perdure/store"
)

// untilSignal returns a context that ends with the first SIGTERM, SIGINT or SIGHUP. The second SIGTERM or SIGINT
// ends the process. A SIGHUP never is the second: one terminal that closes may send several, and systemd one behind
// its SIGTERM. One that was ignored at the start, as by nohup, stays so.
func (s *server) untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 3)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(signals, syscall.SIGHUP)
	}
	over := make(chan struct{})
	go func() {
		for asked := 0; asked < 2; {
			select {
			case sig := <-signals:
				if ctx.Err() == nil {
					s.log.Info("draining", "signal", sig.String(), "drain", s.set.drain)
					cancel()
				}
				if sig != syscall.SIGHUP {
					asked++
				}
			case <-over:
				return
			}
		}
		os.Exit(exitFailed)
	}()
	return ctx, func() { signal.Stop(signals); close(over); cancel() }
}

// outlivePipes makes writes to a pipe whose reader has gone fail. Else the first one to standard output or standard
// error would end the process, whatever runs. Programs that handlers start are not concerned: a handled signal is
// back at its default there, an ignored one would not be.
func outlivePipes() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }

// steadyOutput makes standard output and standard error of a server such that nobody waits for their readers for
// long. It returns what waits for them at the end.
func (a *app) steadyOutput() (flush func()) {
	outlivePipes()
	out, errOut := &steady{w: a.out.w}, &steady{w: a.errOut.w}
	a.out.w, a.errOut.w = out, errOut
	return func() { out.flush(); errOut.flush() }
}

// openStore opens the store, and makes or migrates it unless told not to. A Postgres database that does not answer yet is
// waited for.
func (s *server) openStore(ctx context.Context) (store.Store, error) {
	open := func(ctx context.Context) (store.Store, error) {
		return stores.Open(ctx, s.set.db, &stores.Options{Existing: s.set.noMigrate, AllowNetworkFS: s.set.allowNetworkFS, Logger: s.log})
	}
	if !stores.IsPostgres(s.set.db) {
		return open(ctx)
	}
	o := &opening{wait: s.set.waitForDB, open: open, reach: func(ctx context.Context) error { return stores.Reach(ctx, s.set.db) },
		tell: func(err error) {
			s.log.Warn("waiting for the database", "db", stores.Name(s.set.db), "err", message(err), "wait", s.set.waitForDB)
		}}
	return o.done(ctx)
}
