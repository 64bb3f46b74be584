package perdurehttp

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/perdure/perdure"
)

// The OpenAPI 3.1 document, as far as this API needs it.
type openAPI struct {
	OpenAPI    string                          `json:"openapi"`
	Info       openAPIInfo                     `json:"info"`
	Paths      map[string]map[string]operation `json:"paths"`
	Components components                      `json:"components"`
}

type openAPIInfo struct {
	Title       string `json:"title"`
	Description string `json:"description"`
	Version     string `json:"version"`
}

type components struct {
	Schemas map[string]*jsonschema.Schema `json:"schemas"`
}

type operation struct {
	ID         string              `json:"operationId"`
	Summary    string              `json:"summary"`
	Parameters []parameter         `json:"parameters,omitempty"`
	Body       *content            `json:"requestBody,omitempty"`
	Responses  map[string]response `json:"responses"`
}

type parameter struct {
	Name     string             `json:"name"`
	In       string             `json:"in"`
	About    string             `json:"description,omitempty"`
	Required bool               `json:"required,omitempty"`
	Schema   *jsonschema.Schema `json:"schema"`
}

type content struct {
	Required bool             `json:"required,omitempty"`
	Content  map[string]media `json:"content"`
}

type response struct {
	About   string           `json:"description"`
	Content map[string]media `json:"content,omitempty"`
}

type media struct {
	Schema *jsonschema.Schema `json:"schema"`
}

// handleOrOutcome stands for an answer that is one of both.
type handleOrOutcome struct{}

// shape is a type that the document describes once and refers to by name.
type shape struct {
	name string
	of   reflect.Type
}

func shapes() []shape {
	return []shape{
		{"Start", reflect.TypeFor[perdure.StartRequest]()}, {"Retry", reflect.TypeFor[perdure.RetryPolicy]()},
		{"Cancel", reflect.TypeFor[cancelBody]()}, {"Terminate", reflect.TypeFor[terminateBody]()},
		{"Resume", reflect.TypeFor[resumeBody]()},
		{"Handle", reflect.TypeFor[perdure.Accepted]()}, {"Outcome", reflect.TypeFor[perdure.Outcome]()},
		{"TaskError", reflect.TypeFor[perdure.TaskError]()}, {"Task", reflect.TypeFor[perdure.Info]()},
		{"TaskPage", reflect.TypeFor[taskPage]()}, {"Turn", reflect.TypeFor[perdure.TurnInfo]()},
		{"TurnPage", reflect.TypeFor[turnPage]()}, {"TaskStatus", reflect.TypeFor[taskStatus]()},
		{"Funcs", reflect.TypeFor[funcList]()}, {"Workers", reflect.TypeFor[workerList]()},
		{"Event", reflect.TypeFor[perdure.Event]()}, {"EventPage", reflect.TypeFor[eventPage]()},
		{"Health", reflect.TypeFor[health]()}, {"Readiness", reflect.TypeFor[readiness]()},
		{"Problem", reflect.TypeFor[Problem]()},
	}
}

// basics are the schemas of types that do not encode as their Go kind says, or are closed lists.
func basics() map[reflect.Type]*jsonschema.Schema {
	var codes []any
	for _, k := range kinds {
		codes = append(codes, k.code)
	}
	return map[reflect.Type]*jsonschema.Schema{
		reflect.TypeFor[json.RawMessage]():   {Description: "any JSON value"},
		reflect.TypeFor[time.Time]():         {Type: "string", Format: "date-time"},
		reflect.TypeFor[time.Duration]():     {Type: "string", Description: "a duration such as 100ms"},
		reflect.TypeFor[Code]():              {Type: "string", Enum: codes},
		reflect.TypeFor[perdure.EntryMode](): {Type: "string", Enum: []any{perdure.Fresh, perdure.Resumed, perdure.Recovered}},
		reflect.TypeFor[perdure.IfExists]():  {Type: "string", Enum: []any{perdure.Attach}},
		reflect.TypeFor[perdure.Deliver]():   {Type: "string", Enum: []any{perdure.Interrupt, perdure.Enqueue, perdure.Reject, perdure.Replace}},
		reflect.TypeFor[perdure.Status]():    {Type: "string"},
		reflect.TypeFor[perdure.EventKind](): {Type: "string", Enum: []any{perdure.EventMessage, perdure.EventRewind, perdure.EventTurn, perdure.EventGap, perdure.EventEnd}},
		reflect.TypeFor[handleOrOutcome]():   {OneOf: []*jsonschema.Schema{reference("Handle"), reference("Outcome")}},
	}
}

func reference(name string) *jsonschema.Schema {
	return &jsonschema.Schema{Ref: "#/components/schemas/" + name}
}

// schemas returns the schema of every shape; they refer to each other.
func schemas() (map[string]*jsonschema.Schema, error) {
	all := map[string]*jsonschema.Schema{}
	for _, s := range shapes() {
		if s.name == "Retry" {
			all[s.name] = retrySchema()
			continue
		}
		types := basics()
		for _, other := range shapes() {
			if other.of != s.of {
				types[other.of] = reference(other.name)
			}
		}
		schema, err := jsonschema.ForType(s.of, &jsonschema.ForOptions{TypeSchemas: types})
		if err != nil {
			return nil, fmt.Errorf("schema of %s: %w", s.name, err)
		}
		notNull(schema)
		all[s.name] = schema
	}
	all["Start"].Required = []string{"func", "input"}
	all["Event"].Required = []string{"kind", "at"}
	return all, nil
}

// retrySchema is of perdure.RetryPolicy, which encodes itself.
func retrySchema() *jsonschema.Schema {
	duration := &jsonschema.Schema{Type: "string", Description: "a duration such as 100ms"}
	return &jsonschema.Schema{
		Type: "object", AdditionalProperties: &jsonschema.Schema{Not: &jsonschema.Schema{}},
		Properties: map[string]*jsonschema.Schema{
			"attempts": {Type: "integer", Description: "in all, counting the first"}, "factor": {Type: "number"}, "jitter": {Type: "number"},
			"initial": duration, "step": duration, "max": duration,
		},
	}
}

// notNull takes back that pointers, slices and maps may be null: what is nil is left out here.
func notNull(s *jsonschema.Schema) {
	s.Types = slices.DeleteFunc(s.Types, func(t string) bool { return t == "null" })
	switch len(s.Types) {
	case 0:
		s.Types = nil
	case 1:
		s.Type, s.Types = s.Types[0], nil
	}
	for _, p := range s.Properties {
		notNull(p)
	}
	if s.Items != nil {
		notNull(s.Items)
	}
}

// document returns the OpenAPI document of the routes.
func document(routes []route) ([]byte, error) {
	all, err := schemas()
	if err != nil {
		return nil, err
	}
	doc := openAPI{
		OpenAPI: "3.1.0",
		Info: openAPIInfo{Title: "perdure", Version: perdure.Version(),
			Description: "Durable tasks. Errors are problem documents (RFC 9457) with a code of a closed list."},
		Paths:      map[string]map[string]operation{},
		Components: components{Schemas: all},
	}
	for _, rt := range routes {
		if doc.Paths[rt.path] == nil {
			doc.Paths[rt.path] = map[string]operation{}
		}
		doc.Paths[rt.path][strings.ToLower(rt.method)] = rt.operation()
	}
	return json.MarshalIndent(doc, "", "  ")
}

func (rt *route) operation() operation {
	op := operation{ID: rt.id(), Summary: rt.summary, Parameters: rt.parameters(), Responses: rt.problems()}
	if rt.body != nil {
		op.Body = &content{Required: !rt.bodyless, Content: map[string]media{"application/json": {Schema: schemaOf(rt.body)}}}
	}
	for status, a := range rt.answers {
		r := response{About: a.about}
		if a.body != nil || a.media != "" {
			r.Content = map[string]media{}
		}
		if a.body != nil {
			r.Content["application/json"] = media{Schema: schemaOf(a.body)}
		}
		if a.media != "" {
			r.Content[a.media] = media{Schema: &jsonschema.Schema{}}
		}
		op.Responses[strconv.Itoa(status)] = r
	}
	return op
}

// id names a route: get_v1_tasks_id_result.
func (rt *route) id() string {
	clean := strings.NewReplacer("/", "_", "{", "", "}", "", ".", "_").Replace(rt.path)
	return strings.ToLower(rt.method) + clean
}

func (rt *route) parameters() []parameter {
	var params []parameter
	for segment := range strings.SplitSeq(rt.path, "/") {
		if name, ok := strings.CutPrefix(segment, "{"); ok {
			params = append(params, parameter{Name: strings.TrimSuffix(name, "}"), In: "path", Required: true,
				Schema: &jsonschema.Schema{Type: "string"}})
		}
	}
	for _, p := range rt.params {
		params = append(params, parameter{Name: p.name, In: "query", About: p.about, Schema: p.schema()})
	}
	if rt.named {
		params = append(params, parameter{Name: requestHeader, In: "header", Schema: &jsonschema.Schema{Type: "string"},
			About: "an ID by which a repeat is recognised for a day: it changes nothing that came later, and has the first answer"})
	}
	if rt.waits {
		params = append(params, parameter{Name: "Prefer", In: "header", Schema: &jsonschema.Schema{Type: "string"},
			About: fmt.Sprintf("wait=SECONDS waits for the turn's end, at most %v", maxWait)})
	}
	if rt.streams {
		params = append(params, parameter{Name: "Last-Event-ID", In: "header", About: "the number of the last event that was read",
			Schema: &jsonschema.Schema{Type: "integer"}})
	}
	if rt.method == http.MethodDelete {
		params = append(params, parameter{Name: "If-Match", In: "header", About: "the ETag the task must have, or *",
			Schema: &jsonschema.Schema{Type: "string"}})
	}
	return params
}

func (p param) schema() *jsonschema.Schema {
	s := &jsonschema.Schema{Type: "string"}
	if p.number {
		low := float64(p.min)
		s = &jsonschema.Schema{Type: "integer", Minimum: &low}
		if high := float64(p.max); p.max > 0 {
			s.Maximum = &high
		}
	}
	for _, v := range p.oneOf {
		s.Enum = append(s.Enum, v)
	}
	if p.repeat {
		return &jsonschema.Schema{Type: "array", Items: s}
	}
	return s
}

// problems returns a response for each status that a route's problems have, naming their codes.
func (rt *route) problems() map[string]response {
	byStatus := map[int][]string{}
	for _, k := range kinds {
		if slices.Contains(rt.codes, k.code) || slices.Contains(commonCodes[:], k.code) {
			byStatus[k.status] = append(byStatus[k.status], string(k.code))
		}
	}
	responses := map[string]response{}
	for status, codes := range byStatus {
		responses[strconv.Itoa(status)] = response{
			About:   "Problem: " + strings.Join(codes, ", ") + ".",
			Content: map[string]media{"application/problem+json": {Schema: reference("Problem")}},
		}
	}
	return responses
}

// schemaOf refers to the shape of a value.
func schemaOf(v any) *jsonschema.Schema {
	t := reflect.TypeOf(v)
	for _, s := range shapes() {
		if s.of == t {
			return reference(s.name)
		}
	}
	return basics()[t]
}
