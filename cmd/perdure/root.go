package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/perdure/perdure/internal/stores"
)

// app is one call of the program.
type app struct {
	in          io.Reader
	out, errOut *screen
	environ     []string

	entered bool // the command line has been understood
	target  target
}

// newApp returns a call with this input, output and environment.
func newApp(in io.Reader, out, errOut *os.File, environ []string) *app {
	a := &app{in: in, environ: environ}
	colour := a.getenv("NO_COLOR") == "" && a.getenv("TERM") != "dumb"
	a.out, a.errOut = newScreen(out, false, colour), newScreen(errOut, true, colour)
	return a
}

// onTerminal reports whether the output goes to a person.
func (a *app) onTerminal() bool { return a.out.people }

// run runs the command and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.rootCommand()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if !a.entered {
		err = &usageError{err}
	}
	fmt.Fprintln(a.errOut, "perdure: "+message(err))
	return exitCode(err)
}

const rootHelp = `perdure makes long-running work survive: a function's input is stored before it runs, and if the
process dies another one runs it again, with what it had saved.

Most commands talk to a server ("perdure serve") over HTTP. With --db they work on its SQLite file or
Postgres database directly: commands that read need no server then; what start, steer, cancel and
terminate write is picked up by the server that runs, or by the next one.`

const rootExample = `  perdure serve --examples                      run the example funcs on perdure.db
  perdure start digest --input '{"paths":["."]}' --wait
  perdure ls --status in_progress
  perdure get ID`

// Exit codes, as every help text tells them.
const exitHelp = `
Exit codes: 0 done; 1 failed; 2 wrong usage or input; 3 not found; 4 conflict ("perdure help exit-codes").
Environment: PERDURE_URL, PERDURE_TOKEN, NO_COLOR.
`

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use: "perdure", Short: "Run and look after durable functions", Long: rootHelp, Example: rootExample,
		SilenceErrors: true, SilenceUsage: true,
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.errOut)
	root.SetHelpTemplate(root.HelpTemplate() + exitHelp)
	root.AddGroup(&cobra.Group{ID: "tasks", Title: "Tasks:"}, &cobra.Group{ID: "server", Title: "Server:"})
	a.add(root, "tasks", a.startCommand(), a.steerCommand(), a.chatCommand(), a.waitCommand(), a.tailCommand(), a.lsCommand(), a.getCommand(), a.turnsCommand(),
		a.cancelCommand(), a.terminateCommand(), a.resumeCommand(), a.rmCommand())
	a.add(root, "server", a.serveCommand(), a.migrateCommand(), a.exportCommand(), a.importCommand(), a.workersCommand(), a.funcsCommand(), a.doctorCommand(), a.benchCommand(), a.versionCommand())
	root.AddCommand(a.benchChildCommand(), &cobra.Command{Use: "exit-codes", Short: "What the exit codes mean", Long: exitCodesHelp})
	root.InitDefaultHelpCmd()
	strictHelp(root)
	root.SetHelpCommandGroupID("server")
	root.SetCompletionCommandGroupID("server")
	return root
}

// strictHelp makes "help NOPE" wrong usage, and not a help text.
func strictHelp(root *cobra.Command) {
	help, _, err := root.Find([]string{"help"})
	if err != nil {
		return
	}
	show := help.Run
	help.Run = nil
	help.RunE = func(c *cobra.Command, args []string) error {
		if _, rest, err := root.Find(args); err != nil || len(rest) > 0 {
			return usage("help %s: there is no such command", strings.Join(args, " "))
		}
		show(c, args)
		return nil
	}
}

// add adds commands that note when they begin: what goes wrong before that is wrong usage.
func (a *app) add(root *cobra.Command, group string, commands ...*cobra.Command) {
	for _, c := range commands {
		c.GroupID = group
		run := c.RunE
		c.RunE = func(c *cobra.Command, args []string) error {
			if err := checkFlags(c); err != nil {
				return err
			}
			a.entered = true
			return run(c, args)
		}
		root.AddCommand(c)
	}
}

// checkFlags refuses values that would otherwise mean that the flag is not there, and reads --db.
func checkFlags(c *cobra.Command) (err error) {
	c.Flags().Visit(func(f *pflag.Flag) {
		if err != nil {
			return
		}
		switch value := f.Value.String(); {
		case f.Name == "db":
			var db string
			if db, err = stores.Resolve(value); err != nil {
				err = usage("--db: %w", err)
				return
			}
			err = f.Value.Set(db)
		case f.Name == "input-id" && value == "":
			err = usage("--input-id must not be empty")
		case f.Name == "turn" && (value == "0" || strings.HasPrefix(value, "-")):
			err = usage("--turn %s: the turns of a task have numbers from 1", value)
		}
	})
	return err
}

// getenv returns a variable of the environment, empty if unset.
func (a *app) getenv(name string) string {
	value := ""
	for _, entry := range a.environ {
		if v, ok := strings.CutPrefix(entry, name+"="); ok {
			value = v
		}
	}
	return value
}

// say tells the user something beside the output, without what looks like a password.
func (a *app) say(format string, args ...any) {
	fmt.Fprintf(a.errOut, "perdure: %s\n", plain(stores.Redact(fmt.Sprintf(format, args...))))
}
