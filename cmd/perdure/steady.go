package main

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"time"
)

// What a reader of the log may cost those who write it.
const (
	logPatience = 100 * time.Millisecond // until nobody waits for it any more
	logQueue    = 1 << 20                // bytes that are kept for it then
	lastLog     = time.Second            // that it has at the end
)

// steady passes on what is written, and never holds up who writes for long: a log whose reader has stopped must not
// stop the work. What the reader does not take in time is kept for it, up to a bound, and then dropped and counted.
// What cannot be written at all is dropped.
type steady struct {
	w io.Writer

	mu      sync.Mutex
	queue   [][]byte
	size    int           // bytes of the queue
	dropped int           // records since the reader went on last
	late    bool          // the reader has stopped: nobody waits
	idle    chan struct{} // closed when all is written; nil when nothing is under way
}

// Write implements io.Writer. It returns when p is written, or after logPatience.
func (s *steady) Write(p []byte) (int, error) {
	idle, late := s.enqueue(p)
	if !late && !within(logPatience, idle) {
		s.mu.Lock()
		s.late = s.idle != nil
		s.mu.Unlock()
	}
	return len(p), nil
}

func (s *steady) enqueue(p []byte) (idle <-chan struct{}, late bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.size+len(p) > logQueue {
		s.dropped++
		return s.idle, true
	}
	s.queue = append(s.queue, bytes.Clone(p))
	s.size += len(p)
	if s.idle == nil {
		s.idle = make(chan struct{})
		go s.drain()
	}
	return s.idle, s.late
}

// drain writes the queue until it is empty.
func (s *steady) drain() {
	for p := s.next(); p != nil; p = s.next() {
		s.w.Write(p) // nobody can be told that it failed
	}
}

// next takes the next thing to write; nil when there is none.
func (s *steady) next() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		if n := s.dropped; n > 0 {
			s.dropped = 0
			return fmt.Appendf(nil, "perdure: %d log records were dropped: their reader had stopped\n", n)
		}
		close(s.idle)
		s.idle, s.late, s.size = nil, false, 0
		return nil
	}
	p := s.queue[0]
	s.queue = s.queue[1:]
	s.size -= len(p)
	return p
}

// flush gives the reader a last chance.
func (s *steady) flush() {
	s.mu.Lock()
	idle := s.idle
	s.mu.Unlock()
	if idle != nil {
		within(lastLog, idle)
	}
}

// within waits for a channel to be closed, and reports whether it was in time.
func within(patience time.Duration, done <-chan struct{}) bool {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}
