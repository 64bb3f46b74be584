package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/perdure/perdure/internal/stores"
	"github.com/perdure/perdure/store"
)

// How often a database is tried that is not there yet, and when and how often that is told.
const (
	firstRetry  = 100 * time.Millisecond
	lastRetry   = time.Second
	tellSilence = time.Second
	tellRetry   = 15 * time.Second
)

var errSilent = errors.New("no answer yet")

// opening opens a database that may not be there yet.
type opening struct {
	wait  time.Duration                              // at most, until it answers; 0: not at all
	reach func(context.Context) error                // whether it answers
	open  func(context.Context) (store.Store, error) // may take long once it answers: there may be something to migrate
	tell  func(error)                                // what is waited for
	told  time.Time                                  // when that was told last
}

// done returns the store once the database answers, or the error that does not go away by itself, or not in time.
func (o *opening) done(ctx context.Context) (store.Store, error) {
	if o.wait <= 0 {
		return o.open(ctx)
	}
	until, pause := time.Now().Add(o.wait), firstRetry
	for {
		var st store.Store
		err := o.reached(ctx, until)
		if err == nil {
			st, err = o.open(ctx)
		}
		if err == nil || ctx.Err() != nil || !stores.Absent(err) {
			return st, err
		}
		o.note(err)
		select {
		case <-time.After(min(pause, time.Until(until))):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if !time.Now().Before(until) {
			return nil, fmt.Errorf("the database does not answer within %v: %w", o.wait, err)
		}
		pause = min(2*pause, lastRetry)
	}
}

// reached returns nil if the database answers before a moment. A silence is told of while it lasts.
func (o *opening) reached(ctx context.Context, until time.Time) error {
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	answer := make(chan error, 1)
	go func() { answer <- o.reach(ctx) }()
	select {
	case err := <-answer:
		return err
	case <-time.After(tellSilence):
		o.note(errSilent)
	}
	return <-answer
}

func (o *opening) note(err error) {
	if o.told.IsZero() || time.Since(o.told) >= tellRetry {
		o.told = time.Now()
		o.tell(err)
	}
}
