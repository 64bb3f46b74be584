package rig

import (
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"

	"github.com/perdure/perdure"
)

// Short writes an event in short: number, kind and what it says.
func Short(e perdure.Event) string {
	switch e.Kind {
	case perdure.EventRewind:
		return fmt.Sprintf("%d<%d", e.Number, e.To)
	case perdure.EventTurn:
		return fmt.Sprintf("%d!%s", e.Number, e.Status)
	case perdure.EventGap:
		return fmt.Sprintf("gap:%d", e.First)
	case perdure.EventEnd:
		return "end:" + string(e.Status)
	}
	return fmt.Sprintf("%d%s", e.Number, e.Data)
}

// All reads a stream to its end.
func All(t *testing.T, events iter.Seq2[perdure.Event, error]) string {
	t.Helper()
	var texts []string
	for e, err := range events {
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, Short(e))
	}
	return strings.Join(texts, " ")
}

// Heard collects a stream as it comes.
func Heard(t *testing.T, events iter.Seq2[perdure.Event, error]) *Box[string] {
	t.Helper()
	var b Box[string]
	go func() {
		text := ""
		for e, err := range events {
			if err != nil {
				b.Set(text + "error: " + err.Error())
				return
			}
			text += Short(e) + " "
			b.Set(text)
		}
	}()
	return &b
}

// First returns the first event of a stream, or its error.
func First(events iter.Seq2[perdure.Event, error]) (perdure.Event, error) {
	for e, err := range events {
		return e, err
	}
	return perdure.Event{}, errors.New("no event")
}
