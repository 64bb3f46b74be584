package funcs

import (
	"context"

	"github.com/perdure/perdure"
)

// ApprovalInput is, on the first turn, what to approve, and on a later one the decision.
type ApprovalInput struct {
	Request  string `json:"request,omitempty"`
	Approved *bool  `json:"approved,omitempty"`
	By       string `json:"by,omitempty"`
}

// ApprovalOutput is the state while the task waits, and the decision at its end.
type ApprovalOutput struct {
	State    string `json:"state,omitempty"`
	Approved *bool  `json:"approved,omitempty"`
	By       string `json:"by,omitempty"`
	Request  string `json:"request"`
}

// awaiting is the reason and the state of a task that waits for a decision.
const awaiting = "awaiting approval"

// Approval suspends until a person has decided. While it waits it costs a row, and no process.
var Approval = perdure.NewFunc[ApprovalInput, ApprovalOutput]("approval", &perdure.FuncOptions[ApprovalInput]{
	Title: func(in ApprovalInput, _ string) (string, error) { return title(in.Request), nil },
})

const requestKey = "request"

func approval(_ context.Context, turn *perdure.Turn[ApprovalInput, ApprovalOutput]) (ApprovalOutput, error) {
	in := turn.Input()
	var request string
	known, err := turn.Metadata().Get(requestKey, &request)
	switch {
	case err != nil:
		return ApprovalOutput{}, err
	case !known && in.Request == "":
		return ApprovalOutput{}, refuse("request: is missing")
	case !known && in.Approved != nil:
		return ApprovalOutput{}, refuse("approved: nothing has been requested yet; start with the request alone")
	case known && in.Approved != nil:
		return ApprovalOutput{Approved: in.Approved, By: in.By, Request: request}, nil
	case in.Request != "":
		request = in.Request
	}
	if err := turn.Metadata().Set(requestKey, request); err != nil {
		return ApprovalOutput{}, err
	}
	return turn.Suspend(ApprovalOutput{State: awaiting, Request: request}, awaiting)
}
