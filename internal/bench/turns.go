package bench

import (
	"context"
	"time"

	"github.com/perdure/perdure"
)

// Turns is what many turns of one task cost.
type Turns struct {
	Turns     int     `json:"turns"`
	First     Latency `json:"first"` // of the first thousand, start to result
	Last      Latency `json:"last"`  // of the last thousand
	Change    float64 `json:"change"`
	Kept      int     `json:"kept"` // turns that the store still has
	FileBytes int64   `json:"file_bytes"`
}

// measured is how many turns a latency is measured with.
const measured = 1000

var conversation = perdure.NewFunc[note, note]("conversation", &perdure.FuncOptions[note]{MultiTurn: true})

// RunTurns runs many turns of one task, one after the other.
func RunTurns(ctx context.Context, o Options) (*Turns, error) {
	o = o.withDefaults()
	place := o.place("turns")
	defer remove(place)
	b, err := open(ctx, place, perdure.Options{Funcs: []perdure.Binding{conversation.Bind(echo)}})
	if err != nil {
		return nil, err
	}
	c := b.eng.Client()
	took := make([]time.Duration, o.Turns)
	for i := range took {
		began := time.Now()
		if _, err := conversation.Run(ctx, c, payload, &perdure.StartOptions{TaskID: "t"}); err != nil {
			return nil, err
		}
		took[i] = time.Since(began)
	}
	r := &Turns{Turns: o.Turns}
	for _, err := range c.Turns(ctx, "t", nil) {
		if err != nil {
			return nil, err
		}
		r.Kept++
	}
	n := min(measured, o.Turns)
	r.Last, r.First = latency(took[o.Turns-n:]), latency(took[:n])
	r.Change = float64(r.Last.P50) / float64(r.First.P50)
	r.FileBytes = size(place)
	return r, b.close()
}
