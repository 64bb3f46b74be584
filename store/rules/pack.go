package rules

import (
	"encoding/binary"
	"errors"

	"github.com/perdure/perdure/store"
)

// A store on a database keeps the events of one call of AppendEvents, which are of one try and one moment, in one row.

// Pack joins the data of messages, each with its length (a uvarint) before it.
func Pack(messages []store.Event) []byte {
	size := 0
	for _, e := range messages {
		size += binary.MaxVarintLen32 + len(e.Data)
	}
	packed := make([]byte, 0, size)
	for _, e := range messages {
		packed = binary.AppendUvarint(packed, uint64(len(e.Data)))
		packed = append(packed, e.Data...)
	}
	return packed
}

var errPacked = errors.New("data of events is damaged")

// Unpack makes the events of a row again: first is what they have in common with the number of the first of them, which
// is a rewind to the number first.To if its kind says so. It leaves out those up to a number.
func Unpack(first store.Event, packed []byte, after int64) (events []store.Event, err error) {
	e := first
	add := func() {
		if e.Number > after {
			events = append(events, e)
		}
		e.Number++
	}
	if e.Kind == store.EventRewind {
		add()
	}
	e.Kind, e.To = store.EventMessage, 0
	for len(packed) > 0 {
		n, size := binary.Uvarint(packed)
		if size <= 0 || n > uint64(len(packed)-size) {
			return nil, errPacked
		}
		end := size + int(n)
		e.Data = packed[size:end:end]
		packed = packed[end:]
		add()
	}
	return events, nil
}
