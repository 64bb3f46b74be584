package perdurehttp

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"

	"github.com/perdure/perdure"
)

// readBack checks that what a start has said is what is read of it.
func (b *besieger) readBack(a *attack, body []byte) {
	var h struct { // a handle, or an outcome
		TaskID   string `json:"task_id"`
		Turn     int64  `json:"turn"`
		InputID  string `json:"input_id"`
		Created  bool   `json:"created"`
		Attached bool   `json:"attached"`
		Known    bool   `json:"known"`
	}
	if err := json.Unmarshal(body, &h); err != nil {
		b.Errorf("%v: %v in %.300s", a, err, body)
		return
	}
	for field, raw := range a.fields {
		if exempt(field, raw) {
			return
		}
	}
	if h.Attached || h.Known || h.TaskID == "" || a.fields["if_exists"] != "" && !h.Created { // an outcome does not say that it was attached to
		return
	}
	var turn perdure.TurnInfo
	if !b.get(a, fmt.Sprintf("/v1/tasks/%s/turns/%d", h.TaskID, h.Turn), &turn) {
		return
	}
	b.accepted++
	b.same(a, "input", turn.Input)
	if turn.Status == perdure.Completed && a.fields["func"] == `"raw"` {
		b.same(a, "input", turn.Output)
	}
	for field, got := range map[string]string{"task_id": h.TaskID, "input_id": h.InputID} {
		if raw := a.fields[field]; raw != "" && raw != `""` {
			b.same(a, field, quoted(got))
		}
	}
	if !h.Created {
		return
	}
	var info perdure.Info
	if !b.get(a, "/v1/tasks/"+h.TaskID, &info) {
		return
	}
	tags := info.Tags
	if tags == nil {
		tags = map[string]string{}
	}
	for field, got := range map[string]any{"func": info.Func, "session": info.Session, "title": info.Title, "description": info.Description, "tags": tags} {
		if a.fields[field] != "" {
			b.same(a, field, quoted(got))
		}
	}
}

// get reads what is there with a client of its own kind.
func (b *besieger) get(a *attack, path string, into any) bool {
	res, err := http.Get("http://" + b.address + path)
	if err != nil {
		b.Errorf("%v: reading %s: %v", a, path, err)
		return false
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(into); err != nil || res.StatusCode != http.StatusOK {
		b.Errorf("%v: reading %s: got %d, %v", a, path, res.StatusCode, err)
		return false
	}
	return true
}

// same checks that a field was read as it was sent: the same JSON value, its numbers digit by digit.
func (b *besieger) same(a *attack, field string, got []byte) {
	sent := a.fields[field]
	if strings.TrimSpace(sent) == "null" && string(got) == "null" {
		return
	}
	if !reflect.DeepEqual(valueOf([]byte(sent)), valueOf(got)) {
		b.Errorf("%v: %s was sent as %.300q and read as %.300q", a, field, sent, got)
	}
}

func valueOf(raw []byte) (v any) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		return err.Error()
	}
	return v
}

func quoted(v any) []byte {
	b, _ := json.Marshal(v)
	return b
}
