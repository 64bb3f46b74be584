package sqlitestore

import "github.com/perdure/perdure/store"

// What operations add to a batch: the bytes that their callers have chosen the number of.

func sizeOfOffer(req *store.OfferRequest) int {
	n := len(req.Input) + len(req.Title) + len(req.Description)
	for name, value := range req.Tags {
		n += len(name) + len(value)
	}
	return n
}

func sizeOfCheckpoint(req *store.CheckpointRequest) int {
	return sizeOfChanges(req.Metadata) + sizeOfData(req.Events)
}

func sizeOfSettle(req *store.SettleRequest) int {
	n := len(req.Output) + len(req.Reason) + len(req.Detail) + sizeOfError(req.Error)
	return n + sizeOfChanges(req.Metadata) + sizeOfData(req.Events)
}

func sizeOfImport(req *store.ImportRequest) int {
	n := 0
	if req.Task != nil {
		for key, value := range req.Task.Metadata {
			n += len(key) + len(value)
		}
	}
	for _, t := range req.Turns {
		n += len(t.Input) + len(t.Output) + sizeOfError(t.Error)
	}
	for _, e := range req.Events {
		n += len(e.Data)
	}
	return n
}

func sizeOfError(e *store.TaskError) int {
	if e == nil {
		return 0
	}
	return len(e.Type) + len(e.Message) + len(e.Stack)
}

func sizeOfChanges(changes []store.Change) int {
	n := 0
	for _, c := range changes {
		n += len(c.Key) + len(c.Value)
	}
	return n
}

func sizeOfData(events [][]byte) int {
	n := 0
	for _, data := range events {
		n += len(data)
	}
	return n
}

// rowBytes is about what a task takes beside its texts.
const rowBytes = 1 << 10

func sizeOfTask(t *store.Task) int {
	n := rowBytes + len(t.Title) + len(t.Description) + len(t.Reason) + len(t.Turn.CancelReason) + sizeOfError(t.Turn.Error)
	for name, value := range t.Tags {
		n += len(name) + len(value)
	}
	return n
}
