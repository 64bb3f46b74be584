package funcs

import (
	"context"

	"github.com/perdure/perdure"
)

// ProvenanceInput is empty.
type ProvenanceInput struct{}

// ProvenanceOutput is what the handler can say of its own task.
type ProvenanceOutput struct {
	TaskID      string            `json:"task_id"`
	InputID     string            `json:"input_id"`
	Turn        int64             `json:"turn"`
	Title       string            `json:"title"`
	Description string            `json:"description,omitempty"`
	Tags        map[string]string `json:"tags"`
	Session     string            `json:"session,omitempty"`
	Agent       string            `json:"agent,omitempty"`
	Source      perdure.Source    `json:"source"`
}

// Provenance tells where its task came from. Its labels are its own unless the caller gives others; tags
// are laid over each other. The source cannot be given by any caller.
var Provenance = perdure.NewFunc[ProvenanceInput, ProvenanceOutput]("provenance", &perdure.FuncOptions[ProvenanceInput]{
	Title:       func(_ ProvenanceInput, taskID string) (string, error) { return "where " + taskID + " came from", nil },
	Description: func(ProvenanceInput, string) (string, error) { return "made by the provenance example", nil },
	Tags: func(ProvenanceInput, string) (map[string]string, error) {
		return map[string]string{"example": "provenance", "tier": "default"}, nil
	},
})

func provenance(_ context.Context, turn *perdure.Turn[ProvenanceInput, ProvenanceOutput]) (ProvenanceOutput, error) {
	return ProvenanceOutput{
		TaskID: turn.TaskID(), InputID: turn.InputID(), Turn: turn.Number(), Title: turn.Title(),
		Description: turn.Description(), Tags: turn.Tags(), Session: turn.Session(), Agent: turn.Agent(),
		Source: turn.Source(),
	}, nil
}
