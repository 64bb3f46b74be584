package storetest

import (
	"context"
	"math"
	"strings"

	"github.com/perdure/perdure/store"
)

const refusedSentence = "What a store cannot hold, or look for, is refused as such or not found: never an error that is to be repeated."

func refuseRules() []rule {
	return []rule{
		{"S6", "RefusedWrites", refusedSentence, s6RefusedWrites},
		{"S6", "RefusedReads", refusedSentence, s6RefusedReads},
		{"S6", "RefusedFilters", refusedSentence, s6RefusedFilters},
	}
}

// hostileTexts are texts that some database does not take somewhere.
func hostileTexts() []string {
	return []string{"\x00", "a\x00b", "\xff", "na\xc3", "\xed\xa0\x80", "\ufffe", `'; DROP TABLE tasks; --`, `\u0000`, `{"a":`,
		strings.Repeat("long \u00e9 ", 10_000), strings.Repeat("0123456789abcdef", 16_384)}
}

func hostileNumbers() []int64 {
	return []int64{math.MinInt64, -1, 1 << 53, math.MaxInt64 - 1, math.MaxInt64}
}

// settled checks that the result of an operation is known.
func (s *suite) settled(what, value string, err error) {
	s.Helper()
	if err != nil && !store.Definite(err) {
		s.Errorf("%s %.20q: got %v, which is to be repeated", what, value, err)
	}
}

func s6RefusedWrites(s *suite) {
	e := s.start("t")
	for _, text := range hostileTexts() {
		for what, change := range map[string]func(*store.OfferRequest){
			"task ID":     func(req *store.OfferRequest) { req.TaskID = text },
			"input ID":    func(req *store.OfferRequest) { req.InputID = text },
			"condition":   func(req *store.OfferRequest) { req.TaskID, req.IfLastInputID = "t", text },
			"func":        func(req *store.OfferRequest) { req.Func = text },
			"input":       func(req *store.OfferRequest) { req.Input = []byte(text) },
			"title":       func(req *store.OfferRequest) { req.Title = text },
			"description": func(req *store.OfferRequest) { req.Description = text },
			"session":     func(req *store.OfferRequest) { req.Session = text },
			"agent":       func(req *store.OfferRequest) { req.Agent = text },
			"tag":         func(req *store.OfferRequest) { req.Tags = map[string]string{"k": text} },
			"tag key":     func(req *store.OfferRequest) { req.Tags = map[string]string{text: "v"} },
			"digest":      func(req *store.OfferRequest) { req.Digests[0].Sum = text },
		} {
			req := s.request("w-"+what, "in")
			change(req)
			_, err := s.Offer(s.Context(), req)
			s.settled("offer with "+what, text, err)
			if req.TaskID != "t" {
				s.Delete(s.Context(), &store.DeleteRequest{TaskID: req.TaskID})
			}
		}
		for _, id := range []string{text, "t"} {
			_, err := s.Signal(s.Context(), &store.SignalRequest{TaskID: id, Kind: store.Cancel, InputID: text, Reason: "r"})
			s.settled("cancel of input", text, err)
			_, err = s.Signal(s.Context(), &store.SignalRequest{TaskID: id, Kind: store.Resume, RequestID: text})
			s.settled("resume with request", text, err)
			_, err = s.Delete(s.Context(), &store.DeleteRequest{TaskID: id, RequestID: text, Version: math.MaxInt64})
			s.settled("delete with request", text, err)
		}
		req := &store.CheckpointRequest{Lease: e.Lease, Number: 1, Commit: true, Metadata: []store.Change{{Key: text, Value: []byte("1")}}}
		req.Lease.Epoch++
		_, err := s.Checkpoint(s.Context(), req)
		s.settled("checkpoint with key", text, err)
	}
	s.complete(e)
}

func s6RefusedReads(s *suite) {
	s.complete(s.start("t"))
	ctx := s.Context()
	read := func(what, text string, number int64, id string) {
		_, err := s.Get(ctx, id)
		s.settled("get of "+what, text, err)
		_, err = s.Turn(ctx, store.TurnQuery{TaskID: id, InputID: text, Number: number, Incarnation: number})
		s.settled("turn of "+what, text, err)
		_, err = s.Turns(ctx, store.TurnsQuery{TaskID: id, After: number, Limit: 10})
		s.settled("turns of "+what, text, err)
		_, err = s.Events(ctx, store.EventsQuery{TaskID: id, After: number, Incarnation: number, Limit: 10})
		s.settled("events of "+what, text, err)
		_, err = s.Poll(ctx, &store.PollRequest{Worker: text, Seen: []int64{number}, Funcs: []string{text}, Suspect: true})
		s.settled("poll of "+what, text, err)
	}
	for _, text := range hostileTexts() {
		read("ID", text, 0, text)
		read("input", text, 0, "t")
	}
	for _, n := range hostileNumbers() {
		read("number", "t", n, "t")
	}
}

func s6RefusedFilters(s *suite) {
	s.complete(s.start("t"))
	ctx := s.Context()
	list := func(what, text string, q store.ListQuery) {
		q.Limit = 10
		page, err := s.List(ctx, q)
		s.settled("list by "+what, text, err)
		if err == nil && len(page.Tasks) > 0 {
			s.Errorf("list by %s %.20q: got %d tasks, want none", what, text, len(page.Tasks))
		}
	}
	for _, text := range hostileTexts() {
		list("func", text, store.ListQuery{Funcs: []string{text}})
		list("status", text, store.ListQuery{Statuses: []store.Status{store.Status(text)}})
		list("session", text, store.ListQuery{Session: text})
		list("agent", text, store.ListQuery{Agent: text})
		list("worker", text, store.ListQuery{Worker: text})
		list("tag", text, store.ListQuery{Tags: map[string]string{"k": text}})
		list("tag key", text, store.ListQuery{Tags: map[string]string{text: "v"}})
		_, err := s.Waiting(context.WithoutCancel(ctx), []string{text}, 10)
		s.settled("waiting but", text, err)
	}
	many := store.ListQuery{Tags: map[string]string{}}
	for i := range 3000 {
		many.Tags[strings.Repeat("k", i+1)] = "v"
	}
	list("many tags", "", many)
}
