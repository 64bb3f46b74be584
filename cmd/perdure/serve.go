package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/examples/funcs"
	"github.com/perdure/perdure/examples/funcs/model"
	"github.com/perdure/perdure/internal/stores"
	"github.com/perdure/perdure/perdurehttp"
	"github.com/perdure/perdure/store"
)

// settings are the flags of serve.
type settings struct {
	db, listen          string
	examples            bool
	onlyAPI, onlyWorker bool
	noMigrate           bool
	allowNetworkFS      bool
	waitForDB           time.Duration
	modelURL, modelName string
	modelDelay          time.Duration
	maxRunning          int
	maxRecoveries       int
	lease, drain        time.Duration
	logLevel, logFormat string
	config              string
}

const serveLong = `Serve opens (or makes) the store, runs the funcs that are bound in this program, and serves the HTTP API.
Tasks that an earlier server left behind are taken up at once.

The store is a SQLite file, of one server at a time, or a Postgres database, of any number of servers on
any number of machines: --db postgres://USER@HOST/DATABASE, in the schema "perdure" unless the URL says
schema=NAME. If one of them dies, the others take over its tasks when its --lease has lapsed. The tables
are made or migrated at the start, unless --no-migrate is given (see "perdure migrate").

With --only-api it runs no funcs: it starts, steers and watches tasks that other servers run. With
--only-worker it runs funcs and serves no more than /healthz, /readyz and /metrics.

A Postgres database that does not answer yet is waited for, up to --wait-for-db; a refusal, such as a wrong
password, ends the program at once.

SIGTERM, SIGINT or SIGHUP drains: new starts are refused, handlers are asked to wrap up, what is still running
after --drain goes back to the store for the next server, and the program exits 0 (1 if a handler ignored
all of that). A second SIGTERM or SIGINT ends it at once; nothing that was acknowledged is lost by that.

There is no authentication yet, so it listens on loopback addresses only.

Each setting can also be given in the environment (PERDURE_MAX_RUNNING for --max-running), or in a YAML
or JSON file named by --config or PERDURE_CONFIG (max-running: 100). Flags win over the environment, that over the file.`

const serveExample = `  perdure serve --examples
  perdure serve --db /var/lib/perdure/tasks.db --listen 127.0.0.1:9000 --log-format json
  perdure serve --db 'postgres://perdure@db.example.com/perdure?sslmode=verify-full' --examples
  PERDURE_DRAIN=5s perdure serve --config perdure.yaml`

func (a *app) serveCommand() *cobra.Command {
	var set settings
	c := &cobra.Command{
		Use: "serve", Short: "Run funcs and serve the HTTP API", Long: serveLong, Example: serveExample, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := configure(c.Flags(), or(set.config, a.getenv("PERDURE_CONFIG")), a.environ); err != nil {
				return err
			}
			return a.serve(c.Context(), &set)
		},
	}
	flags := c.Flags()
	flags.StringVar(&set.db, "db", "perdure.db", "what keeps the tasks: a SQLite file, or the URL of a Postgres `DATABASE`")
	flags.BoolVar(&set.noMigrate, "no-migrate", false, "do not make or change the tables of a Postgres database")
	flags.BoolVar(&set.allowNetworkFS, "allow-network-fs", false, "open a SQLite file on NFS or SMB, where its locks do not hold: work may be lost")
	flags.DurationVar(&set.waitForDB, "wait-for-db", time.Minute, "how long to wait for a Postgres database that does not answer; 0: not at all")
	flags.BoolVar(&set.onlyAPI, "only-api", false, "run no funcs")
	flags.BoolVar(&set.onlyWorker, "only-worker", false, "serve no API, only /healthz, /readyz and /metrics")
	flags.StringVar(&set.listen, "listen", "127.0.0.1:8088", "the `ADDRESS` to serve at; port 0 takes a free one")
	flags.BoolVar(&set.examples, "examples", false, "run the example funcs")
	flags.DurationVar(&set.modelDelay, "model-delay", 30*time.Millisecond, "what the scripted model of the chat example waits before each word")
	flags.StringVar(&set.modelURL, "model-url", "", "the `URL` of an OpenAI-compatible endpoint that answers in the chat example\n(its key: $PERDURE_MODEL_KEY)")
	flags.StringVar(&set.modelName, "model-name", "default", "the `NAME` of the model there")
	flags.IntVar(&set.maxRunning, "max-running", 1000, "run at most so many turns at once")
	flags.IntVar(&set.maxRecoveries, "max-recoveries", 20, "park a task whose turn has killed its process more often")
	flags.DurationVar(&set.lease, "lease", 15*time.Second, "how long a worker may be silent before others take its tasks")
	flags.DurationVar(&set.drain, "drain", 25*time.Second, "how long to wait for running turns at the end")
	flags.StringVar(&set.logLevel, "log-level", "info", "`LEVEL`: debug, info, warn or error")
	flags.StringVar(&set.logFormat, "log-format", "text", "`FORMAT`: text or json")
	flags.StringVar(&set.config, "config", "", "read settings from this YAML or JSON `FILE`")
	return c
}

// server is a store, an engine on it and the HTTP API of that.
type server struct {
	app    *app
	set    *settings
	log    *slog.Logger
	store  store.Store
	eng    *perdure.Engine
	http   *http.Server
	listen net.Listener
}

func (a *app) serve(ctx context.Context, set *settings) (err error) {
	s := &server{app: a, set: set}
	if err := s.set.validate(); err != nil {
		return err
	}
	if err := a.headerTakes("PERDURE_MODEL_KEY"); err != nil {
		return err
	}
	defer a.steadyOutput()()
	if s.log, err = s.logger(); err != nil {
		return err
	}
	ctx, stop := s.untilSignal(ctx)
	defer stop()
	switch err := s.open(ctx); {
	case err != nil && ctx.Err() != nil: // told to end before it began
		return s.close()
	case err != nil:
		return errors.Join(err, s.close())
	}
	return errors.Join(s.run(ctx), s.close())
}

// open makes all that can fail before anything runs.
func (s *server) open(ctx context.Context) (err error) {
	if s.store, err = s.openStore(ctx); err != nil {
		return err
	}
	if s.listen, err = listen(s.set.listen); err != nil {
		return err
	}
	s.warn(ctx)
	opts := &perdure.Options{Logger: s.log, WatchOnly: s.set.onlyAPI, MaxRunning: s.set.maxRunning, MaxRecoveries: s.set.maxRecoveries,
		Lease: s.set.lease, Drain: s.set.drain}
	if s.set.examples {
		opts.Funcs = funcs.All(&funcs.Options{Model: s.model()})
	}
	if s.eng, err = perdure.New(s.store, opts); err != nil {
		return err
	}
	handler := perdurehttp.NewHandler(s.eng, &perdurehttp.HandlerOptions{Logger: s.log, ProbesOnly: s.set.onlyWorker})
	s.http = &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	s.http.RegisterOnShutdown(handler.CloseStreams)
	return nil
}

// warn logs what of the store's settings puts acknowledged work at risk.
func (s *server) warn(ctx context.Context) {
	w, ok := s.store.(warner)
	if !ok {
		return
	}
	found, err := w.Warnings(ctx)
	if err != nil {
		s.log.Warn("the store's settings could not be read", "err", err)
	}
	for _, what := range found {
		s.log.Warn("the store may lose what it acknowledges", "setting", what)
	}
}

func (set *settings) validate() (err error) {
	if set.db, err = stores.Resolve(set.db); err != nil {
		return usage("--db: %w", err)
	}
	switch {
	case set.noMigrate && !stores.IsPostgres(set.db):
		return usage("--no-migrate: it is for Postgres databases; %s is a file", set.db)
	case set.onlyAPI && set.onlyWorker:
		return usage("--only-api and --only-worker leave nothing to do")
	case set.maxRunning < 1:
		return usage("--max-running: must be at least 1, not %d", set.maxRunning)
	case set.maxRecoveries < 1:
		return usage("--max-recoveries: must be at least 1, not %d", set.maxRecoveries)
	case set.waitForDB < 0:
		return usage("--wait-for-db: must not be %v", set.waitForDB)
	case set.drain <= 0:
		return usage("--drain: must be more than 0, not %v", set.drain)
	case set.modelDelay < 0:
		return usage("--model-delay: must not be %v", set.modelDelay)
	case set.modelURL != "" && !strings.HasPrefix(set.modelURL, "http://") && !strings.HasPrefix(set.modelURL, "https://"):
		return usage("--model-url %s: it must be the URL of an HTTP endpoint, such as http://127.0.0.1:11434/v1", set.modelURL)
	case set.lease <= 0:
		return usage("--lease: must be more than 0, not %v", set.lease)
	}
	return checkAddress(set.listen)
}

// model is what answers in the chat example.
func (s *server) model() model.Model {
	if s.set.modelURL == "" {
		return model.Scripted{Delay: s.set.modelDelay}
	}
	return &model.OpenAI{URL: s.set.modelURL, Name: s.set.modelName, Key: s.app.getenv("PERDURE_MODEL_KEY")}
}

func (s *server) logger() (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.set.logLevel)); err != nil {
		return nil, usage("--log-level %q: it can be debug, info, warn or error", s.set.logLevel)
	}
	opts := &slog.HandlerOptions{Level: level}
	switch s.set.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(s.app.errOut, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(s.app.errOut, opts)), nil
	}
	return nil, usage("--log-format %q: it can be text or json", s.set.logFormat)
}

// checkAddress refuses what is no loopback address.
func checkAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		return usage("--listen %q: it must be HOST:PORT, such as 127.0.0.1:8088", address)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return usage("--listen %s: refused: there is no authentication yet, so only loopback addresses, such as 127.0.0.1:8088, may be served at", address)
	}
	return nil
}

// listen takes a port.
func listen(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("listen at %s: the port is in use by another program", address)
	}
	return l, err
}

// run serves until a signal comes or the engine gives up, then drains: the engine refuses new starts and
// lets its turns end while the API still answers, and only then is the API shut.
func (s *server) run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	stopped := make(chan error, 1)
	go func() { stopped <- s.eng.Run(ctx) }()
	failed := make(chan error, 1)
	go func() { failed <- s.http.Serve(s.listen) }() // which says why the engine is not ready
	announced := make(chan struct{})
	go func() { defer close(announced); s.announce(ctx) }()
	defer func() { stop(); <-announced }()
	select {
	case err := <-stopped:
		if errors.Is(err, store.ErrStoreInUse) {
			err = fmt.Errorf("%s is in use by another engine: one server at a time runs the tasks of a file", s.set.db)
		}
		return errors.Join(err, s.shut())
	case err := <-failed:
		stop()
		return errors.Join(fmt.Errorf("serve HTTP: %w", err), <-stopped)
	}
}

// readyPoll is how often the engine is asked whether it is ready.
const readyPoll = 5 * time.Millisecond

// announce prints the one line that says that the server takes work, when it does.
func (s *server) announce(ctx context.Context) {
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for s.eng.Ready() != nil {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
	names := make([]string, 0, 8)
	for _, f := range s.eng.Funcs() {
		names = append(names, f.Name)
	}
	runs := or(strings.Join(names, " "), "none")
	if s.set.onlyAPI {
		runs = "run by others"
	}
	fmt.Fprintf(s.app.out, "perdure: ready at http://%s, db %s, funcs: %s\n", s.listen.Addr(), plain(stores.Name(s.set.db)), runs)
}

// lastAnswers is how long answers under way may take when the engine has stopped.
const lastAnswers = time.Second

// shut ends the API. What still waits for an answer then has its connection closed, and asks again.
func (s *server) shut() error {
	ctx, cancel := context.WithTimeout(context.Background(), lastAnswers)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		return s.http.Close()
	}
	return nil
}

// close closes what was opened.
func (s *server) close() error {
	if s.listen != nil {
		s.listen.Close() // closed already if it was served at
	}
	if s.store != nil {
		return s.store.Close()
	}
	return nil
}
