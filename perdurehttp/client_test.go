package perdurehttp_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/bubble"
	"github.com/perdure/perdure/internal/memnet"
	"github.com/perdure/perdure/perdurehttp"
	"github.com/perdure/perdure/store/memstore"
)

// transport answers requests by a function.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// through returns a client of a handler, its requests going through f.
func through(t *testing.T, h http.Handler, opts *perdurehttp.ClientOptions, f func(r *http.Request, next transport) (*http.Response, error)) *perdurehttp.Client {
	t.Helper()
	if opts == nil {
		opts = &perdurehttp.ClientOptions{}
	}
	direct := transport(func(r *http.Request) (*http.Response, error) {
		w := httptest.NewRecorder()
		if r.Body == nil {
			r.Body = http.NoBody
		}
		r.Host = r.URL.Host
		h.ServeHTTP(w, r)
		return w.Result(), nil
	})
	opts.HTTPClient = &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) { return f(r, direct) })}
	c, err := perdurehttp.NewClient("http://127.0.0.1:8088/", opts)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var errReset = errors.New("connection reset by peer")

func start(fn, taskID, inputID string) *perdure.StartRequest {
	return &perdure.StartRequest{Func: fn, TaskID: taskID, InputID: inputID, Input: []byte(`{"text":"x"}`)}
}

func TestAStartWhoseAnswerIsLostRunsOnce(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a *api) {
		tries := 0
		c := through(t, a.h, nil, func(r *http.Request, next transport) (*http.Response, error) {
			res, err := next(r)
			if tries++; tries < 3 {
				return nil, errReset // after it was done
			}
			return res, err
		})
		accepted, err := c.Start(t.Context(), start("echo", "", ""))
		if err != nil || accepted.Turn != 1 || tries != 3 {
			t.Fatalf("got %+v, %v after %d tries, want turn 1 after 3", accepted, err, tries)
		}
		synctest.Wait()
		if n := a.entries.Load(); n != 1 {
			t.Errorf("got %d entries, want 1", n)
		}
	})
}

func TestAResumeWhoseAnswerIsLostIsDone(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a *api) {
		a.post(t, http.StatusConflict, `{"func":"loop","input":{},"task_id":"t1"}`, "Prefer: wait=60")
		lost := false
		c := through(t, a.h, nil, func(r *http.Request, next transport) (*http.Response, error) {
			res, err := next(r)
			if !lost {
				lost = true
				return nil, errReset
			}
			return res, err
		})
		if status, err := c.Resume(t.Context(), "t1", nil); err != nil || status != perdure.Pending && status != perdure.InProgress {
			t.Errorf("got %v, %v, want it to go on", status, err)
		}
	})
}

func TestARequestThatIsSentAgainHasItsIDAndReachesNothingThatCameLater(t *testing.T) {
	for name, call := range map[string]func(context.Context, *perdurehttp.Client) error{
		"cancel": func(ctx context.Context, c *perdurehttp.Client) error { _, err := c.Cancel(ctx, "t1", nil); return err },
		"terminate": func(ctx context.Context, c *perdurehttp.Client) error {
			_, err := c.Terminate(ctx, "t1", nil)
			return err
		},
		"delete": func(ctx context.Context, c *perdurehttp.Client) error { return c.Delete(ctx, "t1", nil) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, a *api) {
				direct := through(t, a.h, nil, func(r *http.Request, next transport) (*http.Response, error) { return next(r) })
				if _, err := direct.Start(t.Context(), start("hold", "t1", "i1")); err != nil {
					t.Fatal(err)
				}
				tries := 0
				c := through(t, a.h, nil, func(r *http.Request, next transport) (*http.Response, error) {
					res, err := next(r)
					if tries++; tries > 1 {
						return res, err
					}
					// The answer is lost, and before it is sent again somebody begins the task again.
					synctest.Wait()
					if err := direct.Delete(t.Context(), "t1", nil); err != nil {
						t.Error(err)
					}
					if _, err := direct.Start(t.Context(), start("hold", "t1", "i2")); err != nil {
						t.Error(err)
					}
					return nil, errReset
				})
				if err := call(t.Context(), c); err != nil || tries != 2 {
					t.Errorf("got %v after %d tries, want it done after 2", err, tries)
				}
				synctest.Wait()
				info, err := direct.Task(t.Context(), "t1")
				if err != nil || info.Status != perdure.InProgress || info.Turn.Cancel || info.LastInputID != "i2" {
					t.Errorf("what came later: got %+v, %v, want it as it was", info, err)
				}
				a.open <- struct{}{}
			})
		})
	}
}

func TestAServerThatCannotBeReachedIsUnavailableAfterThePatience(t *testing.T) {
	for patience, want := range map[time.Duration]time.Duration{0: 15 * time.Second, time.Second: time.Second, -1: 0} {
		bubble.Test(t, func(t *testing.T) {
			c := dial(t, new(memnet.Network), &perdurehttp.ClientOptions{Patience: patience})
			begin := time.Now()
			_, err := c.Start(t.Context(), start("echo", "t1", "i1"))
			if !errors.Is(err, perdure.ErrUnavailable) || !strings.Contains(err.Error(), "refused") {
				t.Errorf("got %v, want ErrUnavailable, with the cause", err)
			}
			if took := time.Since(begin); took < want || took > want+time.Second {
				t.Errorf("patience %v: gave up after %v, want %v", patience, took, want)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			if _, err := c.Outcome(ctx, perdure.TurnQuery{TaskID: "t1"}); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Outcome: got %v, want it to go on until its context ends", err)
			}
		})
	}
}

func TestOutcomeGivesUpAfterItsOwnPatience(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := dial(t, new(memnet.Network), &perdurehttp.ClientOptions{WaitPatience: time.Minute})
		begin := time.Now()
		if _, err := c.Outcome(t.Context(), perdure.TurnQuery{TaskID: "t1"}); !errors.Is(err, perdure.ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
		if took := time.Since(begin); took < time.Minute || took > time.Minute+2*time.Second {
			t.Errorf("gave up after %v, want a minute", took)
		}
	})
}

func TestAWaiterGoesOnAfterTheServerWasRestarted(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		st, n := memstore.New(), new(memnet.Network)
		f := perdure.NewFunc[note, note]("f", nil)
		open := make(chan struct{})
		run := func() (stop func()) {
			eng, err := perdure.New(st, &perdure.Options{Logger: quiet, Drain: time.Second, Funcs: []perdure.Binding{
				f.Bind(func(ctx context.Context, turn *perdure.Turn[note, note]) (note, error) {
					select {
					case <-open:
						return note{"done"}, nil
					case <-ctx.Done():
						return note{}, ctx.Err()
					}
				}),
			}})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan struct{})
			go func() { defer close(done); eng.Run(ctx) }()
			srv := &http.Server{Handler: perdurehttp.NewHandler(eng, nil)}
			go srv.Serve(n.Listen())
			return func() { srv.Close(); cancel(); <-done } // the connections are cut first
		}
		stop := run()
		c := dial(t, n, nil)
		h, err := f.Start(t.Context(), c, note{"x"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan error, 1)
		go func() {
			r, err := h.Result(t.Context())
			if err == nil && r.Output.Text != "done" {
				err = errors.New("output is " + r.Output.Text)
			}
			got <- err
		}()
		for range 3 {
			<-time.After(10 * time.Second)
			stop()
			<-time.After(5 * time.Minute) // nobody is there
			stop = run()
		}
		defer func() { stop() }()
		open <- struct{}{}
		if err := <-got; err != nil {
			t.Errorf("the waiter got %v, want the outcome", err)
		}
	})
}

func TestAGatewayIsNotTheServer(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a *api) {
		answers := []int{http.StatusBadGateway, http.StatusGatewayTimeout, http.StatusServiceUnavailable}
		c := through(t, a.h, nil, func(r *http.Request, next transport) (*http.Response, error) {
			if len(answers) == 0 {
				return next(r)
			}
			w := httptest.NewRecorder()
			http.Error(w, "gateway", answers[0])
			answers = answers[1:]
			return w.Result(), nil
		})
		if _, err := c.Start(t.Context(), start("echo", "t1", "i1")); err != nil {
			t.Errorf("got %v, want it to be tried until the server answers", err)
		}
		answers = []int{http.StatusNotFound}
		if _, err := c.Task(t.Context(), "t1"); err == nil || errors.Is(err, perdure.ErrNotFound) {
			t.Errorf("a 404 that is not ours: got %v, want an error, and not ErrNotFound", err)
		}
	})
}

func TestAServerThatCannotAnswerNowIsAskedAgain(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a *api) {
		refused := false
		c := through(t, a.h, nil, func(r *http.Request, next transport) (*http.Response, error) {
			if refused {
				return next(r)
			}
			refused = true
			w := httptest.NewRecorder()
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, `{"status":503,"code":"unavailable"}`)
			return w.Result(), nil
		})
		if _, err := c.Start(t.Context(), start("echo", "t1", "i1")); err != nil || !refused {
			t.Errorf("got %v, want it to be tried until the server answers", err)
		}
	})
}

func TestAnAnswerThatIsCutIsAskedForAgain(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a *api) {
		cut := false
		c := through(t, a.h, nil, func(r *http.Request, next transport) (*http.Response, error) {
			res, err := next(r)
			if !cut {
				cut = true
				res.Body = io.NopCloser(io.MultiReader(io.LimitReader(res.Body, 5), brokenReader{}))
			}
			return res, err
		})
		if _, err := c.Funcs(t.Context()); err != nil {
			t.Errorf("got %v, want the second answer", err)
		}
	})
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestASilentServerIsUnavailable(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := through(t, nil, &perdurehttp.ClientOptions{Patience: -1}, func(r *http.Request, _ transport) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		begin := time.Now()
		if _, err := c.Task(t.Context(), "t1"); !errors.Is(err, perdure.ErrUnavailable) || errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
		if took := time.Since(begin); took != 30*time.Second {
			t.Errorf("gave up after %v, want 30 s", took)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("enough")
		cancel(why)
		if _, err := c.Task(ctx, "t1"); !errors.Is(err, why) {
			t.Errorf("got %v, want the context's cause", err)
		}
	})
}

func TestTheTokenIsSent(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a *api) {
		for token, want := range map[string]string{"": "", "s3cret": "Bearer s3cret"} {
			var got atomic.Value
			c := through(t, a.h, &perdurehttp.ClientOptions{Token: token}, func(r *http.Request, next transport) (*http.Response, error) {
				got.Store(r.Header.Get("Authorization"))
				return next(r)
			})
			if _, err := c.Funcs(t.Context()); err != nil || got.Load() != want {
				t.Errorf("got %q, %v, want %q", got.Load(), err, want)
			}
		}
	})
}

func TestReadyFuncsAndWorkers(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a *api) {
		c := through(t, a.h, nil, func(r *http.Request, next transport) (*http.Response, error) { return next(r) })
		if err := c.Ready(t.Context()); err != nil {
			t.Errorf("Ready: %v", err)
		}
		if funcs, err := c.Funcs(t.Context()); err != nil || len(funcs) != 7 || funcs[0].Name != "chat" || !funcs[0].Steerable {
			t.Errorf("Funcs: got %+v, %v, want 7, chat first", funcs, err)
		}
		if workers, err := c.Workers(t.Context()); err != nil || len(workers) != 1 || !workers[0].Self || len(workers[0].Funcs) != 7 {
			t.Errorf("Workers: got %+v, %v, want this one with its funcs", workers, err)
		}
		a.stop()
		<-a.done
		if err := c.Ready(t.Context()); !errors.Is(err, perdure.ErrShuttingDown) {
			t.Errorf("Ready: got %v, want ErrShuttingDown", err)
		}
	})
}

func TestABaseURLIsChecked(t *testing.T) {
	for _, bad := range []string{"", "localhost:8088", "ftp://x", "http://", "http://x/?a=b", "http://x#y", "://"} {
		if _, err := perdurehttp.NewClient(bad, nil); !errors.Is(err, perdure.ErrInvalid) {
			t.Errorf("%q: got %v, want ErrInvalid", bad, err)
		}
	}
}

func TestTheClientWorksBelowAPrefixAndOverTCP(t *testing.T) {
	eng, err := perdure.New(memstore.New(), &perdure.Options{Logger: quiet, Funcs: (&api{}).bindings()})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/tasks/", http.StripPrefix("/tasks", perdurehttp.NewHandler(eng, nil)))
	srv := httptest.NewServer(mux)
	defer srv.Close()
	c, err := perdurehttp.NewClient(srv.URL+"/tasks", nil)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := c.Start(t.Context(), start("echo", "t1", "i1")); err != nil || !a.Created {
		t.Errorf("Start: got %+v, %v, want it created", a, err)
	}
	large := start("echo", "t2", "i1")
	large.Input = []byte(`{"text":"` + strings.Repeat("x", 20<<20) + `"}`)
	if _, err := c.Start(t.Context(), large); !errors.Is(err, perdure.ErrTooLarge) {
		t.Errorf("20 MiB: got %v, want ErrTooLarge", err)
	}
}

func TestABodyThatDoesNotComeIsNotWaitedFor(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		conn := wire(t, &perdurehttp.HandlerOptions{BodyTimeout: 5 * time.Second})
		begin := time.Now()
		io.WriteString(conn, "POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{")
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || res.StatusCode != http.StatusBadRequest || time.Since(begin) != 5*time.Second {
			t.Errorf("got %+v, %v after %v, want 400 after 5 s", res, err, time.Since(begin))
		}
	})
}
