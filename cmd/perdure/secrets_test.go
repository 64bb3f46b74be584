package main

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// everyCommand calls do for each command of the program, also those below others.
func everyCommand(do func(path []string, c *cobra.Command)) {
	a, _ := onScreen()
	root := a.rootCommand()
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	var walk func(path []string, c *cobra.Command)
	walk = func(path []string, c *cobra.Command) {
		do(path, c)
		for _, sub := range c.Commands() {
			walk(append(path[:len(path):len(path)], sub.Name()), sub)
		}
	}
	walk(nil, root)
}

// Who confuses places types a database's URL where something else belongs.
func TestNoCommandRepeatsThePasswordOfAURLInTheWrongPlace(t *testing.T) {
	server := httptest.NewServer(inProcess(t))
	t.Cleanup(server.Close)
	for _, secret := range []string{"postgres://user:s3cret@h/db", "postgres://h/db?password=s3cret"} {
		everyCommand(func(path []string, c *cobra.Command) {
			if c.Name() == benchChild || c.Name() == "bench" {
				return
			}
			given := arguments(c)
			for i := range len(given) + 2 {
				args := append([]string{}, path...)
				for j := range max(i+1, len(given)) {
					switch {
					case j == i:
						args = append(args, secret)
					case j < len(given):
						args = append(args, given[j])
					default:
						args = append(args, "p1")
					}
				}
				repeats(t, server.URL, args)
			}
		})
	}
}

func repeats(t *testing.T, url string, args []string) {
	t.Helper()
	t.Chdir(t.TempDir())
	a, read := onScreen("PERDURE_URL=" + url)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	a.run(ctx, args)
	if strings.Contains(read(), "s3cret") {
		t.Errorf("perdure %q says %q", args, read())
	}
}

func TestASecretThatNoHeaderTakesIsNamedAndNotShown(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, c := range []struct {
		variable string
		args     []string
	}{
		{"PERDURE_TOKEN", []string{"ls"}}, {"PERDURE_TOKEN", []string{"start", "f", "--input", "{}"}}, {"PERDURE_TOKEN", []string{"chat"}},
		{"PERDURE_MODEL_KEY", []string{"serve", "--listen=127.0.0.1:0", "--examples", "--model-url=http://127.0.0.1:1/v1"}},
	} {
		for _, value := range []string{"s3cret\n", "s3\rcret", "\x00s3cret", "s3cret\x7f", "s3cret\x1b[31m"} {
			a, read := onScreen(c.variable + "=" + value)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			code := a.run(ctx, c.args)
			cancel()
			if text := read(); code != exitUsage || !strings.Contains(text, c.variable) || strings.Contains(text, "s3") || strings.Contains(text, "cret") || strings.Contains(text, "--url") {
				t.Errorf("%q with %s=%q: exit code %d, %q", c.args, c.variable, value, code, text)
			}
		}
	}
}

func TestADatabaseURLThatCannotBeUnderstoodIsWrongUsage(t *testing.T) {
	for _, db := range []string{"postgres://u:s3cret@h/x?sslmode=maybe", "postgres://u:s3cret%zz@h/x", "postgres://u:s3cret@h:port/x", "postgres://u:s3cret@h/x?pool_max_conns=many"} {
		everyCommand(func(path []string, c *cobra.Command) {
			if c.Flags().Lookup("db") == nil || c.Name() == benchChild {
				return
			}
			t.Chdir(t.TempDir())
			a, read := onScreen()
			args := append(append(append([]string{}, path...), arguments(c)...), "--db="+db)
			want := exitUsage
			switch c.Name() {
			case "serve":
				args = append(args, "--listen=127.0.0.1:0")
			case "start", "steer":
				args = append(args, "--input={}")
			case "doctor": // has found something wrong
				want = exitFailed
			}
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			if code := a.run(ctx, args); code != want && code != exitUsage || strings.Contains(read(), "s3cret") {
				t.Errorf("perdure %q: exit code %d, %q", args, code, read())
			}
		})
	}
}

func TestHelpForWhatIsNoCommandIsWrongUsage(t *testing.T) {
	for args, want := range map[string]int{
		"help": exitOK, "help start": exitOK, "help exit-codes": exitOK, "help completion bash": exitOK, "help help": exitOK, "exit-codes": exitOK,
		"help NOPE": exitUsage, "help start NOPE": exitUsage, "help completion NOPE": exitUsage, "NOPE": exitUsage, "NOPE --help": exitUsage,
	} {
		a, read := onScreen()
		if code := a.run(t.Context(), strings.Fields(args)); code != want || want == exitUsage && (!strings.Contains(read(), "NOPE") || strings.Count(read(), "\n") != 1) {
			t.Errorf("perdure %s: exit code %d, %q, want %d", args, code, read(), want)
		}
	}
}
