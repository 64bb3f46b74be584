package rules

import (
	"time"

	"github.com/perdure/perdure/store"
)

// Sweep does a piece of housekeeping: see store.Store.
func Sweep(rows Rows, now time.Time, limit int) (*store.Swept, error) {
	s := &sweep{rows: rows, now: now, limit: limit}
	for _, piece := range []func() error{s.expired, s.abandoned, s.ending, s.trimmable, s.requests} {
		if err := piece(); err != nil {
			return nil, err
		}
	}
	s.More = s.More || s.Removed == limit || s.Ended == limit || s.Trimmed == limit
	return &s.Swept, nil
}

type sweep struct {
	store.Swept
	rows  Rows
	now   time.Time
	limit int
}

// drop removes some of what a task has beside its row, and reports whether that was all.
func (s *sweep) drop(incarnation int64) (all bool, err error) {
	if s.Dropped >= s.limit {
		s.More = true
		return false, nil
	}
	n, more, err := s.rows.DropRows(incarnation, s.limit-s.Dropped)
	s.Dropped += n
	s.More = s.More || more
	return !more, err
}

// expired removes tasks that are past their time.
func (s *sweep) expired() error {
	tasks, err := s.rows.Expired(s.now, s.limit)
	if err != nil {
		return err
	}
	for _, t := range tasks {
		all, err := s.drop(t.Incarnation)
		if err != nil || !all {
			return err
		}
		if err := s.rows.DeleteTask(t.Incarnation); err != nil {
			return err
		}
		s.Removed++
	}
	return nil
}

// abandoned removes what deleted tasks have left.
func (s *sweep) abandoned() error {
	tasks, err := s.rows.Abandoned(s.limit)
	if err != nil {
		return err
	}
	for _, incarnation := range tasks {
		if all, err := s.drop(incarnation); err != nil || !all {
			return err
		}
	}
	return nil
}

// ending ends what nobody runs and was cancelled, or is past its deadline.
func (s *sweep) ending() error {
	tasks, err := s.rows.Ending(s.now, s.limit)
	if err != nil {
		return err
	}
	for _, t := range tasks {
		ended, err := endWaiting(s.rows, t, s.now)
		if err != nil {
			return err
		}
		if ended {
			s.Ended++
		}
	}
	return nil
}

// trimmable trims streams.
func (s *sweep) trimmable() error {
	tasks, err := s.rows.Trimmable(s.now, s.limit)
	if err != nil {
		return err
	}
	for _, t := range tasks {
		if s.Dropped >= s.limit {
			s.More = true
			return nil
		}
		n, err := trimNow(s.rows, t, s.now, s.limit-s.Dropped)
		if err != nil {
			return err
		}
		if err := s.rows.UpdateTask(t); err != nil { // what nobody asked for makes no version
			return err
		}
		s.Dropped += n
		s.Trimmed++
		s.More = s.More || !t.TrimAt.IsZero() && !t.TrimAt.After(s.now)
	}
	return nil
}

// requests forgets request IDs that need not be remembered.
func (s *sweep) requests() error {
	more, err := s.rows.Forget(s.now.Add(-store.RequestsKept), s.limit)
	s.More = s.More || more
	return err
}
