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
	"github.com/perdure/perdure/internal/rig"
	"github.com/perdure/perdure/store/memstore"
)

func TestTheLabelsOfATaskAreItsFuncsUnderItsCallers(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", &rig.Options{
		Title:       func(n int, id string) (string, error) { return fmt.Sprint(id, n), nil },
		Description: func(n int, _ string) (string, error) { return strings.Repeat("ä", n), nil },
		Tags:        func(int, string) (map[string]string, error) { return map[string]string{"a": "func", "b": "func"}, nil },
	})
	rig.In(t, perdure.Options{Program: "prog", Version: "v9", Agent: "agent"}, func(t *testing.T, s *rig.Server) {
		rig.StartWith(t, s.Client, f, 1024, &perdure.StartOptions{TaskID: "t", Session: "s", Tags: map[string]string{"b": "call", "c": "call"}})
		info := rig.Task(t, s.Client, "t")
		rig.Is(t, "S8: title", info.Title, "t1024")
		rig.Is(t, "S6: description of 1,024 characters", len(info.Description), 2048)
		if want := map[string]string{"a": "func", "b": "call", "c": "call"}; !maps.Equal(info.Tags, want) {
			t.Errorf("S8: tags: got %v, want %v", info.Tags, want)
		}
		rig.Is(t, "session", info.Session, "s")
		rig.Is(t, "agent", info.Agent, "agent")
		rig.Is(t, "S9: func", info.Source.Func, "f")
		rig.Is(t, "S9: program", info.Source.Program, "prog")
		rig.Is(t, "S9: version", info.Source.Version, "v9")
		rig.StartWith(t, s.Client, f, 1, &perdure.StartOptions{TaskID: "own", Title: "mine"})
		rig.Is(t, "S8: title of the call", rig.Task(t, s.Client, "own").Title, "mine")
		_, err := f.Start(t.Context(), s.Client, 1025, nil)
		rig.Fails(t, "S6: description of 1,025 characters", err, perdure.ErrTooLarge)
	}, f.Bind(rig.Echo))
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
		opts  rig.Options
		start *perdure.StartOptions
		want  error
	}{
		"S8: title function":       {rig.Options{Title: no}, nil, errNo},
		"S8: description function": {rig.Options{Description: no}, nil, errNo},
		"S8: tags function":        {rig.Options{Tags: func(int, string) (map[string]string, error) { return nil, errNo }}, nil, errNo},
		"S5: task ID":              {rig.Options{}, &perdure.StartOptions{TaskID: "-t"}, perdure.ErrInvalid},
		"S5: long task ID":         {rig.Options{}, &perdure.StartOptions{TaskID: strings.Repeat("t", 129)}, perdure.ErrInvalid},
		"S5: task ID and newline":  {rig.Options{}, &perdure.StartOptions{TaskID: "t\n"}, perdure.ErrInvalid},
		"S5: input ID":             {rig.Options{}, &perdure.StartOptions{InputID: "i/i"}, perdure.ErrInvalid},
		"S6: title":                {rig.Options{}, &perdure.StartOptions{Title: long(257)}, perdure.ErrTooLarge},
		"S6: 17 tags":              {rig.Options{}, &perdure.StartOptions{Tags: many}, perdure.ErrTooLarge},
		"S6: tag key":              {rig.Options{}, tags(long(65), ""), perdure.ErrTooLarge},
		"S6: tag value":            {rig.Options{}, tags("k", long(257)), perdure.ErrTooLarge},
		"S9: reserved tag":         {rig.Options{}, tags("perdure.x", ""), perdure.ErrInvalid},
		"S9: reserved tag of func": {rig.Options{Tags: func(int, string) (map[string]string, error) { return map[string]string{"perdure.x": ""}, nil }}, nil, perdure.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			f := perdure.NewFunc[int, int]("f", &c.opts)
			rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
				_, err := f.Start(t.Context(), s.Client, 1, c.start)
				rig.Fails(t, name, err, c.want)
				for info := range s.Client.Tasks(t.Context(), nil) {
					t.Errorf("%s: task %+v was created", name, info)
				}
			}, f.Bind(rig.Echo))
		})
	}
}

func TestInputsThatCannotBeStoredAreRefused(t *testing.T) {
	f := perdure.NewFunc[any, int]("f", nil)
	bubble.Test(t, func(t *testing.T) {
		s := rig.Serve(t, memstore.New(), perdure.Options{Limits: perdure.Limits{Input: 10}})
		_, err := f.Start(t.Context(), s.Client, math.Inf(1), nil)
		rig.Fails(t, "S6: an input that is no JSON", err, perdure.ErrInvalid)
		_, err = f.Start(t.Context(), s.Client, "123456789", nil)
		rig.Fails(t, "S6: an input of 11 bytes", err, perdure.ErrTooLarge)
		_, err = f.Start(t.Context(), s.Client, "12345678", nil)
		rig.Is(t, "S6: an input of 10 bytes", err, nil)
		_, err = s.Client.Start(t.Context(), &perdure.StartRequest{Func: "unheard-of", Input: []byte("1")})
		rig.Fails(t, "S1 options: an unknown func", err, perdure.ErrUnknownFunc)
	})
}

func TestDefaultIDsAreUUIDsOfVersion7(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", nil)
	rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
		h := rig.Start(t, s.Client, f, 1, "")
		for _, id := range []string{h.TaskID(), h.InputID()} {
			if u, err := uuid.Parse(id); err != nil || u.Version() != 7 {
				t.Errorf("S5: got %s, want a UUIDv7", id)
			}
		}
	}, f.Bind(rig.Echo))
}

func TestAnInputIDIsAcceptedOnce(t *testing.T) {
	f := perdure.NewFunc[map[string]int, int]("f", &perdure.FuncOptions[map[string]int]{MultiTurn: true})
	rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
		begin := func(in map[string]int, opts perdure.StartOptions) (*perdure.Handle[int], error) {
			opts.TaskID = "t"
			return f.Start(t.Context(), s.Client, in, &opts)
		}
		first, err := begin(map[string]int{"a": 1, "b": 2}, perdure.StartOptions{InputID: "i", IfLastInputID: "nothing yet"})
		rig.Is(t, "S3: with no input accepted yet", err, nil)
		rig.Ends(t, "S1", first, perdure.Completed)
		again, err := begin(map[string]int{"b": 2, "a": 1}, perdure.StartOptions{InputID: "i", IfLastInputID: "other"})
		rig.Is(t, "S1 order: a repeat is never refused", err, nil)
		rig.Is(t, "S2: known", again.Known(), true)
		rig.Is(t, "S2: turn", again.Turn(), first.Turn())
		_, err = begin(map[string]int{"a": 1}, perdure.StartOptions{InputID: "i"})
		rig.Fails(t, "S2: another input", err, perdure.ErrInputMismatch)
		_, err = begin(nil, perdure.StartOptions{IfLastInputID: "other"})
		var precondition *perdure.PreconditionError
		if !errors.As(err, &precondition) || precondition.Actual != "i" {
			t.Errorf("S3: got %v, want a PreconditionError with i", err)
		}
		_, err = begin(nil, perdure.StartOptions{IfLastInputID: "i"})
		rig.Is(t, "S3: the last input ID", err, nil)
	}, f.Bind(func(context.Context, *perdure.Turn[map[string]int, int]) (int, error) { return 1, nil }))
}

func TestOfManyConcurrentStartsOneCreatesAndOneResumes(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", &rig.Options{MultiTurn: true, Steerable: true, MaxPending: 100})
	bubble.Test(t, func(t *testing.T) {
		mem := memstore.New()
		a, b := rig.Serve(t, mem, perdure.Options{}, f.Bind(rig.Echo)), rig.Serve(t, mem, perdure.Options{}, f.Bind(rig.Echo))
		var mu sync.Mutex
		created := 0
		var calls sync.WaitGroup
		for i := range 100 {
			calls.Go(func() {
				c := []perdure.Client{a.Client, b.Client}[i%2]
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
		rig.Is(t, "S4: created", created, 1)
		rig.Is(t, "T1: status", rig.Task(t, a.Client, "t").Status, perdure.Suspended)
		rig.Is(t, "T1: inputs behind", rig.Task(t, a.Client, "t").Pending, 0)
	})
}

func TestWhatAStartDoesDependsOnTheStatus(t *testing.T) {
	plain := perdure.NewFunc[int, int]("plain", nil)
	other := perdure.NewFunc[int, int]("other", nil)
	short := perdure.NewFunc[int, int]("short", &rig.Options{Ephemeral: true})
	steered := perdure.NewFunc[int, int]("steered", &rig.Options{Steerable: true, MaxPending: 1})
	gate := func(ctx context.Context, turn *rig.Turn) (int, error) {
		if turn.Input() == 0 {
			<-turn.Interrupt().Done()
		}
		return turn.Input(), nil
	}
	rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
		h := rig.Start(t, s.Client, plain, 0, "p")
		var conflict *perdure.ConflictError
		if _, err := plain.Start(t.Context(), s.Client, 1, &perdure.StartOptions{TaskID: "p"}); !errors.As(err, &conflict) || conflict.Status != perdure.InProgress {
			t.Errorf("S1: on a running task: got %v, want a conflict in_progress", err)
		}
		if _, err := other.Start(t.Context(), s.Client, 1, &perdure.StartOptions{TaskID: "p", IfExists: perdure.Attach}); !errors.As(err, &conflict) || conflict.Func != "plain" {
			t.Errorf("S1 order: of another func: got %v, want a conflict with plain", err)
		}
		a := rig.StartWith(t, s.Client, plain, 1, &perdure.StartOptions{TaskID: "p", IfExists: perdure.Attach})
		rig.Is(t, "S1: attached", a.Attached(), true)
		rig.Is(t, "S1: attached to turn", a.Turn(), h.Turn())
		h.Cancel(t.Context(), "")
		rig.Ends(t, "S1", a, perdure.Completed)
		if _, err := plain.Start(t.Context(), s.Client, 1, &perdure.StartOptions{TaskID: "p"}); !errors.As(err, &conflict) || conflict.Status != perdure.Completed {
			t.Errorf("S1: on an ended task: got %v, want a conflict completed", err)
		}

		e := rig.Start(t, s.Client, short, 1, "e")
		rig.Ends(t, "S1", e, perdure.Completed)
		e = rig.Attach(t, s.Client, short, "e") // what it knows, it knows from the store
		anew := rig.Start(t, s.Client, short, 2, "e")
		rig.Is(t, "S1: turn of a lingering task made again", anew.Turn(), 1)
		_, err := e.Result(t.Context())
		rig.Fails(t, "Ephemeral: Result of the one before", err, perdure.ErrDeleted)
		rig.Ends(t, "S1", anew, perdure.Completed)
		anew = rig.Attach(t, s.Client, short, "e")
		rig.After(9 * time.Second)
		rig.Ends(t, "Ephemeral: within linger", anew, perdure.Completed)
		rig.After(1100 * time.Millisecond)
		_, err = anew.Result(t.Context())
		rig.Fails(t, "Ephemeral: after linger", err, perdure.ErrDeleted)

		rig.Start(t, s.Client, steered, 0, "s")
		rig.StartWith(t, s.Client, steered, 1, &perdure.StartOptions{TaskID: "s", Deliver: perdure.Enqueue})
		_, err = steered.Start(t.Context(), s.Client, 2, &perdure.StartOptions{TaskID: "s", InputID: "full"})
		rig.Fails(t, "G2: a full queue", err, perdure.ErrQueueFull)
		rig.Is(t, "G2: last input of a full queue", rig.Task(t, s.Client, "s").LastInputID == "full", false)
	}, plain.Bind(gate), other.Bind(gate), short.Bind(gate), steered.Bind(gate))
}

func TestABurstIsHandledInOrderAndAllButTheLastAreInterruptedAtEntry(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", &rig.Options{MultiTurn: true, Steerable: true})
	var seen rig.Box[[]string]
	rig.In(t, perdure.Options{}, func(t *testing.T, s *rig.Server) {
		var hs []*perdure.Handle[int]
		for i := range 4 {
			hs = append(hs, rig.Start(t, s.Client, f, i, "t"))
		}
		for i, h := range hs {
			rig.Is(t, "G1: output", rig.Ends(t, "G1", h, perdure.Completed).Output, i)
		}
		want := "0 fresh steered=false before=false interrupted=true\n" +
			"1 resumed steered=true before=true interrupted=true\n" +
			"2 resumed steered=true before=true interrupted=true\n" +
			"3 resumed steered=true before=true interrupted=false\n"
		if got := strings.Join(seen.Get(), ""); got != want {
			t.Errorf("G1, G6: entries:\n%swant\n%s", got, want)
		}
	}, f.Bind(func(_ context.Context, turn *rig.Turn) (int, error) {
		rig.After(time.Second)
		previous, before, err := turn.Previous()
		if before {
			rig.Is(t, "G6: Previous", previous, turn.Input()-1)
		}
		seen.Set(append(seen.Get(), fmt.Sprintf("%d %s steered=%v before=%v interrupted=%v\n",
			turn.Input(), turn.Entry(), turn.Steered(), before, turn.Interrupted())))
		return turn.Input(), err
	}))
}

func TestAResultCanBeAskedForByAnyoneAtAnyTime(t *testing.T) {
	f := perdure.NewFunc[int, int]("f", &rig.Options{MultiTurn: true})
	bubble.Test(t, func(t *testing.T) {
		mem := memstore.New()
		a, b := rig.Serve(t, mem, perdure.Options{}, f.Bind(rig.Echo)), rig.Serve(t, mem, perdure.Options{})
		one := rig.StartWith(t, a.Client, f, 1, &perdure.StartOptions{TaskID: "t", InputID: "one"})
		for range 2 {
			rig.Is(t, "Result of turn 1", rig.Ends(t, "T2", one, perdure.Completed).Output, 1)
		}
		rig.Ends(t, "T2", rig.Start(t, a.Client, f, 2, "t"), perdure.Completed)
		for _, by := range []*perdure.AttachOptions{{Turn: 1}, {InputID: "one"}} {
			h, err := f.Attach(t.Context(), b.Client, "t", by)
			if err != nil {
				t.Fatal(err)
			}
			rig.Is(t, "Result of turn 1 elsewhere", rig.Ends(t, "T2", h, perdure.Completed).Output, 1)
		}
		_, err := f.Attach(t.Context(), b.Client, "t", &perdure.AttachOptions{Turn: 9})
		rig.Fails(t, "a turn that there is not", err, perdure.ErrNotFound)
		waiting := perdure.NewFunc[int, int]("nobody", nil)
		h := rig.Start(t, b.Client, waiting, 1, "w")
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		_, err = h.Result(ctx)
		rig.Fails(t, "a waiter that has given up", err, context.DeadlineExceeded)
		rig.Is(t, "R3: a func that nobody has bound", rig.Task(t, b.Client, "w").Status, perdure.Pending)
	})
}
