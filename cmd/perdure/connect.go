package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/stores"
	"github.com/perdure/perdure/perdurehttp"
	"github.com/perdure/perdure/store/pgstore"
	"github.com/perdure/perdure/store/sqlitestore"
)

// defaultURL is where "perdure serve" listens unless told.
const defaultURL = "http://127.0.0.1:8088"

// patience is how long a command tries to reach the server.
const patience = 2 * time.Second

// target is where a command finds the tasks.
type target struct {
	url string
	db  string
}

// access says what a command does there.
type access int

const (
	reads      access = iota
	writes            // with --db: a server picks it up
	needServer        // a store is not enough
)

// session is a way to the tasks: a server or a store.
type session struct {
	perdure.Client
	where   string // as it may be shown
	url     string // of a server
	funcs   func(context.Context) ([]perdure.FuncInfo, error)
	workers func(context.Context) ([]perdure.WorkerInfo, error)
	close   func() error

	// warnings tells which settings of the store put acknowledged work at risk; nil if it has none.
	warnings func(context.Context) ([]string, error)
	// replication tells how the store's database is replicated; nil if it has none.
	replication func(context.Context) (*pgstore.Replication, error)
}

// warner is a store whose server may be set so that it does not keep what it acknowledged.
type warner interface {
	Warnings(context.Context) ([]string, error)
}

var (
	_ warner = (*pgstore.Store)(nil)
	_ warner = (*sqlitestore.Store)(nil)
)

// reach adds the flags that say where the tasks are.
func (a *app) reach(c *cobra.Command) *cobra.Command {
	c.Flags().StringVar(&a.target.url, "url", "", "the server's `URL` (default $PERDURE_URL, else "+defaultURL+")")
	c.Flags().StringVar(&a.target.db, "db", "", "work on this SQLite file or Postgres `DATABASE` instead of asking a server")
	c.MarkFlagsMutuallyExclusive("url", "db")
	return c
}

// with opens a session, calls do with it and closes it.
func (a *app) with(ctx context.Context, mode access, do func(context.Context, *session) error) error {
	ctx, stop := interruptible(ctx)
	defer stop()
	s, err := a.connect(ctx, mode)
	if err != nil {
		return err
	}
	err = do(ctx, s)
	if errors.Is(err, perdure.ErrUnavailable) {
		err = unreachable(s.where, err)
	}
	return errors.Join(err, s.close())
}

func (a *app) connect(ctx context.Context, mode access) (*session, error) {
	switch {
	case a.target.db == "":
		return a.dial()
	case mode == needServer:
		return nil, usage("this needs the server that runs the tasks: leave out --db")
	}
	return a.openStore(ctx, mode)
}

// serverURL returns the URL of the server to ask.
func (a *app) serverURL() string {
	for _, u := range []string{a.target.url, a.getenv("PERDURE_URL")} {
		if u != "" {
			return u
		}
	}
	return defaultURL
}

func (a *app) dial() (*session, error) {
	where := a.serverURL()
	if err := a.headerTakes("PERDURE_TOKEN"); err != nil {
		return nil, err
	}
	c, err := perdurehttp.NewClient(where, &perdurehttp.ClientOptions{
		Token: a.getenv("PERDURE_TOKEN"), Patience: patience, WaitPatience: patience,
	})
	if err != nil {
		return nil, usage("--url %s: it must be the URL of a server, such as %s", where, defaultURL)
	}
	return &session{Client: c, url: where, where: stores.Redact(where), funcs: c.Funcs, workers: c.Workers, close: func() error { return nil }}, nil
}

// headerTakes refuses the value of a variable that is sent in a header and cannot be. The value is a secret.
func (a *app) headerTakes(variable string) error {
	if strings.ContainsFunc(a.getenv(variable), unicode.IsControl) {
		return usage("%s: it has a line break, or another control character, that no HTTP header takes", variable)
	}
	return nil
}

// unreachable says in plain words that a server does not answer.
func unreachable(where string, err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return fmt.Errorf("no server answers at %s (is \"perdure serve\" running there?): %w", where, u.Err)
	}
	return fmt.Errorf("server at %s: %w", where, err)
}

// fileClient works on a store whose turns, if anybody, another process runs.
type fileClient struct{ perdure.Client }

// filePoll is how often a store is looked at for the end of a turn.
const filePoll = 100 * time.Millisecond

// Outcome implements perdure.Client. Nobody in this process is told of what others write: it looks.
func (c fileClient) Outcome(ctx context.Context, q perdure.TurnQuery) (*perdure.Outcome, error) {
	tick := time.NewTicker(filePoll)
	defer tick.Stop()
	q.NoPayload = true
	for {
		turn, err := c.Turn(ctx, q)
		if err != nil {
			return nil, err
		}
		q.Turn, q.InputID = turn.Number, ""
		if turn.Status.Outcome() {
			return c.ended(ctx, q)
		}
		if err := c.parked(ctx, turn); err != nil {
			return nil, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// ended returns the outcome of a turn that has one.
func (c fileClient) ended(ctx context.Context, q perdure.TurnQuery) (*perdure.Outcome, error) {
	q.NoPayload = false
	turn, err := c.Turn(ctx, q)
	if err != nil {
		return nil, err
	}
	return &perdure.Outcome{TaskID: turn.TaskID, Turn: turn.Number, InputID: turn.InputID, Status: turn.Status,
		Superseded: turn.Superseded, Output: turn.Output, Error: turn.Error, Reason: turn.Reason, Detail: turn.Detail}, nil
}

// parked returns a *ParkedError if the turn is in quarantine, or waits behind one that is.
func (c fileClient) parked(ctx context.Context, turn *perdure.TurnInfo) error {
	if turn.Status != perdure.Parked && turn.Status != perdure.Queued {
		return nil
	}
	info, err := c.Task(ctx, turn.TaskID)
	if err != nil || info.Status != perdure.Parked {
		return err
	}
	return &perdure.ParkedError{TaskID: turn.TaskID, Turn: info.Turn.Number, Reason: info.Reason}
}

// beside is how a store is opened that servers may be running on.
func (a *app) beside(mode access) *stores.Options {
	return &stores.Options{Existing: true, ReadOnly: mode == reads, AllowNetworkFS: a.networkAllowed(), Logger: slog.New(slog.DiscardHandler)}
}

// networkAllowed reports whether a file on a network file system is opened all the same: as "perdure serve" takes it
// from the environment.
func (a *app) networkAllowed() bool {
	allowed, err := strconv.ParseBool(a.getenv("PERDURE_ALLOW_NETWORK_FS"))
	return err == nil && allowed
}

// openStore opens a store beside the servers that may be running on it.
func (a *app) openStore(ctx context.Context, mode access) (*session, error) {
	if _, err := os.Stat(a.target.db); err != nil && !stores.IsPostgres(a.target.db) {
		return nil, fmt.Errorf("open store: %w (\"perdure serve\" makes the file)", err)
	}
	st, err := stores.Open(ctx, a.target.db, a.beside(mode))
	if err != nil {
		return nil, err
	}
	eng, err := perdure.New(st, &perdure.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	s := &session{Client: fileClient{eng.Client()}, where: stores.Name(a.target.db), workers: eng.Workers, close: st.Close,
		funcs: func(ctx context.Context) ([]perdure.FuncInfo, error) { return publishedFuncs(ctx, eng) }}
	if w, ok := st.(warner); ok {
		s.warnings = w.Warnings
	}
	if pg, ok := st.(*pgstore.Store); ok {
		s.replication = pg.Replication
	}
	return s, nil
}

// publishedFuncs returns what is known of the funcs of the workers that are alive on a store.
func publishedFuncs(ctx context.Context, eng *perdure.Engine) ([]perdure.FuncInfo, error) {
	workers, err := eng.Workers(ctx)
	if err != nil {
		return nil, err
	}
	var funcs []perdure.FuncInfo
	for _, w := range workers {
		for _, name := range w.Funcs {
			funcs = append(funcs, perdure.FuncInfo{Name: name})
		}
	}
	return funcs, nil
}
