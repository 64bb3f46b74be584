// Command worker is one worker process of the chaos tests: an engine on Postgres, and its HTTP API.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/chaos"
	"github.com/perdure/perdure/perdurehttp"
	"github.com/perdure/perdure/store/pgstore"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	db := flag.String("db", "", "URL of the database")
	listen := flag.String("listen", "", "address of the HTTP API")
	path := flag.String("journal", "", "file to write entries to")
	lease := flag.Duration("lease", 0, "lease")
	pollOnly := flag.Bool("poll-only", false, "neither LISTEN nor NOTIFY")
	flag.Parse()
	journal, err := chaos.OpenJournal(*path)
	if err != nil {
		return err
	}
	st, err := pgstore.Open(ctx, *db, &pgstore.Options{PollOnly: *pollOnly})
	if err != nil {
		return err
	}
	defer st.Close()
	eng, err := perdure.New(st, &perdure.Options{
		Funcs: chaos.Bindings(journal), Lease: *lease, Drain: time.Second, MaxRunning: 2000,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: perdurehttp.NewHandler(eng, &perdurehttp.HandlerOptions{MaxInFlight: 1000}), ReadHeaderTimeout: 10 * time.Second}
	go server.Serve(l)
	defer server.Close()
	fmt.Println("listening", time.Now().Unix())
	return eng.Run(ctx)
}
