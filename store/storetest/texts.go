package storetest

import (
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/perdure/perdure/store"
)

func textRules() []rule {
	return []rule{
		{"Y3", "TextsOfWrites", "A write with a text that not every store keeps is refused for it, or does not find it, and leaves nothing behind.", textsOfWrites},
		{"Y3", "TextsOfReads", "What is looked for by a text that no row can have is not found.", textsOfReads},
	}
}

// badTexts are none that every store can keep.
var badTexts = []string{"\x00", "a\x00b", "\xff", "na\xc3", "\xed\xa0\x80"}

// fill gives all texts in a value one, and makes all that may be absent; field is called for each text with what sets it.
func fill(v reflect.Value, path string, field func(path string, set func(string))) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("x")
		field(path, v.SetString)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), path, field)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte("1"))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), path, field)
	case reflect.Map:
		fillMap(v, path, field)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i), path+"."+v.Type().Field(i).Name, field)
		}
	}
}

// fillMap is fill for a map, whose keys are texts.
func fillMap(v reflect.Value, path string, field func(path string, set func(string))) {
	v.Set(reflect.MakeMap(v.Type()))
	value := reflect.New(v.Type().Elem()).Elem()
	fill(value, path+" value", func(path string, set func(string)) {
		field(path, func(s string) {
			set(s)
			v.SetMapIndex(reflect.ValueOf("x"), value)
		})
	})
	v.SetMapIndex(reflect.ValueOf("x"), value)
	field(path+" key", func(s string) {
		v.Clear()
		v.SetMapIndex(reflect.ValueOf(s), value)
	})
}

// eachText calls f with a request of all fields for each of its texts, and each bad text in its place.
func eachText[R any](f func(path string, req *R)) {
	for n, all := 0, 1; n < all; n++ {
		for _, bad := range badTexts {
			req, at, path := new(R), 0, ""
			var spoil func(string)
			fill(reflect.ValueOf(req).Elem(), reflect.TypeFor[R]().Name(), func(p string, set func(string)) {
				if at == n {
					path, spoil = p, set
				}
				at++
			})
			all = at
			spoil(bad)
			f(fmt.Sprintf("%s = %q", path, bad), req)
		}
	}
}

// refuse checks that a request is refused for each of its texts.
func refuse[R, A any](s *suite, call func(*R) (*A, error)) {
	s.Helper()
	eachText(func(path string, req *R) {
		answer, err := call(req)
		if content := (*store.ContentError)(nil); !errors.As(err, &content) && !errors.Is(err, store.ErrNotFound) {
			s.Errorf("%s: got %+v, %v, want it refused", path, answer, err)
		}
	})
}

func textsOfWrites(s *suite) {
	s.start("x", multiTurn)
	before := s.task("x")
	ctx := s.Context()
	refuse(s, func(r *store.OfferRequest) (*store.Offered, error) { return s.Offer(ctx, r) })
	refuse(s, func(r *store.ClaimRequest) (*store.Claimed, error) { return s.Claim(ctx, r) })
	refuse(s, func(r *store.HeartbeatRequest) (*store.Beat, error) { return s.Heartbeat(ctx, r) })
	refuse(s, func(r *store.PollRequest) (*store.Polled, error) { return s.Poll(ctx, r) })
	refuse(s, func(r *store.CheckpointRequest) (*store.Checkpointed, error) { return s.Checkpoint(ctx, r) })
	refuse(s, func(r *store.SettleRequest) (*store.Settled, error) { return s.Settle(ctx, r) })
	refuse(s, func(r *store.SignalRequest) (*store.Signalled, error) { return s.Signal(ctx, r) })
	refuse(s, func(r *store.DeleteRequest) (*store.Removed, error) {
		removed, err := s.Delete(ctx, r)
		if err == nil && removed.Incarnation == 0 {
			err = store.ErrNotFound // who removes what is not there has what he wants
		}
		return removed, err
	})
	if importer, ok := s.Store.(store.Importer); ok {
		refuse(s, func(r *store.ImportRequest) (*store.Imported, error) { return importer.Import(ctx, r) })
	}
	if after := s.task("x"); !reflect.DeepEqual(before, after) {
		s.Errorf("got task %+v, want it as before: %+v", after, before)
	}
	page, err := s.List(ctx, store.ListQuery{Limit: 10})
	equal(s, "tasks afterwards", len(must(s, page, err).Tasks), 1)
	workers, err := s.Workers(ctx)
	equal(s, "workers afterwards", len(must(s, workers, err)), 1)
}

func textsOfReads(s *suite) {
	req := s.request("x", "x")
	req.Session, req.Agent, req.Tags = "x", "x", map[string]string{"x": "x"}
	s.offer(req)
	ctx := s.Context()
	notFound := func(path string, err error) {
		if !errors.Is(err, store.ErrNotFound) {
			s.Errorf("%s: got %v, want ErrNotFound", path, err)
		}
	}
	for _, bad := range badTexts {
		_, err := s.Get(ctx, bad)
		notFound(fmt.Sprintf("Get %q", bad), err)
		waiting, err := s.Waiting(ctx, []string{bad, "g"}, 10)
		equal(s, "waiting", fmt.Sprint(must(s, waiting, err)), "map[f:1]")
		for _, q := range []store.ListQuery{{Funcs: []string{bad, "f"}}, {Statuses: []store.Status{store.Status(bad), store.Pending}},
			{Funcs: []string{"f"}, Statuses: []store.Status{store.Pending, store.Status(bad)}}} {
			q.Limit = 10
			page, err := s.List(ctx, q)
			equal(s, fmt.Sprintf("tasks of %+v", q), len(must(s, page, err).Tasks), 1)
		}
	}
	eachText(func(path string, q *store.TurnQuery) {
		_, err := s.Turn(ctx, *q)
		notFound(path, err)
	})
	eachText(func(path string, q *store.TurnsQuery) {
		q.Limit = 10
		_, err := s.Turns(ctx, *q)
		notFound(path, err)
	})
	eachText(func(path string, q *store.EventsQuery) {
		q.Limit = 10
		_, err := s.Events(ctx, *q)
		notFound(path, err)
	})
	eachText(func(path string, q *store.ListQuery) {
		q.Limit = 10
		page, err := s.List(ctx, *q)
		equal(s, path, len(must(s, page, err).Tasks), 0)
	})
	for _, set := range []func(*store.ListQuery, string){
		func(q *store.ListQuery, t string) { q.Funcs = []string{t} },
		func(q *store.ListQuery, t string) { q.Statuses = []store.Status{store.Status(t)} },
		func(q *store.ListQuery, t string) { q.Session = t },
		func(q *store.ListQuery, t string) { q.Agent = t },
		func(q *store.ListQuery, t string) { q.Worker = t },
		func(q *store.ListQuery, t string) { q.Tags = map[string]string{"x": t} },
		func(q *store.ListQuery, t string) { q.Tags = map[string]string{t: "x"} },
	} {
		for _, bad := range badTexts {
			q := store.ListQuery{Limit: 10}
			set(&q, bad)
			page, err := s.List(ctx, q)
			equal(s, fmt.Sprintf("tasks of %+v", q), len(must(s, page, err).Tasks), 0)
		}
	}
}
