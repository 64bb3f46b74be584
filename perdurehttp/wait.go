package perdurehttp

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/perdure/perdure"
)

// longPoll is how long the server is asked to wait at a time.
const longPoll = 30 * time.Second

// Outcome implements perdure.Client. It asks the server to wait, again and again, and goes on when the
// server was gone in between.
func (c *Client) Outcome(ctx context.Context, q perdure.TurnQuery) (*perdure.Outcome, error) {
	path, err := taskPath(q.TaskID)
	if err != nil {
		return nil, err
	}
	if err := turnThere(q); err != nil {
		return nil, err
	}
	for pace := (pacer{}); ; {
		begin := time.Now()
		req := &request{method: http.MethodGet, path: path + "/result", query: resultQuery(q), wait: longPoll}
		r, err := c.send(ctx, req, c.opts.WaitPatience)
		if err != nil {
			return nil, about(err, "outcome of task "+q.TaskID)
		}
		if r.status == http.StatusOK {
			o := new(perdure.Outcome)
			return o, r.decode(o)
		}
		var open perdure.Accepted
		if err := r.decode(&open); err != nil {
			return nil, err
		}
		q.Turn, q.Incarnation = open.Turn, open.Incarnation // the same turn, whatever is current then
		if time.Since(begin) > longPoll/2 {
			pace = pacer{}
		} else if err := pace.pause(ctx, 0); err != nil { // it does not wait: it shuts down
			return nil, err
		}
	}
}

func resultQuery(q perdure.TurnQuery) url.Values {
	query := url.Values{}
	setNumber(query, "incarnation", q.Incarnation)
	setNumber(query, "turn", q.Turn)
	if q.Turn == 0 && q.InputID != "" {
		query.Set("input_id", q.InputID)
	}
	return query
}
