package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"charm.land/lipgloss/v2"
	"github.com/spf13/cobra"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/stores"
	"github.com/perdure/perdure/perdurehttp"
)

const doctorLong = `Doctor checks that the server can be reached and takes work, that versions and clocks agree, and that
workers are alive. With --db it looks at the file or database instead: whether it can be opened, its schema,
of a file the integrity and the size, and of a database the settings that acknowledged work depends on. It exits 1 if anything is wrong.`

func (a *app) doctorCommand() *cobra.Command {
	return a.reach(&cobra.Command{
		Use: "doctor", Short: "Check that all is well, and say what is not", Args: cobra.NoArgs,
		Long: doctorLong, Example: "  perdure doctor\n  perdure doctor --db perdure.db\n  perdure doctor --db postgres://localhost/perdure",
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := interruptible(c.Context())
			defer stop()
			d := &doctor{app: a, table: table{out: a.out}}
			switch {
			case stores.IsPostgres(a.target.db):
				d.examineDatabase(ctx)
			case a.target.db != "":
				d.examineFile(ctx)
			default:
				d.examineServer(ctx)
			}
			return d.report()
		},
	})
}

// doctor collects findings.
type doctor struct {
	app *app
	table
	bad int
}

func (d *doctor) fine(what, format string, args ...any) { d.note("ok", "2", what, format, args...) }

func (d *doctor) warn(what, format string, args ...any) {
	d.note("warning", "3", what, format, args...)
}

func (d *doctor) wrong(what, format string, args ...any) {
	d.bad++
	d.note("WRONG", "1", what, format, args...)
}

func (d *doctor) note(verdict, colour, what, format string, args ...any) {
	d.add(d.out.style(verdict, lipgloss.NewStyle().Foreground(lipgloss.Color(colour))), what, fmt.Sprintf(format, args...))
}

func (d *doctor) report() error {
	if err := d.write(); err != nil {
		return err
	}
	if d.bad == 1 {
		return errors.New("1 thing is wrong")
	}
	if d.bad > 0 {
		return fmt.Errorf("%d things are wrong", d.bad)
	}
	return nil
}

func (d *doctor) examineServer(ctx context.Context) {
	s, err := d.app.dial()
	if err != nil {
		d.wrong("url", "%v", err)
		return
	}
	offset, err := clockOffset(ctx, s.url)
	if err != nil {
		d.wrong("server", "%v", unreachable(s.where, err))
		return
	}
	d.fine("server", "answers at %s", s.where)
	d.clock(offset)
	d.readiness(ctx, s)
	d.workers(ctx, s)
	d.funcs(ctx, s)
	d.tasks(ctx, s)
}

// maxOffset is how far clocks may differ before it is worth a word: a Date header counts whole seconds.
const maxOffset = 5 * time.Second

// clockOffset asks the server for the time, and returns how far its clock is ahead.
func clockOffset(ctx context.Context, where string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, where+"/healthz", nil)
	if err != nil {
		return 0, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("it answers %s to /healthz: is it a perdure server?", res.Status)
	}
	there, err := http.ParseTime(res.Header.Get("Date"))
	if err != nil {
		return 0, nil // a server need not send it
	}
	return time.Until(there), nil
}

func (d *doctor) clock(offset time.Duration) {
	if offset.Abs() > maxOffset {
		d.warn("clock", "the server's clock differs from this one by %v: ages are shown wrong by that", offset.Round(time.Second))
		return
	}
	d.fine("clock", "agrees with the server's")
}

// asked is a client that can be asked whether its server takes work.
type asked interface{ Ready(context.Context) error }

var _ asked = (*perdurehttp.Client)(nil)

func (d *doctor) readiness(ctx context.Context, s *session) {
	if r, ok := s.Client.(asked); ok {
		if err := r.Ready(ctx); err != nil {
			d.wrong("readiness", "the server does not take work: %v", err)
			return
		}
		d.fine("readiness", "the server takes work")
	}
}

func (d *doctor) workers(ctx context.Context, s *session) {
	workers, err := s.workers(ctx)
	switch {
	case err != nil:
		d.wrong("workers", "%v", err)
	case len(workers) == 0:
		d.warn("workers", "none is alive: tasks wait until \"perdure serve\" runs")
	}
	for _, w := range workers {
		d.fine("worker", "%s: process %d on %s, %d turns running, last seen %s ago", w.ID, w.PID, w.Host, w.Running, age(w.BeatAt))
		if w.Self && w.Program == program && w.Version != "" && w.Version != perdure.Version() {
			d.warn("version", "the server is %s, this program is %s", w.Version, perdure.Version())
		}
	}
}

// program is the path of this program, as its servers publish it.
const program = "github.com/perdure/perdure/cmd/perdure"

func (d *doctor) funcs(ctx context.Context, s *session) {
	funcs, err := s.funcs(ctx)
	switch {
	case err != nil:
		d.wrong("funcs", "%v", err)
	case len(funcs) == 0:
		d.warn("funcs", "the server runs none: start it with --examples to try it out")
	default:
		d.fine("funcs", "%d bound", len(funcs))
	}
}

// tasks looks for tasks that an operator has to do something about.
func (d *doctor) tasks(ctx context.Context, s *session) {
	parked := 0
	for _, err := range s.Tasks(ctx, &perdure.ListOptions{Statuses: []perdure.Status{perdure.Parked}, Limit: maxParked}) {
		if err != nil {
			d.wrong("tasks", "%v", err)
			return
		}
		parked++
	}
	switch {
	case parked == maxParked:
		d.warn("tasks", "%d or more are parked: see \"perdure ls --status parked\"", parked)
	case parked > 0:
		d.warn("tasks", "%d parked: see \"perdure ls --status parked\", then resume or rm them", parked)
	default:
		d.fine("tasks", "none is parked")
	}
}

// maxParked is how many parked tasks are counted.
const maxParked = 1000

func (d *doctor) examineFile(ctx context.Context) {
	path := d.app.target.db
	s, err := d.app.openStore(ctx, reads)
	if err != nil {
		d.wrong("file", "%v", err)
		return
	}
	defer s.close()
	d.fine("file", "%s opens, and its schema is the one this program knows", path)
	d.durability(ctx, s)
	d.sizes(path)
	d.integrity(ctx, path)
	d.workers(ctx, s)
	d.tasks(ctx, s)
}

func (d *doctor) examineDatabase(ctx context.Context) {
	s, err := d.app.openStore(ctx, reads)
	if err != nil {
		d.wrong("database", "%v", err)
		return
	}
	defer s.close()
	d.fine("database", "%s answers, and this program works with its schema", s.where)
	d.durability(ctx, s)
	d.replication(ctx, s)
	d.workers(ctx, s)
	d.tasks(ctx, s)
}

// durability tells what of a database's settings, or of a file's place, puts acknowledged work at risk.
func (d *doctor) durability(ctx context.Context, s *session) {
	if s.warnings == nil {
		return
	}
	found, err := s.warnings(ctx)
	switch {
	case err != nil:
		d.wrong("settings", "%v", err)
	case len(found) == 0:
		d.fine("settings", "what was acknowledged is kept")
	}
	for _, what := range found {
		d.warn("settings", "%s", what)
	}
}

// replication tells which standbys a database has. What is wrong with that is a warning of durability's.
func (d *doctor) replication(ctx context.Context, s *session) {
	if s.replication == nil {
		return
	}
	r, err := s.replication(ctx)
	if err != nil {
		d.wrong("replication", "%v", err)
		return
	}
	synchronous := fmt.Sprintf("%d of them synchronous", r.Synchronous)
	if r.Synchronous < 0 {
		synchronous = "this role may not see which are synchronous"
	}
	switch {
	case r.Standbys == 0:
		d.fine("replication", "timeline %d, no standby", r.Timeline)
	default:
		d.fine("replication", "timeline %d, %d standbys, %s, synchronous_standby_names %q", r.Timeline, r.Standbys, synchronous, r.Names)
	}
}

// integrity has SQLite look through the whole file.
func (d *doctor) integrity(ctx context.Context, path string) {
	damage, err := quickCheck(ctx, path)
	switch {
	case err != nil:
		d.wrong("integrity", "cannot be checked: %v", err)
	case damage != "ok":
		d.wrong("integrity", "the file is damaged (%s): restore a backup", damage)
	default:
		d.fine("integrity", "no damage found")
	}
}

// quickCheck returns the first thing that is wrong with a database, or "ok".
func quickCheck(ctx context.Context, path string) (damage string, err error) {
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadOnly)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetInterrupt(ctx.Done())
	err = sqlitex.Execute(conn, "PRAGMA quick_check(1)", &sqlitex.ExecOptions{
		ResultFunc: func(row *sqlite.Stmt) error { damage = row.ColumnText(0); return nil },
	})
	return damage, err
}

// maxLog is the size of the write-ahead log from which on something must keep it from being reset.
const maxLog = 256 << 20

func (d *doctor) sizes(path string) {
	info, err := os.Stat(path)
	if err != nil {
		d.wrong("size", "%v", err)
		return
	}
	d.fine("size", "%s", bytesText(info.Size()))
	log, err := os.Stat(path + "-wal")
	switch {
	case err != nil:
	case log.Size() > maxLog:
		d.warn("log", "%s of changes not yet in the main file: a reader that stays open may hold them back", bytesText(log.Size()))
	default:
		d.fine("log", "%s", bytesText(log.Size()))
	}
}
