package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/perdurehttp"
)

// Events is how fast streams are written, and read.
type Events struct {
	Emitted   []Emitted `json:"emitted"`
	PerSecond int       `json:"read_per_s"` // how often the task of Read emits
	Read      Latency   `json:"read"`       // from the call of Emit until a reader in the process has the event
	Streamed  Streamed  `json:"streamed"`
}

// Emitted is how many events of 100 bytes tasks emit that do nothing else.
type Emitted struct {
	Tasks  int           `json:"tasks"`
	Events int64         `json:"events"`
	Rate   float64       `json:"events_per_s"` // until the last was durable
	CPU    time.Duration `json:"cpu_ns"`       // of each
}

// Streamed is what many readers of one task's stream get, over HTTP, in another process.
type Streamed struct {
	Readers        int     `json:"readers"`
	PerSecond      int     `json:"events_per_s"` // that the task emits
	Events         int     `json:"events"`
	Complete       int     `json:"complete"` // readers that had every event once, in order
	Delivered      int     `json:"delivered"`
	Rate           float64 `json:"delivered_per_s"`
	Late           Latency `json:"late"` // from the call of Emit until a reader has it
	BytesPerReader int64   `json:"bytes_per_reader"`
}

// Of the streams that are read: events a second, for one reader in the process and for many over HTTP.
const (
	readRate   = 1000
	streamRate = 100
)

// stamp is an event of about 100 bytes that says when it was emitted.
type stamp struct {
	Number int    `json:"n"`
	At     int64  `json:"ns"`
	Pad    string `json:"pad"`
}

var pad = strings.Repeat("x", 52)

func stamped(n int) stamp { return stamp{n, time.Now().UnixNano(), pad} }

// RunEvents measures streams.
func RunEvents(ctx context.Context, o Options) (*Events, error) {
	o = o.withDefaults()
	r := &Events{PerSecond: readRate}
	for _, tasks := range o.Emitting {
		e, err := emitted(ctx, o, tasks)
		if err != nil {
			return nil, err
		}
		r.Emitted = append(r.Emitted, e)
	}
	var err error
	if r.Read, err = read(ctx, o); err != nil {
		return nil, err
	}
	r.Streamed, err = streamed(ctx, o)
	return r, err
}

var emits = perdure.NewFunc[note, note]("emits", nil)

// emitted measures tasks that emit as fast as they can.
func emitted(ctx context.Context, o Options, tasks int) (Emitted, error) {
	place := o.place("emitted")
	defer remove(place)
	var over atomic.Bool
	var events atomic.Int64
	b, err := open(ctx, place, perdure.Options{Funcs: []perdure.Binding{emits.Bind(func(ctx context.Context, turn *perdure.Turn[note, note]) (note, error) {
		event := stamped(1)
		n := int64(0)
		for ; !over.Load(); n++ {
			if err := turn.Emit(ctx, event); err != nil {
				return note{}, err
			}
		}
		events.Add(n)
		return note{}, turn.Checkpoint(ctx)
	})}})
	if err != nil {
		return Emitted{}, err
	}
	cpu, began := cpuTime(), time.Now()
	var wg sync.WaitGroup
	errs := make(chan error, tasks)
	for range tasks {
		wg.Go(func() {
			_, err := emits.Run(ctx, b.eng.Client(), note{"x"}, nil)
			errs <- err
		})
	}
	err = wait(ctx, o.Duration)
	over.Store(true)
	wg.Wait()
	took := time.Since(began)
	for range tasks {
		if failed := <-errs; err == nil {
			err = failed
		}
	}
	if err != nil {
		return Emitted{}, err
	}
	n := events.Load()
	return Emitted{tasks, n, float64(n) / took.Seconds(), (cpuTime() - cpu) / time.Duration(max(1, n))}, b.close()
}

// ticking starts a task that emits a number of events a second for a while, once begin is closed.
func ticking(ctx context.Context, place string, perSecond int, d time.Duration) (b *bench, h *perdure.Handle[note], begin chan struct{}, err error) {
	begin = make(chan struct{})
	b, err = open(ctx, place, perdure.Options{Funcs: []perdure.Binding{emits.Bind(func(ctx context.Context, turn *perdure.Turn[note, note]) (note, error) {
		select {
		case <-begin:
		case <-ctx.Done():
			return note{}, context.Cause(ctx)
		}
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		for n := range int(d.Seconds() * float64(perSecond)) {
			<-tick.C
			if err := turn.Emit(ctx, stamped(n)); err != nil {
				return note{}, err
			}
		}
		return note{}, nil
	})}})
	if err != nil {
		return nil, nil, nil, err
	}
	if h, err = emits.Start(ctx, b.eng.Client(), note{"x"}, nil); err != nil {
		return nil, nil, nil, errors.Join(err, b.close())
	}
	return b, h, begin, nil
}

// read measures how long an event takes to a reader in the process.
func read(ctx context.Context, o Options) (Latency, error) {
	place := o.place("read")
	defer remove(place)
	b, h, begin, err := ticking(ctx, place, readRate, o.Duration)
	if err != nil {
		return Latency{}, err
	}
	close(begin)
	var took []time.Duration
	for e, err := range h.Events(ctx, 0) {
		if err != nil {
			return Latency{}, err
		}
		if e.Kind == perdure.EventMessage {
			took = append(took, since(e.Data))
		}
	}
	return latency(took), b.close()
}

// since is how long ago an event was emitted, by its data or a text around that.
func since(data []byte) time.Duration {
	_, rest, _ := bytes.Cut(data, []byte(`"ns":`))
	at := int64(0)
	for _, c := range rest {
		if c < '0' || c > '9' {
			break
		}
		at = 10*at + int64(c-'0')
	}
	return time.Duration(time.Now().UnixNano() - at)
}

// streamed measures many readers over HTTP.
func streamed(ctx context.Context, o Options) (Streamed, error) {
	place := o.place("streamed")
	defer remove(place)
	b, h, begin, err := ticking(ctx, place, streamRate, o.Duration)
	if err != nil {
		return Streamed{}, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return Streamed{}, err
	}
	server := &http.Server{Handler: perdurehttp.NewHandler(b.eng, nil)}
	go server.Serve(l)
	defer server.Close()
	url := fmt.Sprintf("http://%s/v1/tasks/%s/events", l.Addr(), h.TaskID())
	r, err := readBy(ctx, o, url, begin)
	if err != nil {
		return Streamed{}, err
	}
	r.Readers, r.PerSecond, r.Rate = o.Readers, streamRate, float64(r.Delivered)/o.Duration.Seconds()
	return r, b.close()
}

// readBy lets a process read while this one emits, and looks at the memory of this one in the middle.
func readBy(ctx context.Context, o Options, url string, begin chan<- struct{}) (r Streamed, err error) {
	before := inUse()
	cmd, out, err := o.child(ctx, roleReaders, url, fmt.Sprint(o.Readers))
	if err != nil {
		return r, err
	}
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
	}()
	if line, err := out.ReadString('\n'); err != nil {
		return r, fmt.Errorf("process with the readers: %w (%q)", err, line)
	}
	close(begin)
	if err := wait(ctx, o.Duration/2); err != nil {
		return r, err
	}
	each := (inUse() - before) / int64(o.Readers)
	err = json.NewDecoder(out).Decode(&r)
	r.BytesPerReader = each
	return r, err
}

// readers is the process that reads a stream many times at once. It says in one line that all are connected,
// and at the end what they had.
func readers(ctx context.Context, out io.Writer, url string, n int) error {
	bodies := make([]io.ReadCloser, n)
	for i := range bodies {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		req.Header.Set("Accept", "text/event-stream")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s", url, resp.Status)
		}
		bodies[i] = resp.Body
	}
	fmt.Fprintf(out, "%d readers are connected\n", n)
	times := make([][]time.Duration, n)
	var complete atomic.Int64
	var wg sync.WaitGroup
	for i, body := range bodies {
		wg.Go(func() {
			defer body.Close()
			var ordered bool
			if times[i], ordered = readStamps(body); ordered {
				complete.Add(1)
			}
		})
	}
	wg.Wait()
	all := slices.Concat(times...)
	r := Streamed{Events: len(times[0]), Complete: int(complete.Load()), Delivered: len(all), Late: latency(all)}
	return json.NewEncoder(out).Encode(r)
}

// readStamps reads a stream of stamps to its end, and returns how late each was, and whether they were there
// once each and in order, with the end. It takes apart no more than it needs: the reader is not measured.
func readStamps(r io.Reader) (late []time.Duration, ordered bool) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Bytes()
		if bytes.HasPrefix(line, []byte("event: end")) {
			return late, true
		}
		if !bytes.Contains(line, []byte(`"ns":`)) {
			continue
		}
		if !bytes.Contains(line, fmt.Appendf(nil, `"n":%d,`, len(late))) {
			return late, false
		}
		late = append(late, since(line))
	}
	return late, false
}
