package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/perdure/perdure"
)

// file is a perdure.StreamHandler in a file of JSON lines, one for each message. A line that was cut short by a
// crash is no message.
type file struct {
	f       *os.File
	entered bool // something was put by this handler
}

func openFile(folder, taskID string) (*file, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	name := strings.ReplaceAll(taskID, ":", "_") + ".jsonl" // the only character of an ID that some systems refuse
	f, err := os.OpenFile(filepath.Join(folder, name), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return &file{f: f}, nil
}

// Put implements perdure.StreamHandler. It returns when the message is on the disk.
func (s *file) Put(_ context.Context, e perdure.Event) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if !s.entered { // whatever a crash has left of a line is ended first
		line = append([]byte{'\n'}, line...)
		s.entered = true
	}
	if _, err := s.f.Write(append(line, '\n')); err != nil {
		return err
	}
	return s.f.Sync()
}

// Get implements perdure.StreamHandler. A message's number is its place among the whole lines.
func (s *file) Get(_ context.Context, after int64) ([]perdure.Event, error) {
	r := bufio.NewReader(io.NewSectionReader(s.f, 0, 1<<62))
	var events []perdure.Event
	for number := int64(0); ; {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return events, nil // what is left is still being written
		}
		if err != nil {
			return nil, err
		}
		var e perdure.Event
		if json.Unmarshal(line, &e) != nil {
			continue // an end that a crash has left
		}
		if number++; number > after {
			e.Number = number
			events = append(events, e)
		}
	}
}

// Close implements perdure.StreamHandler.
func (s *file) Close() error { return s.f.Close() }
