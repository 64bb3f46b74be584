package perdurehttp

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/payload"
)

// signalBody is what all that is asked of a task takes.
type signalBody struct {
	Reason      string `json:"reason,omitempty"`
	Incarnation int64  `json:"incarnation,omitempty"`
	RequestID   string `json:"request_id,omitempty"`
}

// cancelBody is what POST …/cancel takes.
type cancelBody struct {
	Turn    int64  `json:"turn,omitempty"`
	InputID string `json:"input_id,omitempty"`
	signalBody
}

// terminateBody is what POST …/terminate takes.
type terminateBody struct{ signalBody }

// resumeBody is what POST …/resume takes.
type resumeBody struct {
	Incarnation int64  `json:"incarnation,omitempty"`
	RequestID   string `json:"request_id,omitempty"`
}

// requestHeader may say, in place of request_id in the body, by which ID a repeat is recognised.
const requestHeader = "Idempotency-Key"

// requestID returns the ID by which a repeat is recognised: of the body, else of the header, whose value may be quoted.
func requestID(header http.Header, inBody string) (string, error) {
	values := header.Values(requestHeader)
	if len(values) == 0 {
		return inBody, nil
	}
	id := strings.TrimSpace(values[0])
	if quoted, ok := strings.CutPrefix(id, "\""); ok {
		id = strings.TrimSuffix(quoted, "\"")
	}
	switch {
	case len(values) > 1 || !identifier.MatchString(id):
		return "", invalid("header %s: %s is not an ID", requestHeader, quote(values[0]))
	case inBody != "" && inBody != id:
		return "", invalid("header %s and field \"request_id\" differ", requestHeader)
	}
	return id, nil
}

// members maps the names that an object may have to where their values go: *string and its kin,
// *int64, *map[string]string, *json.RawMessage, or a pointer to something that decodes itself.
type members map[string]any

func startMembers(r *perdure.StartRequest) members {
	return members{
		"func": &r.Func, "input": &r.Input, "task_id": &r.TaskID, "input_id": &r.InputID,
		"if_last_input_id": &r.IfLastInputID, "if_exists": &r.IfExists, "deliver": &r.Deliver,
		"session": &r.Session, "title": &r.Title, "description": &r.Description, "tags": &r.Tags, "retry": &r.Retry,
	}
}

// readBody reads a request's body, which must be JSON and within the limit.
func (h *Handler) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if err := checkEncoding(w, r.Header.Values("Content-Encoding")); err != nil {
		return nil, err
	}
	if err := checkMediaType(r.Header.Values("Content-Type"), r.ContentLength == 0); err != nil {
		return nil, err
	}
	if r.ContentLength > h.maxBody {
		return nil, h.bodyTooLarge()
	}
	data, err := io.ReadAll(io.LimitReader(r.Body, h.maxBody+1))
	if err != nil {
		w.Header().Set("Connection", "close")
		return nil, invalid("the body could not be read to its end")
	}
	if int64(len(data)) > h.maxBody {
		return nil, h.bodyTooLarge()
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // else a wait would end with it
	return data, nil
}

func (h *Handler) bodyTooLarge() error {
	return newProblem(CodeTooLarge, "the body is too large: the limit is %d bytes, of which input may take %d", h.maxBody, h.eng.Limits().Input)
}

// Of a body that nobody wants: how much of it is read, and for how long before and after the answer, so that a client that
// sends it to its end before it reads gets its answer.
const (
	drainBytes = 64 << 20
	drainFirst = 100 * time.Millisecond
	drainTime  = 5 * time.Second
)

// watched is a request's body; ended says that it has come as a whole.
type watched struct {
	io.ReadCloser
	ended bool
}

func (b *watched) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.ended = b.ended || err == io.EOF
	return n, err
}

// refuse writes the answer to a request whose body nobody wants. A connection that is closed with something unread is
// reset, and the answer with it. So a body that is there is read, and the connection stays; one that is late, too much,
// or of unknown length, costs the connection, and what comes of it is read when the answer is out. A client that waits to
// be told to go on has sent nothing, and is not told. In HTTP/2 a body that is not read harms nothing else.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, p *Problem) {
	body, sent := r.Body.(*watched)
	if !sent || body.ended || r.ProtoMajor > 1 || r.Header.Get("Expect") != "" || w.Header().Get("Connection") == "close" {
		h.write(w, p.Status, p)
		return
	}
	to := http.NewResponseController(w)
	rest := &io.LimitedReader{R: body, N: drainBytes}
	err := to.SetReadDeadline(time.Now().Add(drainFirst)) // not every ResponseWriter can: then nothing bounds a read
	if err == nil && r.ContentLength > 0 {                // a chunked body that was late once cannot be read on
		if _, err := io.Copy(io.Discard, rest); err == nil && rest.N > 0 {
			_ = to.SetReadDeadline(time.Time{})
			h.write(w, p.Status, p)
			return
		}
	}
	w.Header().Set("Connection", "close")
	h.write(w, p.Status, p)
	if err != nil || to.Flush() != nil || to.SetReadDeadline(time.Now().Add(drainTime)) != nil {
		return
	}
	_, _ = io.Copy(io.Discard, rest)
}

// nothingSent refuses a body where none is taken: who sends one means something by it.
func nothingSent(w http.ResponseWriter, r *http.Request) error {
	if r.ContentLength == 0 || r.Body == nil {
		return nil
	}
	if r.ContentLength > 0 {
		return invalid("the route takes no body")
	}
	switch n, err := io.ReadFull(r.Body, make([]byte, 1)); {
	case n > 0:
		return invalid("the route takes no body")
	case err != io.EOF:
		w.Header().Set("Connection", "close")
		return invalid("the request has not arrived as a whole")
	}
	return nil
}

// checkEncoding refuses bodies that are compressed.
func checkEncoding(w http.ResponseWriter, values []string) error {
	for value := range strings.SplitSeq(strings.Join(values, ","), ",") {
		if value = strings.TrimSpace(value); value != "" && !strings.EqualFold(value, "identity") {
			w.Header().Set("Accept-Encoding", "identity")
			return newProblem(CodeMediaType, "Content-Encoding %s is not taken: send the body as it is", quote(value))
		}
	}
	return nil
}

func checkMediaType(values []string, empty bool) error {
	value := strings.Join(values, ", ") // of several none is the type
	if value == "" && empty {
		return nil
	}
	media, params, err := mime.ParseMediaType(value)
	charset := params["charset"]
	if err != nil || media != "application/json" || charset != "" && !strings.EqualFold(charset, "utf-8") {
		return newProblem(CodeMediaType, "Content-Type must be application/json")
	}
	return nil
}

// decodeObject decodes a JSON object strictly: each of its names must be known, exactly as written and
// once, each value be of its type, and nothing may follow. Errors name the field and never its value.
func decodeObject(data []byte, known members) error {
	if len(bytes.TrimSpace(data)) == 0 {
		return invalid("the body is empty: want a JSON object")
	}
	if !utf8.Valid(data) {
		return invalid("the body is not UTF-8 text")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	begin, err := dec.Token()
	if err != nil {
		return invalid("the body is not JSON: %s", syntax(err))
	}
	if begin != json.Delim('{') {
		return invalid("the body is %s: want a JSON object", jsonKind(bytes.TrimLeft(data, " \t\r\n")))
	}
	if err := decodeMembers(dec, known); err != nil {
		return err
	}
	if _, err := dec.Token(); err != nil {
		return invalid("the body is not JSON: %s", syntax(err))
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return invalid("the body goes on after its JSON object")
	}
	return nil
}

func decodeMembers(dec *json.Decoder, known members) error {
	seen := map[string]bool{}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return invalid("the body is not JSON: %s", syntax(err))
		}
		name, _ := token.(string)
		into, ok := known[name]
		switch {
		case !ok:
			return invalid("field %s is unknown: there are %s", quote(name), known.names())
		case seen[name]:
			return invalid("field %q is given twice", name)
		}
		seen[name] = true
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return invalid("field %q: not JSON: %s", name, syntax(err))
		}
		if err := decodeMember(name, value, into); err != nil {
			return err
		}
	}
	return nil
}

func decodeMember(name string, value json.RawMessage, into any) error {
	if raw, ok := into.(*json.RawMessage); ok {
		*raw = value
		return nil
	}
	got, want := jsonKind(value), wantedKind(into)
	if got != want {
		return invalid("field %q: got %s, want %s", name, got, want)
	}
	if err := payload.Check(value); err != nil {
		return invalid("field %q %s", name, err)
	}
	if payload.Halves(value) {
		return invalid("field %q has half a surrogate pair: it is no text", name)
	}
	err := json.Unmarshal(value, into)
	if typ, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		switch {
		case want == "a number":
			return invalid("field %q: want an integer", name)
		case typ.Field != "":
			name += "." + typ.Field
		}
		got, _, _ := strings.Cut(typ.Value, " ")
		return invalid("field %q: got a JSON %s where it does not belong", name, got)
	}
	if err != nil {
		return invalid("field %q: %s", name, err)
	}
	if _, texts := into.(*map[string]string); texts {
		return noNulls(name, value)
	}
	return nil
}

// noNulls refuses an object of texts with a null, which encoding/json takes for an empty text.
func noNulls(name string, value json.RawMessage) error {
	var texts map[string]*string
	if err := json.Unmarshal(value, &texts); err != nil {
		return invalid("field %q: %s", name, err)
	}
	for key, text := range texts {
		if text == nil {
			return invalid("field %q: %s is null, want a string", name, quote(key))
		}
	}
	return nil
}

func (m members) names() string {
	if len(m) == 0 {
		return "none"
	}
	return strings.Join(sortedKeys(m), ", ")
}

func wantedKind(into any) string {
	switch into.(type) {
	case *int64:
		return "a number"
	case *map[string]string, **perdure.RetryPolicy:
		return "an object"
	}
	return "a string"
}

// jsonKind says what a JSON text begins.
func jsonKind(text []byte) string {
	if len(text) == 0 {
		return "no JSON"
	}
	switch c := text[0]; {
	case c == '{':
		return "an object"
	case c == '[':
		return "an array"
	case c == '"':
		return "a string"
	case c == 't' || c == 'f':
		return "a boolean"
	case c == 'n':
		return "null"
	case c == '-' || c >= '0' && c <= '9':
		return "a number"
	}
	return "no JSON"
}

// syntax says what is wrong with a JSON text, without quoting more than a character of it.
func syntax(err error) string {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "it ends too early"
	}
	if _, ok := errors.AsType[*json.SyntaxError](err); ok {
		return err.Error()
	}
	return "it does not decode"
}
