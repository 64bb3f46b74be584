package perdurehttp

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"

	"github.com/perdure/perdure"
)

// metricsMedia is the media type of Prometheus text.
const metricsMedia = "text/plain; version=0.0.4; charset=utf-8"

// funcs serves GET /v1/funcs.
func (h *Handler) funcs(c *call) error {
	h.write(c.w, http.StatusOK, funcList{Funcs: append([]perdure.FuncInfo{}, h.eng.Funcs()...)})
	return nil
}

// workers serves GET /v1/workers.
func (h *Handler) workers(c *call) error {
	workers, err := h.eng.Workers(c.unary())
	if err != nil {
		return err
	}
	for i := range workers {
		workers[i].Funcs = append([]string{}, workers[i].Funcs...)
	}
	h.write(c.w, http.StatusOK, workerList{Workers: workers})
	return nil
}

// health serves GET /healthz.
func (h *Handler) health(c *call) error {
	h.write(c.w, http.StatusOK, health{Status: "ok"})
	return nil
}

// ready serves GET /readyz.
func (h *Handler) ready(c *call) error {
	err := h.eng.Ready()
	if err == nil {
		h.write(c.w, http.StatusOK, readiness{Ready: true})
		return nil
	}
	code := CodeUnavailable
	if errors.Is(err, perdure.ErrShuttingDown) {
		code = CodeShuttingDown
	}
	p := newProblem(code, "not ready: %s", err)
	p.Reasons = []string{err.Error()}
	c.w.Header().Set("Retry-After", "1")
	h.write(c.w, p.Status, p)
	return nil
}

// metrics serves GET /metrics.
func (h *Handler) metrics(c *call) error {
	var ready int64
	if h.eng.Ready() == nil {
		ready = 1
	}
	figures := append(h.eng.Counters(),
		perdure.Counter{Name: "ready", Help: "Whether the engine takes work.", Gauge: true, Value: ready},
		perdure.Counter{Name: "http_requests_in_flight", Help: "Requests that are worked on.", Gauge: true, Value: int64(len(h.working))},
		perdure.Counter{Name: "http_requests_waiting", Help: "Requests that wait for an outcome.", Gauge: true, Value: int64(len(h.waiting))},
		perdure.Counter{Name: "http_streams_open", Help: "Streams that are being read.", Gauge: true, Value: int64(len(h.streams))})
	h.send(c.w, http.StatusOK, metricsMedia, prometheus(figures))
	return nil
}

// prometheus writes figures in the text format. Those of one name stand together.
func prometheus(figures []perdure.Counter) []byte {
	var b bytes.Buffer
	last := ""
	for _, f := range figures {
		kind, label := "counter", ""
		if f.Gauge {
			kind = "gauge"
		}
		if f.Label != "" {
			label = "{" + f.Label + "}"
		}
		if f.Name != last {
			fmt.Fprintf(&b, "# HELP perdure_%s %s\n# TYPE perdure_%s %s\n", f.Name, f.Help, f.Name, kind)
		}
		fmt.Fprintf(&b, "perdure_%s%s %d\n", f.Name, label, f.Value)
		last = f.Name
	}
	return b.Bytes()
}

// describe serves GET /v1/openapi.json.
func (h *Handler) describe(c *call) error {
	doc, err := h.openAPI()
	if err != nil {
		return err
	}
	h.send(c.w, http.StatusOK, "application/json", doc)
	return nil
}
