package perdure_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/store/memstore"
)

func TestTheLabelsOfATaskAreItsFuncsUnderItsCallers(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", &options{
		Title:       func(n int, id string) (string, error) { return fmt.Sprint(id, n), nil },
		Description: func(n int, _ string) (string, error) { return strings.Repeat("ä", n), nil },
		Tags:        func(int, string) (map[string]string, error) { return map[string]string{"a": "func", "b": "func"}, nil },
	})
	in(t, perdure.Options{Program: "prog", Version: "v9", Agent: "agent"}, func(t *testing.T, s *server) {
		startWith(t, s.c, f, 1024, &perdure.StartOptions{TaskID: "t", Session: "s", Tags: map[string]string{"b": "call", "c": "call"}})
		info := task(t, s.c, "t")
		is(t, "S8: title", info.Title, "t1024")
		is(t, "S6: description of 1,024 characters", len(info.Description), 2048)
		if want := map[string]string{"a": "func", "b": "call", "c": "call"}; !maps.Equal(info.Tags, want) {
			t.Errorf("S8: tags: got %v, want %v", info.Tags, want)
		}
		is(t, "session", info.Session, "s")
		is(t, "agent", info.Agent, "agent")
		is(t, "S9: func", info.Source.Func, "f")
		is(t, "S9: program", info.Source.Program, "prog")
		is(t, "S9: version", info.Source.Version, "v9")
		startWith(t, s.c, f, 1, &perdure.StartOptions{TaskID: "own", Title: "mine"})
		is(t, "S8: title of the call", task(t, s.c, "own").Title, "mine")
		_, err := f.Start(t.Context(), s.c, 1025, nil)
		fails(t, "S6: description of 1,025 characters", err, perdure.ErrTooLarge)
	}, f.Bind(echo))
}

func TestWhatCannotBeAcceptedLeavesNoTrace(t *testing.T) {
	no := func(int, string) (string, error) { return "", errNo }
	many := map[string]string{}
	for i := range 17 {
		many[fmt.Sprint(i)] = ""
	}
	tags := func(k, v string) *perdure.StartOptions {
		return &perdure.StartOptions{Tags: map[string]string{k: v}}
	}
	long := func(n int) string { return strings.Repeat("ä", n) }
	for name, c := range map[string]struct {
		opts  options
		start *perdure.StartOptions
		want  error
	}{
		"S8: title function":       {options{Title: no}, nil, errNo},
		"S8: description function": {options{Description: no}, nil, errNo},
		"S8: tags function":        {options{Tags: func(int, string) (map[string]string, error) { return nil, errNo }}, nil, errNo},
		"S5: task ID":              {options{}, &perdure.StartOptions{TaskID: "-t"}, perdure.ErrInvalid},
		"S5: long task ID":         {options{}, &perdure.StartOptions{TaskID: strings.Repeat("t", 129)}, perdure.ErrInvalid},
		"S5: task ID and newline":  {options{}, &perdure.StartOptions{TaskID: "t\n"}, perdure.ErrInvalid},
		"S5: input ID":             {options{}, &perdure.StartOptions{InputID: "i/i"}, perdure.ErrInvalid},
		"S6: title":                {options{}, &perdure.StartOptions{Title: long(257)}, perdure.ErrTooLarge},
		"S6: 17 tags":              {options{}, &perdure.StartOptions{Tags: many}, perdure.ErrTooLarge},
		"S6: tag key":              {options{}, tags(long(65), ""), perdure.ErrTooLarge},
		"S6: tag value":            {options{}, tags("k", long(257)), perdure.ErrTooLarge},
		"S9: reserved tag":         {options{}, tags("perdure.x", ""), perdure.ErrInvalid},
		"S9: reserved tag of func": {options{Tags: func(int, string) (map[string]string, error) { return map[string]string{"perdure.x": ""}, nil }}, nil, perdure.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			f := perdure.NewFunc[int, int]("f", &c.opts)
			in(t, perdure.Options{}, func(t *testing.T, s *server) {
				_, err := f.Start(t.Context(), s.c, 1, c.start)
				fails(t, name, err, c.want)
				for info := range s.c.Tasks(t.Context(), nil) {
					t.Errorf("%s: task %+v was created", name, info)
				}
			}, f.Bind(echo))
		})
	}
}

func TestInputsThatCannotBeStoredAreRefused(t *testing.T) {
	f := perdure.NewFunc[any, int]("f", nil)
	bubble.Test(t, func(t *testing.T) {
		s := serve(t, memstore.New(), perdure.Options{Limits: perdure.Limits{Input: 10}})
		_, err := f.Start(t.Context(), s.c, math.Inf(1), nil)
		fails(t, "S6: an input that is no JSON", err, perdure.ErrInvalid)
		_, err = f.Start(t.Context(), s.c, "123456789", nil)
		fails(t, "S6: an input of 11 bytes", err, perdure.ErrTooLarge)
		_, err = f.Start(t.Context(), s.c, "12345678", nil)
		is(t, "S6: an input of 10 bytes", err, nil)
		_, err = s.c.Start(t.Context(), &perdure.StartRequest{Func: "unheard-of", Input: []byte("1")})
		fails(t, "S1 options: an unknown func", err, perdure.ErrUnknownFunc)
	})
}

func TestDefaultIDsAreUUIDsOfVersion7(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", nil)
	in(t, perdure.Options{}, func(t *testing.T, s *server) {
		h := start(t, s.c, f, 1, "")
		for _, id := range []string{h.TaskID(), h.InputID()} {
			if u, err := uuid.Parse(id); err != nil || u.Version() != 7 {
				t.Errorf("S5: got %s, want a UUIDv7", id)
			}
		}
	}, f.Bind(echo))
}

func TestAnInputIDIsAcceptedOnce(t *testing.T) {
	f := perdure.NewFunc[map[string]int, int]("f", &perdure.FuncOptions[map[string]int]{MultiTurn: true})
	in(t, perdure.Options{}, func(t *testing.T, s *server) {
		begin := func(in map[string]int, opts perdure.StartOptions) (*perdure.Handle[int], error) {
			opts.TaskID = "t"
			return f.Start(t.Context(), s.c, in, &opts)
		}
		first, err := begin(map[string]int{"a": 1, "b": 2}, perdure.StartOptions{InputID: "i", IfLastInputID: "nothing yet"})
		is(t, "S3: with no input accepted yet", err, nil)
		ends(t, "S1", first, perdure.Completed)
		again, err := begin(map[string]int{"b": 2, "a": 1}, perdure.StartOptions{InputID: "i", IfLastInputID: "other"})
		is(t, "S1 order: a repeat is never refused", err, nil)
		is(t, "S2: known", again.Known(), true)
		is(t, "S2: turn", again.Turn(), first.Turn())
		_, err = begin(map[string]int{"a": 1}, perdure.StartOptions{InputID: "i"})
		fails(t, "S2: another input", err, perdure.ErrInputMismatch)
		_, err = begin(nil, perdure.StartOptions{IfLastInputID: "other"})
		var precondition *perdure.PreconditionError
		if !errors.As(err, &precondition) || precondition.Actual != "i" {
			t.Errorf("S3: got %v, want a PreconditionError with i", err)
		}
		_, err = begin(nil, perdure.StartOptions{IfLastInputID: "i"})
		is(t, "S3: the last input ID", err, nil)
	}, f.Bind(func(context.Context, *perdure.Turn[map[string]int, int]) (int, error) { return 1, nil }))
}

func TestOfManyConcurrentStartsOneCreatesAndOneResumes(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", &options{MultiTurn: true, Steerable: true, MaxPending: 100})
	bubble.Test(t, func(t *testing.T) {
		mem := memstore.New()
		a, b := serve(t, mem, perdure.Options{}, f.Bind(echo)), serve(t, mem, perdure.Options{}, f.Bind(echo))
		var mu sync.Mutex
		created := 0
		var calls sync.WaitGroup
		for i := range 100 {
			calls.Go(func() {
				c := []perdure.Client{a.c, b.c}[i%2]
				accepted, err := c.Start(t.Context(), &perdure.StartRequest{Func: "f", TaskID: "t", Input: fmt.Append(nil, i)})
				if err != nil {
					t.Errorf("S4: %v", err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				if accepted.Created {
					created++
				}
				calls.Go(func() {
					h := perdure.TurnQuery{TaskID: "t", Turn: accepted.Turn}
					if o, err := c.Outcome(t.Context(), h); err != nil || string(o.Output) != fmt.Sprint(i) {
						t.Errorf("G1: outcome of input %d: got %+v, %v", i, o, err)
					}
				})
			})
		}
		calls.Wait()
		is(t, "S4: created", created, 1)
		is(t, "T1: status", task(t, a.c, "t").Status, perdure.Suspended)
		is(t, "T1: inputs behind", task(t, a.c, "t").Pending, 0)
	})
}

func TestWhatAStartDoesDependsOnTheStatus(t *testing.T) {
	plain := perdure.NewFunc[int, int]("plain", nil)
	other := perdure.NewFunc[int, int]("other", nil)
	short := perdure.NewFunc[int, int]("short", &options{Ephemeral: true})
	steered := perdure.NewFunc[int, int]("steered", &options{Steerable: true, MaxPending: 1})
	gate := func(ctx context.Context, turn *turnOf) (int, error) {
		if turn.Input() == 0 {
			<-turn.Interrupt().Done()
		}
		return turn.Input(), nil
	}
	in(t, perdure.Options{}, func(t *testing.T, s *server) {
		h := start(t, s.c, plain, 0, "p")
		var conflict *perdure.ConflictError
		if _, err := plain.Start(t.Context(), s.c, 1, &perdure.StartOptions{TaskID: "p"}); !errors.As(err, &conflict) || conflict.Status != perdure.InProgress {
			t.Errorf("S1: on a running task: got %v, want a conflict in_progress", err)
		}
		if _, err := other.Start(t.Context(), s.c, 1, &perdure.StartOptions{TaskID: "p", IfExists: perdure.Attach}); !errors.As(err, &conflict) || conflict.Func != "plain" {
			t.Errorf("S1 order: of another func: got %v, want a conflict with plain", err)
		}
		a := startWith(t, s.c, plain, 1, &perdure.StartOptions{TaskID: "p", IfExists: perdure.Attach})
		is(t, "S1: attached", a.Attached(), true)
		is(t, "S1: attached to turn", a.Turn(), h.Turn())
		h.Cancel(t.Context(), "")
		ends(t, "S1", a, perdure.Completed)
		if _, err := plain.Start(t.Context(), s.c, 1, &perdure.StartOptions{TaskID: "p"}); !errors.As(err, &conflict) || conflict.Status != perdure.Completed {
			t.Errorf("S1: on an ended task: got %v, want a conflict completed", err)
		}

		e := start(t, s.c, short, 1, "e")
		ends(t, "S1", e, perdure.Completed)
		e = attach(t, s.c, short, "e") // what it knows, it knows from the store
		anew := start(t, s.c, short, 2, "e")
		is(t, "S1: turn of a lingering task made anew", anew.Turn(), 1)
		_, err := e.Result(t.Context())
		fails(t, "Ephemeral: Result of the one before", err, perdure.ErrDeleted)
		ends(t, "S1", anew, perdure.Completed)
		anew = attach(t, s.c, short, "e")
		after(9 * time.Second)
		ends(t, "Ephemeral: within linger", anew, perdure.Completed)
		after(1100 * time.Millisecond)
		_, err = anew.Result(t.Context())
		fails(t, "Ephemeral: after linger", err, perdure.ErrDeleted)

		start(t, s.c, steered, 0, "s")
		startWith(t, s.c, steered, 1, &perdure.StartOptions{TaskID: "s", Deliver: perdure.Enqueue})
		_, err = steered.Start(t.Context(), s.c, 2, &perdure.StartOptions{TaskID: "s", InputID: "full"})
		fails(t, "G2: a full queue", err, perdure.ErrQueueFull)
		is(t, "G2: last input of a full queue", task(t, s.c, "s").LastInputID == "full", false)
	}, plain.Bind(gate), other.Bind(gate), short.Bind(gate), steered.Bind(gate))
}

func TestABurstIsHandledInOrderAndAllButTheLastAreInterruptedAtEntry(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", &options{MultiTurn: true, Steerable: true})
	var seen box[[]string]
	in(t, perdure.Options{}, func(t *testing.T, s *server) {
		var hs []*perdure.Handle[int]
		for i := range 4 {
			hs = append(hs, start(t, s.c, f, i, "t"))
		}
		for i, h := range hs {
			is(t, "G1: output", ends(t, "G1", h, perdure.Completed).Output, i)
		}
		want := "0 fresh steered=false before=false interrupted=true\n" +
			"1 resumed steered=true before=true interrupted=true\n" +
			"2 resumed steered=true before=true interrupted=true\n" +
			"3 resumed steered=true before=true interrupted=false\n"
		if got := strings.Join(seen.get(), ""); got != want {
			t.Errorf("G1, G6: entries:\n%swant\n%s", got, want)
		}
	}, f.Bind(func(_ context.Context, turn *turnOf) (int, error) {
		after(time.Second)
		previous, before, err := turn.Previous()
		if before {
			is(t, "G6: Previous", previous, turn.Input()-1)
		}
		seen.set(append(seen.get(), fmt.Sprintf("%d %s steered=%v before=%v interrupted=%v\n",
			turn.Input(), turn.Entry(), turn.Steered(), before, turn.Interrupted())))
		return turn.Input(), err
	}))
}

func TestAResultCanBeAskedForByAnyoneAtAnyTime(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", &options{MultiTurn: true})
	bubble.Test(t, func(t *testing.T) {
		mem := memstore.New()
		a, b := serve(t, mem, perdure.Options{}, f.Bind(echo)), serve(t, mem, perdure.Options{})
		one := startWith(t, a.c, f, 1, &perdure.StartOptions{TaskID: "t", InputID: "one"})
		for range 2 {
			is(t, "Result of turn 1", ends(t, "T2", one, perdure.Completed).Output, 1)
		}
		ends(t, "T2", start(t, a.c, f, 2, "t"), perdure.Completed)
		for _, by := range []*perdure.AttachOptions{{Turn: 1}, {InputID: "one"}} {
			h, err := f.Attach(t.Context(), b.c, "t", by)
			if err != nil {
				t.Fatal(err)
			}
			is(t, "Result of turn 1 elsewhere", ends(t, "T2", h, perdure.Completed).Output, 1)
		}
		_, err := f.Attach(t.Context(), b.c, "t", &perdure.AttachOptions{Turn: 9})
		fails(t, "a turn that there is not", err, perdure.ErrNotFound)
		waiting := perdure.NewFunc[int, int]("nobody", nil)
		h := start(t, b.c, waiting, 1, "w")
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		_, err = h.Result(ctx)
		fails(t, "a waiter that has given up", err, context.DeadlineExceeded)
		is(t, "R3: a func that nobody has bound", task(t, b.c, "w").Status, perdure.Pending)
	})
}
