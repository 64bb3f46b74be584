package funcs

import (
	"context"
	"strings"

	"github.com/perdure/perdure"
)

// MultiturnInput is one call on a session: a note to take, or the end.
type MultiturnInput struct {
	Note   string `json:"note,omitempty"`
	Finish bool   `json:"finish,omitempty"`
}

// MultiturnOutput is the session so far.
type MultiturnOutput struct {
	Session string            `json:"session,omitempty"`
	Turn    int64             `json:"turn"`
	Entry   perdure.EntryMode `json:"entry"`
	Notes   []string          `json:"notes"`
}

// Multiturn is an agent with a session: it takes a note in every turn, and suspends until the next. An
// empty note fails its turn; the session goes on. Between turns it costs a few rows. It cannot be steered:
// a call that comes while a turn runs is a conflict.
var Multiturn = perdure.NewFunc[MultiturnInput, MultiturnOutput]("multiturn", &perdure.FuncOptions[MultiturnInput]{
	MultiTurn: true,
	Title:     func(_ MultiturnInput, taskID string) (string, error) { return "notes of " + taskID, nil },
})

const notesKey = "notes"

func multiturn(_ context.Context, turn *perdure.Turn[MultiturnInput, MultiturnOutput]) (MultiturnOutput, error) {
	in := turn.Input()
	note := strings.TrimSpace(in.Note)
	switch {
	case in.Finish && note != "":
		return MultiturnOutput{}, refuse("finish: takes no note")
	case note == "" && !in.Finish:
		return MultiturnOutput{}, refuse("note: is missing")
	case note != "":
		if err := turn.Metadata().Append(notesKey, note); err != nil {
			return MultiturnOutput{}, perdure.Permanent(err)
		}
	}
	out := MultiturnOutput{Session: turn.Session(), Turn: turn.Number(), Entry: turn.Entry(), Notes: []string{}}
	if _, err := turn.Metadata().Get(notesKey, &out.Notes); err != nil {
		return MultiturnOutput{}, err
	}
	if in.Finish {
		return turn.Finish(out)
	}
	return out, nil
}
